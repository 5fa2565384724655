"""Scores of held-out sets: right, complete, and told where there is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth.records import UserError
from tests.trainer.conftest import ANIMALS, INSTRUCTION, Write, classification_rows, samples, write_lines
from trainer.config import read_config
from trainer.evaluate import Change, evaluate
from trainer.loop import train
from trainer.release import Release, read_release


def scores(model: Path, release: Release, **options: Any) -> dict[tuple[str, str], Change]:
    found = evaluate(str(model), release, release.path / "eval", device="cpu", **options)
    return {(row.set, row.measure): row for row in found.scores}


def test_every_set_is_measured_in_its_own_way(models: dict[str, Path], release: Release):
    found = scores(models["bert"], release)
    assert list(found) == [
        ("animals", "nDCG@10"),
        ("animals", "Recall@10"),
        ("pairs", "Spearman"),
        ("moods", "accuracy"),
    ]
    assert all(row.before is None and row.change is None for row in found.values())
    assert found["animals", "nDCG@10"].note == "1 queries without a positive are not counted"
    assert found["moods", "accuracy"].note == "fitted on 24 samples"


def test_ndcg_and_recall_are_those_of_the_formula(models: dict[str, Path], release: Release):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(models["bert"]), device="cpu")
    lines = (release.path / "eval" / "retrieval" / "animals" / "corpus.jsonl").read_text().splitlines()
    corpus = model.encode(
        [f"{row['title']}\n{row['text']}" for row in map(json.loads, lines)], normalize_embeddings=True
    )
    # The set has the instruction of the training samples of its name, which stands before its queries.
    asked = [f"Instruct: {INSTRUCTION}\nQuery: where does the {animal} live" for animal in ANIMALS[:-1]]
    queries = model.encode(asked, normalize_embeddings=True)
    ranks = [list(np.argsort(-(corpus @ query))).index(number) for number, query in enumerate(queries)]
    found = scores(models["bert"], release)
    gains = [1 / np.log2(rank + 2) if rank < 10 else 0.0 for rank in ranks]
    assert found["animals", "nDCG@10"].after == pytest.approx(np.mean(gains), abs=1e-6)
    assert found["animals", "Recall@10"].after == pytest.approx(np.mean([rank < 10 for rank in ranks]), abs=1e-6)


def test_pairs_are_compared_with_the_instruction_of_their_training_samples(
    models: dict[str, Path], write_release: Write
):
    from scipy.stats import spearmanr
    from sentence_transformers import SentenceTransformer

    rows = [row | {"instruction": "Compare the animals"} for row in samples()["sts"]]
    release = read_release(write_release({"sts": rows}))
    pairs = [json.loads(line) for line in (release.path / "eval" / "pairs" / "pairs.jsonl").read_text().splitlines()]
    model = SentenceTransformer(str(models["bert"]), device="cpu")
    first, second = (
        model.encode([f"Instruct: Compare the animals\nQuery: {row[name]}" for row in pairs], normalize_embeddings=True)
        for name in ("text1", "text2")
    )
    expected = spearmanr([row["score"] for row in pairs], (first * second).sum(axis=1)).statistic
    assert scores(models["bert"], release)["pairs", "Spearman"].after == pytest.approx(expected, abs=1e-6)


def test_the_change_is_after_less_before(models: dict[str, Path], release: Release):
    found = scores(models["qwen"], release, baseline=str(models["bert"]))
    before = scores(models["bert"], release)
    for key, row in found.items():
        assert row.before == pytest.approx(before[key].after)
        assert row.change == pytest.approx(row.after - row.before)


def test_what_cannot_be_measured_is_listed_with_the_reason(models: dict[str, Path], write_release: Write):
    release = read_release(write_release({"retrieval": samples()["retrieval"]}))
    write_lines(release.path / "eval" / "pairs" / "flat.jsonl", [{"text1": "a", "text2": "b", "score": 1}] * 3)
    (release.path / "eval" / "retrieval" / "animals" / "qrels.jsonl").write_text("")
    found = scores(models["bert"], release)
    assert [(row.set, row.after, row.note) for row in found.values()] == [
        ("animals", None, "no query has a positive"),
        ("animals", None, "no query has a positive"),
        ("flat", None, "all pairs have one score"),
        ("pairs", pytest.approx(found["pairs", "Spearman"].after), ""),
        ("moods", None, "nothing to fit on: the release's training samples hold no two classes of moods"),
    ]


def test_a_classifier_is_fitted_on_the_training_samples_alone(models: dict[str, Path], write_release: Write):
    # Training samples say red and blue by turns, the held-out ones say green: nothing can be right.
    rows = classification_rows("moods", 24, num_classes=2)
    release = read_release(write_release({"classification": rows}))
    write_lines(release.path / "eval" / "labelled" / "moods.jsonl", [{"text": "the cat", "label": "green"}] * 5)
    assert scores(models["bert"], release)["moods", "accuracy"].after == 0.0


def test_a_trained_model_is_given_its_scores(release: Release, write_config: Write, tmp_path: Path):
    output = train(release, read_config(str(write_config())), tmp_path / "model").output
    evaluation = evaluate(str(output), release, release.path / "eval", baseline="", device="cpu")
    written = json.loads((output / "evaluation.json").read_text())
    assert written["release_digest"] == "d1" and len(written["scores"]) == len(evaluation.scores)
    card = (output / "README.md").read_text()
    assert f"| pairs | Spearman |  | {evaluation.scores[2].after:.4f} |" in card
    assert "Not evaluated yet" not in card


def test_a_foreign_model_is_measured_and_left_as_it_is(models: dict[str, Path], release: Release):
    before = sorted(models["bert"].iterdir())
    scores(models["bert"], release)
    assert sorted(models["bert"].iterdir()) == before


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("pairs/pairs.jsonl", "{", "pairs.jsonl, line 1: must be a JSON object with text1"),
        ("pairs/pairs.jsonl", '{"text1": "a", "text2": "b", "score": "1"}', "line 1: .*score \\(float\\)"),
        ("labelled/moods.jsonl", "[]", "moods.jsonl, line 1"),
        ("labelled/moods.jsonl", '{"text": null, "label": "x"}', "moods.jsonl, line 1"),
        (
            "retrieval/animals/qrels.jsonl",
            '{"query_id": "q-cat", "doc_id": "x", "score": 1}',
            "line 1: names a query or",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    models: dict[str, Path], release: Release, file: str, line: str, told: str
):
    (release.path / "eval" / file).write_text(f"{line}\n")
    with pytest.raises(UserError, match=told):
        scores(models["bert"], release)


def test_a_folder_without_sets_and_a_set_without_its_files_are_refused(
    models: dict[str, Path], release: Release, tmp_path: Path
):
    with pytest.raises(UserError, match="has no held-out sets"):
        evaluate(str(models["bert"]), release, tmp_path / "nowhere")
    (release.path / "eval" / "retrieval" / "animals" / "qrels.jsonl").unlink()
    with pytest.raises(UserError, match=r"qrels\.jsonl: cannot be read"):
        scores(models["bert"], release)


@pytest.mark.parametrize("line", ['"score": NaN', '"score": Infinity', '"score": true', '"score": 1' + 30 * "0"])
def test_scores_that_are_no_numbers_are_refused(models: dict[str, Path], release: Release, tmp_path: Path, line: str):
    (tmp_path / "sets" / "pairs").mkdir(parents=True)
    (tmp_path / "sets" / "pairs" / "p.jsonl").write_text('{"text1": "a", "text2": "b", ' + line + "}\n")
    with pytest.raises(UserError, match=r"p\.jsonl, line 1: must be a JSON object"):
        evaluate(str(models["bert"]), release, tmp_path / "sets")


def test_the_card_says_when_the_sets_were_others(release: Release, write_config: Write, tmp_path: Path):
    config = read_config(str(write_config(("steps = 8", "steps = 1"), ("warmup_steps = 2", "warmup_steps = 0"))))
    output = train(release, config, tmp_path / "model").output
    (tmp_path / "sets" / "pairs").mkdir(parents=True)
    lines = '{"text1": "a", "text2": "b", "score": 1}\n{"text1": "c", "text2": "d", "score": 2}\n'
    (tmp_path / "sets" / "pairs" / "p.jsonl").write_text(lines)
    evaluate(str(output), release, tmp_path / "sets")
    assert "On other sets than those that the release holds out" in (output / "README.md").read_text()
    evaluate(str(output), release, release.path / "eval")
    assert "On the sets held out from tiny" in (output / "README.md").read_text()

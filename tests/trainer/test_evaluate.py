"""Scores of held-out sets: right, complete, and told where there is none."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synth.records import UserError
from tests.trainer.conftest import ANIMALS, INSTRUCTION, Write, classification_rows, samples, write_lines
from trainer.compare import Change, Settings, measurer_of
from trainer.config import read_config
from trainer.evaluate import Asked, Evaluation, check_items, evaluate, item_rows, keep_scores, made_here, write_items
from trainer.loop import train
from trainer.release import Release, read_release
from trainer.sets import RetrievalSet

CPU = Settings(device="cpu", resamples=200)


def measured(model: Path, release: Release | None, *sets: Path, against: Path | str = "") -> Evaluation:
    return evaluate(str(model), release, Asked(sets), against=str(against), settings=CPU)[0]


def scores(
    model: Path, release: Release | None, *sets: Path, against: Path | str = ""
) -> dict[tuple[str, str], Change]:
    return {(row.set, row.measure): row for row in measured(model, release, *sets, against=against).scores}


def test_every_set_is_measured_in_its_own_way(models: dict[str, Path], release: Release):
    found = scores(models["bert"], release)
    assert {key: row.num_items for key, row in found.items()} == {
        ("animals", "nDCG@10"): 11,
        ("animals", "MRR@10"): 11,
        ("animals", "Recall@10"): 11,
        ("pairs", "Spearman"): 10,
        ("moods", "accuracy"): 12,
    }
    assert all(row.before is None and row.change is None for row in found.values())
    assert found["animals", "nDCG@10"].note == "1 queries without a positive are not counted"
    assert found["moods", "accuracy"].note == "fitted 10 times on 24 texts"


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
    found = scores(models["qwen"], release, against=models["bert"])
    before = scores(models["bert"], release)
    for key, row in found.items():
        assert row.before == pytest.approx(before[key].after)
        assert row.change == pytest.approx(row.after - row.before)


def test_what_cannot_be_measured_is_listed_with_the_reason(models: dict[str, Path], write_release: Write):
    release = read_release(write_release({"retrieval": samples()["retrieval"]}))
    write_lines(release.path / "eval" / "pairs" / "flat.jsonl", [{"text1": "a", "text2": "b", "score": 1}] * 3)
    found = scores(models["bert"], release)
    assert [(row.set, row.note) for row in found.values() if row.after is None] == [
        ("flat", "all pairs have one score"),
        ("moods", "nothing to fit on: no texts of two classes to train on"),
    ]
    assert found["pairs", "Spearman"].after is not None


def test_a_classifier_is_fitted_on_the_training_samples_alone(models: dict[str, Path], write_release: Write):
    # Training samples say red and blue by turns, the held-out ones say green: nothing can be right.
    rows = classification_rows("moods", 24, num_classes=2)
    release = read_release(write_release({"classification": rows}))
    write_lines(release.path / "eval" / "labelled" / "moods.jsonl", [{"text": "the cat", "label": "green"}] * 5)
    assert scores(models["bert"], release)["moods", "accuracy"].after == 0.0


def test_a_trained_model_is_given_its_scores(release: Release, write_config: Write, tmp_path: Path):
    output = train(release, read_config(str(write_config())), tmp_path / "model").output
    evaluation = measured(output, release)
    keep_scores(evaluation)
    written = json.loads((output / "evaluation.json").read_text())
    assert written["release_digest"] == "d1" and len(written["scores"]) == len(evaluation.scores)
    card = (output / "README.md").read_text()
    assert f"| pairs | Spearman |  | {evaluation.scores[3].after:.4f} |" in card
    assert "Not evaluated yet" not in card


def test_a_foreign_model_is_measured_and_left_as_it_is(models: dict[str, Path], release: Release):
    before = sorted(models["bert"].iterdir())
    scores(models["bert"], release)
    assert sorted(models["bert"].iterdir()) == before


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("pairs/pairs.jsonl", "{", "pairs.jsonl:1: not valid JSON"),
        ("pairs/pairs.jsonl", '{"text1": "a", "text2": "b", "score": "x"}', "pairs.jsonl:1: `score` must be a number"),
        ("pairs/pairs.jsonl", '{"text1": "a", "text2": "b", "score": NaN}', "pairs.jsonl:1: `score` must be a number"),
        ("pairs/pairs.jsonl", '{"text1": "a", "text2": "b", "score": true}', "pairs.jsonl:1: `score` must be a number"),
        ("labelled/moods.jsonl", "[]", "moods.jsonl"),
        ("labelled/moods.jsonl", '{"text": null, "label": "x"}', "moods.jsonl:1: `text` must be a text"),
        ("labelled/moods.jsonl", '{"text": "\\ud800", "label": "x"}', "moods.jsonl:1: holds half of a surrogate pair"),
        ("retrieval/animals/qrels.jsonl", '{"query_id": "q-cat", "doc_id": "x", "score": 1}', "'x' is not in corpus"),
        ("retrieval/animals/queries.jsonl", '{"query_id": "q", "text": "a"}\n' * 2, "queries.jsonl:2: an id that is"),
        ("retrieval/animals/corpus.jsonl", '{"doc_id": "q", "text": "a"}\n' * 2, "corpus.jsonl:2: an id that is"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(
    models: dict[str, Path], release: Release, file: str, line: str, told: str
):
    (release.path / "eval" / file).write_text(f"{line}\n")
    with pytest.raises(UserError, match=re.escape(told)):
        scores(models["bert"], release)


def test_a_folder_without_sets_and_a_set_without_its_files_are_refused(
    models: dict[str, Path], release: Release, tmp_path: Path
):
    with pytest.raises(UserError, match="there is no such file or folder"):
        scores(models["bert"], release, tmp_path / "nowhere")
    (tmp_path / "page.md").write_text("# A page\n\nIt says something.\n")
    with pytest.raises(UserError, match=r"nothing to measure here; .*documents have no queries"):
        scores(models["bert"], release, tmp_path / "page.md")
    with pytest.raises(UserError, match="name a --release, or --sets PATH, or --mteb TASK"):
        scores(models["bert"], None)
    (release.path / "eval" / "retrieval" / "animals" / "qrels.jsonl").unlink()
    with pytest.raises(UserError, match=r"needs? qrels\.jsonl"):
        scores(models["bert"], release)


def test_two_sets_of_one_name_are_refused(models: dict[str, Path], release: Release):
    own = release.path / "eval"
    with pytest.raises(UserError, match="two sets are named animals"):
        scores(models["bert"], release, own, own)


def test_a_model_against_itself_has_not_changed(models: dict[str, Path], release: Release):
    for row in scores(models["bert"], release, against=models["bert"]).values():
        assert row.change == 0 and row.change_interval is not None
        assert (row.change_interval.low, row.change_interval.high) == (0, 0)
        assert (row.better, row.worse) == ((None, None) if row.measure == "Spearman" else (0, 0))


def test_items_are_the_shares_of_the_scores(models: dict[str, Path], release: Release, tmp_path: Path):
    evaluation, compared = evaluate(
        str(models["qwen"]), release, Asked(), against=str(models["bert"]), settings=CPU
    )  # fmt: skip
    write_items(tmp_path / "items.jsonl", compared)
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert rows == list(item_rows(compared)) and len(rows) == 11 + 10 + 12
    scored = {(row.set, row.measure): row for row in evaluation.scores}
    queries = [row for row in rows if row["set"] == "animals"]
    ndcg = scored["animals", "nDCG@10"]
    assert np.mean([row["nDCG@10_after"] for row in queries]) == pytest.approx(ndcg.after)
    assert sum(row["change"] > 0 for row in queries) == ndcg.better
    first = queries[0]
    assert first["relevant"] == {"cat": 1.0} and len(first["found_before"]) == 10
    place = first["found_after"].index("cat") + 1 if "cat" in first["found_after"] else None
    assert first["rank_after"] == place
    assert {"text1", "text2", "score", "cosine_before", "cosine_after"} < rows[11].keys()
    assert np.mean([row["accuracy_after"] for row in rows[-12:]]) == pytest.approx(scored["moods", "accuracy"].after)


def test_a_query_that_its_corpus_holds_is_not_its_own_answer(models: dict[str, Path], tmp_path: Path):
    corpus = [{"_id": key, "text": text} for key, text in (("1", "the cat is red"), ("2", "a red cat"), ("3", "a dog"))]
    write_lines(tmp_path / "own" / "corpus.jsonl", corpus)
    write_lines(tmp_path / "own" / "queries.jsonl", [{"_id": "1", "text": "the  cat is red"}])
    (tmp_path / "own" / "qrels").mkdir()
    (tmp_path / "own" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t2\t1\n")
    _, [compared] = evaluate(str(models["bert"]), None, Asked([tmp_path / "own"]), settings=CPU)
    assert sorted(compared.after.found["1"]) == ["2", "3"]


def test_the_card_says_when_the_sets_were_others(release: Release, write_config: Write, tmp_path: Path):
    config = read_config(str(write_config(("steps = 8", "steps = 1"), ("warmup_steps = 2", "warmup_steps = 0"))))
    output = train(release, config, tmp_path / "model").output
    (tmp_path / "sets" / "pairs").mkdir(parents=True)
    lines = '{"text1": "a", "text2": "b", "score": 1}\n{"text1": "c", "text2": "d", "score": 2}\n'
    (tmp_path / "sets" / "pairs" / "p.jsonl").write_text(lines)
    keep_scores(measured(output, release, tmp_path / "sets"))
    assert "On other sets than those that the release holds out" in (output / "README.md").read_text()
    keep_scores(measured(output, release))
    assert "On the sets held out from tiny" in (output / "README.md").read_text()


def test_a_model_is_asked_as_it_was_trained_with_and_without_the_release(
    models: dict[str, Path], release: Release, write_config: Write, tmp_path: Path
):
    config = read_config(str(write_config(("steps = 8", "steps = 1"), ("warmup_steps = 2", "warmup_steps = 0"))))
    output = train(release, config, tmp_path / "model").output
    own, elsewhere = scores(output, release), scores(output, None, release.path / "eval")
    for measure in ("nDCG@10", "MRR@10"):  # the model knows the instruction of `animals`
        assert own["animals", measure].after == elsewhere["animals", measure].after


@pytest.mark.parametrize(
    "record",
    ['{"plan": 1, "config": {}}', '{"plan": "p", "config": "c"}', '{"plan": 1, "config": {"model": 3, "stages": []}}'],
)
def test_a_record_that_is_broken_is_refused_and_none_is_no_record(tmp_path: Path, record: str):
    assert made_here(str(tmp_path)) is None
    (tmp_path / "run.json").write_text("[" * 100_000)
    assert made_here(str(tmp_path)) is None
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(UserError, match=r"run\.json: broken, or of another version: take it away"):
        made_here(str(tmp_path))


def test_items_replace_nothing_but_a_plain_file_beside_what_is_measured(tmp_path: Path):
    (tmp_path / "sets").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain.jsonl").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "plain.jsonl")
    check_items(tmp_path / "plain.jsonl", [tmp_path / "sets"])
    for taken in (tmp_path / "sets", tmp_path / "pipe", tmp_path / "link", Path()):
        with pytest.raises(UserError, match="is no plain file; give another name"):
            check_items(taken)
    for inside in (tmp_path / "sets" / "items.jsonl", tmp_path / "plain.jsonl"):
        with pytest.raises(UserError, match="lies in what is measured"):
            check_items(inside, [tmp_path / "sets", tmp_path / "plain.jsonl"])


def test_only_a_model_that_takes_instructions_gets_the_sets_own_in_its_own_form(
    models: dict[str, Path], tmp_path: Path
):
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "Instruct: Find it\nQuery:", "named": "Search: "}
    SentenceTransformer(str(models["bert"]), device="cpu", prompts=prompts).save_pretrained(str(tmp_path / "taught"))
    taught = measurer_of(str(tmp_path / "taught"), None, CPU)
    one = RetrievalSet("claims", "Given a claim, find {evidence}", {}, {}, {})
    assert taught.prefix(one) == "Instruct: Given a claim, find {evidence}\nQuery:"
    assert taught.prefix(replace(one, instruction="")) == ""  # then what it puts before any query stands there
    assert taught.prefix(replace(one, name="named")) == "Search: "
    assert measurer_of(str(models["bert"]), None, CPU).prefix(one) == ""

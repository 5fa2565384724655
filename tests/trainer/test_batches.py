"""The plan: the same for the same release and configuration, and fair to every dataset and sample."""

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from synth.records import Task, UserError
from tests.trainer.conftest import Write, classification_rows, retrieval_rows, samples, sts_rows
from trainer.batches import make_plan, write_plan
from trainer.config import Config, Stage
from trainer.release import Release, read_release


def one_stage(config: Config, **changes: float) -> Config:
    return dataclasses.replace(config, stages=(dataclasses.replace(config.stages[1], **changes),))


def sized(write_release: Write, **sizes: int) -> Release:
    rows = [row for name, size in sizes.items() for row in retrieval_rows(name, size)]
    return read_release(write_release({"retrieval": rows, "sts": sts_rows("pairs", 16)}))


def test_equal_releases_and_settings_give_equal_plans(release: Release, config: Config):
    first, second = make_plan(release, config), make_plan(release, config)
    assert first.digest == second.digest
    for one, other in zip(first.steps, second.steps, strict=True):
        assert (one.number, one.stage, one.task, one.dataset) == (other.number, other.stage, other.task, other.dataset)
        assert np.array_equal(one.row_B, other.row_B)
        assert np.array_equal(one.negative_BN, other.negative_BN)


def test_another_seed_release_or_number_of_negatives_gives_another_plan(release: Release, config: Config):
    plans = [
        make_plan(release, config),
        make_plan(release, dataclasses.replace(config, seed=4)),
        make_plan(release, dataclasses.replace(config, hard_negatives=1)),
        make_plan(dataclasses.replace(release, digest="d2"), config),
    ]
    assert len({plan.digest for plan in plans}) == 4


def test_what_does_not_concern_the_samples_leaves_the_plan_alone(release: Release, config: Config):
    other = dataclasses.replace(config, temperature=0.01, device="cuda", passage_tokens=512)
    assert make_plan(release, config).digest == make_plan(release, other).digest


def test_the_first_stage_is_retrieval_alone_and_every_batch_of_one_dataset(release: Release, config: Config):
    plan = make_plan(release, config)
    assert [step.number for step in plan.steps] == list(range(1, 17))
    assert {step.task for step in plan.steps if step.stage == 1} == {Task.RETRIEVAL}
    assert {step.task for step in plan.steps if step.stage == 2} == set(Task)
    for step in plan.steps:
        names = release.samples[step.task].column("dataset").take(step.row_B).to_pylist()
        assert set(names) == {step.dataset}


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_datasets_are_drawn_by_their_size_to_the_power_alpha(write_release: Write, config: Config, exponent: float):
    release = sized(write_release, small=9, large=36)
    plan = make_plan(
        release, dataclasses.replace(one_stage(config, steps=300, retrieval_share=1), size_exponent=exponent)
    )
    counts = Counter(step.dataset for step in plan.steps)
    assert counts["large"] / counts["small"] == pytest.approx(4**exponent, rel=0.02)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.72, 1.0])
def test_retrieval_gets_its_share_of_batches(release: Release, config: Config, share: float):
    plan = make_plan(release, one_stage(config, steps=100, retrieval_share=share))
    assert sum(step.task is Task.RETRIEVAL for step in plan.steps) == pytest.approx(100 * share, abs=1)


def test_the_order_of_datasets_is_shuffled(release: Release, config: Config):
    steps = make_plan(release, one_stage(config, steps=100)).steps
    changes = sum(one.dataset != other.dataset for one, other in itertools.pairwise(steps))
    assert changes > 40


def test_every_sample_comes_once_before_any_comes_again_and_no_batch_holds_one_twice(
    write_release: Write, config: Config
):
    release = read_release(write_release({"retrieval": retrieval_rows("animals", 30)}))
    plan = make_plan(release, one_stage(config, steps=31, retrieval_share=1))  # 248 draws of 30 samples in batches of 8
    drawn = np.concatenate([step.row_B for step in plan.steps])
    assert all(len(set(step.row_B.tolist())) == 8 for step in plan.steps)
    for epoch in range(8):
        assert sorted(drawn[epoch * 30 : epoch * 30 + 30].tolist()) == list(range(30))
    assert not np.array_equal(drawn[:30], drawn[30:60])


def test_a_dataset_smaller_than_the_batch_gives_batches_of_all_it_has_and_a_note(write_release: Write, config: Config):
    release = read_release(write_release({"retrieval": retrieval_rows("few", 5)}))
    plan = make_plan(release, one_stage(config, retrieval_share=1))
    assert {tuple(sorted(step.row_B.tolist())) for step in plan.steps} == {(0, 1, 2, 3, 4)}
    assert plan.notes == ("stage 1: retrieval few: batches of 5, all that it has, not 8",)


def test_pairs_have_a_batch_size_of_their_own(release: Release, config: Config):
    plan = make_plan(release, one_stage(config, sts_batch_size=16))
    assert {len(step.row_B) for step in plan.steps if step.task is Task.STS} == {16}


def test_negatives_are_the_samples_own_each_at_most_once(release: Release, config: Config):
    lists = release.samples[Task.RETRIEVAL].column("negatives").to_pylist()
    for step in make_plan(release, one_stage(config, steps=40, retrieval_share=1)).steps:
        for row, chosen in zip(step.row_B, step.negative_BN, strict=True):
            real = chosen[chosen >= 0].tolist()
            assert len(real) == len(set(real)) == min(2, len(lists[row]))
            assert all(place < len(lists[row]) for place in real)


def test_classification_is_by_example(release: Release, config: Config):
    table = release.samples[Task.CLASSIFICATION]
    labels = table.column("label").to_pylist()
    steps = [step for step in make_plan(release, one_stage(config, steps=60)).steps if step.task is Task.CLASSIFICATION]
    assert steps
    for step in steps:
        assert step.negative_BN.shape == (8, 2)
        for row, positive, negatives in zip(step.row_B, step.positive_B, step.negative_BN, strict=True):
            assert labels[row] == labels[positive] and row != positive
            assert all(labels[negative] != labels[row] for negative in negatives)
            assert len(set(negatives.tolist())) == 2


def test_negatives_mined_for_a_text_come_first_and_random_ones_fill_up(write_release: Write, config: Config):
    rows = classification_rows("moods", 24) + classification_rows("tones", 24)
    other_dataset, own_class, unknown = rows[25]["text"], rows[3]["text"], "of no row"
    rows[0]["negatives"] = [{"text": text} for text in (rows[1]["text"], own_class, unknown)]
    rows[2]["negatives"] = [{"text": f" {rows[number]['text']}"} for number in (3, 4, 6)]
    for row in rows[24:]:  # the same texts in another dataset are other rows
        row["text"] = row["text"].replace("the", "a")
    rows[5]["negatives"] = [{"text": other_dataset}]
    release = read_release(write_release({"classification": [{"negatives": []} | row for row in rows]}))
    steps = make_plan(release, one_stage(config, steps=80, retrieval_share=0)).steps
    drawn: dict[int, list[set[int]]] = {}
    for step in steps:
        for row, negatives in zip(step.row_B.tolist(), step.negative_BN.tolist(), strict=True):
            assert len(set(negatives)) == 2
            drawn.setdefault(row, []).append(set(negatives))
    assert all(1 in negatives for negatives in drawn[0]) and len({*map(frozenset, drawn[0])}) > 1
    assert {frozenset(negatives) for negatives in drawn[2]} == {frozenset(pair) for pair in ((3, 4), (3, 6), (4, 6))}
    assert all(row % 3 != other % 3 for row, found in drawn.items() for each in found for other in each)
    assert set().union(*drawn[5]) <= set(range(24)) and len(set().union(*drawn[5])) > 4


def test_a_text_of_two_classes_is_mined_for_nobody(write_release: Write, config: Config):
    rows = classification_rows("moods", 24)
    rows[1]["text"] = rows[2]["text"]
    rows[0]["negatives"] = [{"text": rows[1]["text"]}]
    release = read_release(write_release({"classification": [{"negatives": []} | row for row in rows]}))
    steps = make_plan(release, one_stage(config, steps=60, retrieval_share=0)).steps
    drawn = {
        tuple(each[1])
        for step in steps
        for each in zip(step.row_B, step.negative_BN.tolist(), strict=True)
        if each[0] == 0
    }
    assert not all({1, 2} & set(negatives) for negatives in drawn)


def test_every_other_text_of_the_class_can_be_the_positive_and_of_other_classes_a_negative(
    write_release: Write, config: Config
):
    release = read_release(write_release({"classification": classification_rows("moods", 9)}))
    steps = make_plan(release, one_stage(config, steps=80, retrieval_share=0)).steps
    positives = {
        (int(row), int(other)) for step in steps for row, other in zip(step.row_B, step.positive_B, strict=True)
    }
    negatives = {
        (int(row), int(other))
        for step in steps
        for row, others in zip(step.row_B, step.negative_BN, strict=True)
        for other in others
    }
    assert positives == {(i, j) for i in range(9) for j in range(9) if i != j and i % 3 == j % 3}
    assert negatives == {(i, j) for i in range(9) for j in range(9) if i % 3 != j % 3}


def test_what_cannot_be_learnt_from_is_left_out_with_a_note(write_release: Write, config: Config):
    flat = sts_rows("flat", 4)
    for row in flat:
        row["score"] = 1.0
    lonely = classification_rows("moods", 24)
    lonely[0]["label"] = "nobody else's"
    tables = samples() | {"sts": flat, "classification": lonely + classification_rows("one", 4, num_classes=1)}
    plan = make_plan(read_release(write_release(tables)), config)
    assert {step.dataset for step in plan.steps} == {"animals", "beasts", "moods"}
    assert plan.notes[:3] == (
        "sts flat is left out: all its pairs have one score",
        "classification moods: 1 samples are left out: each is alone in its class",
        "classification one is left out: it has no two classes of two texts each",
    )


def test_a_missing_side_of_the_share_and_a_share_below_one_batch_are_noted(write_release: Write, config: Config):
    release = sized(write_release, tiny=4, large=400)
    short = one_stage(config, steps=2, retrieval_share=1, batch_size=4, warmup_steps=0)
    plan = make_plan(release, dataclasses.replace(short, size_exponent=1.0))
    assert plan.notes == ("stage 1: retrieval tiny gets no batch: its share of 2 steps is below one",)
    alone = dataclasses.replace(release, samples={Task.STS: release.samples[Task.STS]})
    assert "the other gets every batch" in make_plan(alone, one_stage(config)).notes[-1]


def test_a_stage_without_samples_is_refused(write_release: Write, config: Config):
    release = read_release(write_release({"sts": sts_rows("pairs", 16)}))
    with pytest.raises(UserError, match="stage 1 finds no retrieval samples: change its retrieval_share"):
        make_plan(release, config)


def test_the_plan_is_written_with_the_samples_of_every_step(release: Release, config: Config, tmp_path: Path):
    plan = make_plan(release, config)
    write_plan(plan.steps, release, tmp_path / "steps.parquet")
    rows = pq.read_table(tmp_path / "steps.parquet").to_pylist()
    assert [row["step"] for row in rows] == list(range(1, 17))
    ids = release.samples[plan.steps[0].task].column("sample_id").to_pylist()
    assert rows[0]["sample_ids"] == [ids[row] for row in plan.steps[0].row_B]
    assert rows[0]["negatives"] == plan.steps[0].negative_BN.tolist()


def test_stages_do_not_share_their_chances(release: Release, config: Config):
    same: tuple[Stage, ...] = (config.stages[0], config.stages[0])
    steps = make_plan(release, dataclasses.replace(config, stages=same)).steps
    assert [step.row_B.tolist() for step in steps[:8]] != [step.row_B.tolist() for step in steps[8:]]

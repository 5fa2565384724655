"""From a step to texts and loss: what is encoded, how it is written, and what counts as a negative."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from synth.records import Task
from tests.trainer.conftest import ANIMALS, INSTRUCTION, Write, columns, passage, samples
from trainer.batches import Step, make_plan
from trainer.config import Config
from trainer.losses import info_nce
from trainer.release import read_release
from trainer.texts import read_batch


def retrieval_step(rows: list[int], positives: list[int], negatives: list[list[int]]) -> Step:
    arrays = (np.array(values, dtype=np.int32) for values in (rows, positives, negatives))
    return Step(1, 1, Task.RETRIEVAL, "animals", *arrays)


def embeddings(num_texts: int) -> torch.Tensor:
    return normalize(torch.randn(num_texts, 8, generator=torch.Generator().manual_seed(1)), dim=-1)


def two_queries_of_one_passage() -> list[dict[str, object]]:
    shared, other, third = (passage(animal, "red") for animal in ANIMALS[:3])
    return [
        columns("animals", 1) | {"query": "one", "positives": [shared, other], "negatives": [{"text": third}]},
        columns("animals", 2) | {"query": "two", "positives": [f" {shared}"], "negatives": [{"text": other}]},
    ]


def test_a_passage_that_serves_several_samples_is_encoded_once_and_is_nobodys_false_negative(
    write_release: Write, config: Config
):
    release = read_release(write_release({"retrieval": two_queries_of_one_passage()}))
    batch = read_batch(release, retrieval_step([0, 1], [0, 0], [[0], [0]]), config)
    assert batch.texts == ("one", "two", *(passage(animal, "red") for animal in (ANIMALS[0], ANIMALS[2], ANIMALS[1])))
    vectors = embeddings(5)
    expected = info_nce(
        vectors[:2],
        vectors[2:],
        torch.tensor([0, 0]),
        temperature=config.temperature,
        # The first query knows the last passage as another of its positives; the second does not.
        answers_BM=torch.tensor([[True, False, True], [True, False, False]]),
    )
    assert batch.loss(vectors).item() == pytest.approx(expected.item())


def test_equal_queries_are_no_negatives_of_each_other(write_release: Write, config: Config):
    rows = two_queries_of_one_passage()
    rows[1]["query"] = "one "
    release = read_release(write_release({"retrieval": rows}))
    batch = read_batch(release, retrieval_step([0, 1], [0, 0], [[-1], [-1]]), config)
    assert batch.texts == ("one", passage(ANIMALS[0], "red"))
    assert batch.loss(embeddings(2)).item() == 0.0


def test_the_instruction_stands_before_queries_and_lengths_go_by_role(write_release: Write, config: Config):
    release = read_release(write_release())
    step = next(step for step in make_plan(release, config).steps if step.dataset == "animals")
    batch = read_batch(release, step, config)
    num_queries = batch.max_tokens.count(config.query_tokens)
    assert num_queries == 8
    assert batch.max_tokens[8:] == (config.passage_tokens,) * (len(batch.texts) - 8)
    assert all(text.startswith(f"Instruct: {INSTRUCTION}\nQuery: what colour") for text in batch.texts[:8])
    assert all("Instruct" not in text for text in batch.texts[8:])


@pytest.mark.parametrize("task", ["sts", "classification"])
def test_symmetric_tasks_have_the_instruction_before_every_text(write_release: Write, config: Config, task: str):
    rows = samples()[task]
    for row in rows:
        row["instruction"] = "Compare"
    release = read_release(write_release({"retrieval": samples()["retrieval"], task: rows}))
    step = next(step for step in make_plan(release, config).steps if step.task == task)
    batch = read_batch(release, step, config)
    assert all(text.startswith("Instruct: Compare\nQuery: ") for text in batch.texts)
    assert batch.loss(embeddings(len(batch.texts))).isfinite()


def test_pairs_have_a_temperature_of_their_own(write_release: Write, config: Config):
    release = read_release(write_release())
    step = next(step for step in make_plan(release, config).steps if step.task is Task.STS)
    vectors = embeddings(len(read_batch(release, step, config).texts))
    loss, other, same = (
        read_batch(release, step, dataclasses.replace(config, **change)).loss(vectors).item()
        for change in ({}, {"sts_temperature": 0.4}, {"temperature": 0.4})
    )
    assert loss == same != other


def test_a_batch_is_as_the_release_has_it(write_release: Write, config: Config, tmp_path: Path):
    release = read_release(write_release())
    for step in make_plan(release, config).steps:
        batch = read_batch(release, step, config)
        assert len(batch.texts) == len(batch.max_tokens) == len(set(batch.texts))
        if step.task is Task.CLASSIFICATION:
            known = set(release.samples[step.task].column("text").to_pylist())
            assert set(batch.texts) <= known

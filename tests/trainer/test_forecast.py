"""What a run will take, held against what it took."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from synth.records import UserError
from tests.trainer.conftest import Write
from trainer.batches import make_plan
from trainer.config import Config, read_config
from trainer.forecast import forecast
from trainer.loop import read_log, train
from trainer.release import Release


def test_batches_samples_and_tokens_are_those_of_the_run(release: Release, config: Config, tmp_path: Path):
    found = forecast(release, config)
    log = read_log(train(release, config, tmp_path / "model").output)
    assert sum(share.batches for share in found.shares) == found.num_steps == len(log)
    for share in found.shares:
        rows = [row for row in log if (row["stage"], row["dataset"]) == (share.stage, share.dataset)]
        assert (len(rows), sum(row["samples"] for row in rows)) == (share.batches, share.samples)
    assert found.tokens == pytest.approx(sum(row["tokens"] for row in log), rel=0.1)
    assert found.plan == make_plan(release, config).digest
    retrieval = next(share for share in found.shares if share.dataset == "animals")
    assert retrieval.passes == retrieval.samples / 36


def test_time_and_money_follow_from_what_is_stated(release: Release, config: Config):
    one = forecast(release, config, teraflops=1e-3, price_per_hour=2.0)
    assert one.hours == pytest.approx(one.operations / (0.4 * 1e9) / 3600)
    assert one.cost == pytest.approx(2 * one.hours)
    four = forecast(release, config, teraflops=1e-3, price_per_hour=2.0, processes=4)
    assert (four.hours, four.cost) == (pytest.approx(one.hours / 4), pytest.approx(one.cost))
    assert forecast(release, dataclasses.replace(config, gradient_cache=False)).operations == one.operations * 6 / 8
    assert forecast(release, config).cost is None


def test_memory_falls_where_weights_are_divided_or_few_are_trained(release: Release, config: Config):
    whole = forecast(release, config, teraflops=1.0, processes=4)
    sharded = forecast(release, dataclasses.replace(config, sharded=True), teraflops=1.0, processes=4)
    updates = forecast(release, dataclasses.replace(config, lora_rank=2), teraflops=1.0, processes=4)
    assert sharded.memory < whole.memory
    assert updates.memory < whole.memory
    assert updates.trained_weights < updates.weights == whole.trained_weights


@pytest.mark.parametrize("number", [0.0, -1.0, float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(release: Release, config: Config, number: float):
    with pytest.raises(UserError, match="--teraflops must be above 0"):
        forecast(release, config, teraflops=number)
    with pytest.raises(UserError, match="--price-per-hour must be above 0"):
        forecast(release, config, price_per_hour=number)


def test_texts_are_counted_up_to_what_the_model_takes(
    release: Release, write_config: Write, models: dict[str, Path], tmp_path: Path
):
    shutil.copytree(models["bert"], tmp_path / "short")
    settings = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 16}))
    config = read_config(str(write_config(model="bert")))
    texts = sum(share.samples for share in forecast(release, config).shares)
    short = forecast(release, dataclasses.replace(config, model=str(tmp_path / "short")))
    assert short.tokens < forecast(release, config).tokens
    assert short.tokens <= 16 * 6 * texts  # a query, a positive and four others


def test_a_model_without_a_tokenizer_is_refused(
    release: Release, config: Config, models: dict[str, Path], tmp_path: Path
):
    for kind in ("bert", "qwen"):
        shutil.copytree(models[kind], tmp_path / kind, ignore=shutil.ignore_patterns("tok*", "vocab*", "merges*"))
        with pytest.raises(UserError, match=r"has no tokenizer|cannot read the tokenizer"):
            forecast(release, dataclasses.replace(config, model=str(tmp_path / kind)))

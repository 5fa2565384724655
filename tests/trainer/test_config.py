"""Configurations: the two that come with Skiff, and what is wrong with others."""

import dataclasses

import pytest

from synth.records import UserError
from tests.trainer.conftest import Write
from trainer.config import check_config, read_config


def test_qzhou_holds_the_figures_of_the_report():
    config = read_config("qzhou")
    first, second = config.stages
    assert (config.temperature, config.sts_temperature, config.hard_negatives, config.size_exponent) == (
        0.02,
        0.02,
        4,
        0.5,
    )
    assert (config.query_tokens, config.passage_tokens, config.weight_decay) == (256, 1536, 0.01)
    assert (first.steps, first.learning_rate, first.retrieval_share) == (32000, 3e-5, 1.0)
    assert (second.steps, second.learning_rate, second.retrieval_share) == (8000, 2e-5, 0.72)
    assert {(stage.batch_size, stage.sts_batch_size, stage.warmup_steps) for stage in config.stages} == {
        (256, 768, 300)
    }


def test_demo_is_two_short_stages():
    config = read_config("demo")
    assert [stage.retrieval_share < 1 for stage in config.stages] == [False, True]
    assert sum(stage.steps for stage in config.stages) < 200


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("\ntemperature", "\ntemprature"), "unknown key temprature: did you mean temperature?"),
        (("seed = 3\n", ""), "missing seed"),
        (("seed = 3", "seed = true"), "seed must be a whole number, not True"),
        (('"fp32"', '"fp8"'), "precision must be one of auto, bf16, fp32"),
        (("\ntemperature = 0.05", "\ntemperature = 0"), "temperature must be above 0, not 0.0"),
        (("learning_rate = 1e-3", "learning_rate = inf"), "learning_rate must be a finite number, not inf"),
        (("size_exponent = 0.5", "size_exponent = 400.0"), "size_exponent must be 10 at most"),
        (("lora_rank = 0", "lora_rank = 1000000000000"), "lora_rank must be 65536 at most"),
        (("seed = 3", "seed = 9223372036854775808"), "seed must be a number of at most 64 bits"),
        (("\ntemperature = 0.05", "\ntemperature = nan"), "temperature must be a finite number, not nan"),
        (("hard_negatives = 2", "hard_negatives = -1"), "hard_negatives must be 0 or more, not -1"),
        (("query_tokens = 32", "query_tokens = 2"), "query_tokens must be 8 or more"),
        (("mini_batch_tokens = 128", "mini_batch_tokens = 0"), "mini_batch_tokens must be 1 or more"),
        (("share = 0.5", "share = 1.5"), "stage 2: retrieval_share must be from 0 to 1, not 1.5"),
        (("learning_rate = 5e-4", "learning_rate = -1"), "stage 2: learning_rate must be above 0"),
        (("warmup_steps = 2", "warmup_steps = 9"), "stage 1: warmup_steps must be from 0 to steps"),
        (("batch_size = 8", "batch_size = 1"), "stage 1: batch_size must be 2 or more"),
        (("steps = 8", "epochs = 8"), "stage 1: unknown key epochs"),
        (("[[stages]]", "[[steps]]"), "needs at least one [[stages]] table"),
        (("seed = 3", "seed = "), "cannot be read"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_key_and_the_reason(
    write_config: Write, change: tuple[str, str], told: str
):
    path = write_config(change)
    with pytest.raises(UserError) as caught:
        read_config(str(path))
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UserError, match=r"no configuration nowhere\.toml: name a TOML file, or one of demo, qzhou"):
        read_config("nowhere.toml")


def test_an_option_is_checked_like_a_line_of_the_file(write_config: Write):
    config = dataclasses.replace(read_config(str(write_config())), seed=-1)
    with pytest.raises(UserError, match="seed must be 0 or more, and below 2 to the power of 63"):
        check_config(dataclasses.replace(config, seed=1 << 63), "options")
    with pytest.raises(UserError, match=r"options: seed must be 0 or more, .*, not -1"):
        check_config(config, "options")

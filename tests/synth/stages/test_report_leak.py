"""The source leak: found where there is one, not found where there is none, and never by what the texts are about."""

import random
from pathlib import Path

import pytest

from synth.stages.report.leak import FEWEST_PAIRS, source_leak, wilson
from tests.conftest import SAMPLE

CLICHES = ("Moreover, it is worth noting that ", "In conclusion, ", "It is important to understand that ")


@pytest.fixture(scope="module")
def real() -> list[str]:
    """Sentences that people wrote, in two languages."""
    texts = [line for path in sorted(Path(SAMPLE / "pairs").glob("*.jsonl")) for line in _texts(path)]
    random.Random(0).shuffle(texts)
    return texts


def _texts(path: Path) -> list[str]:
    import json

    return [json.loads(line)["text1"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("seed", range(4))
def test_texts_of_one_source_are_not_told_apart(real: list[str], seed: int) -> None:
    drawn = random.Random(seed).sample(real, 200)
    leak = source_leak(list(zip(drawn[:100], drawn[100:], strict=True)), seed=seed)
    assert leak is not None and leak.num_pairs == 100
    assert not leak.is_above_chance and leak.low < 0.5 < leak.high


def test_a_manner_of_writing_is_told(real: list[str]) -> None:
    chance = random.Random(0)
    pairs = [(chance.choice(CLICHES) + text, text) for text in real[:100]]
    leak = source_leak(pairs, seed=0)
    assert leak is not None and leak.accuracy > 0.9 and leak.is_above_chance


def test_a_topic_is_never_what_tells_them(real: list[str]) -> None:
    """Each written text is its real one: one that met either of them in training would do worse than chance."""
    leak = source_leak([(text, text) for text in real[:60]], seed=0)
    assert leak is not None and leak.accuracy == 0.5 and not leak.is_above_chance


def test_the_same_seed_gives_the_same(real: list[str]) -> None:
    pairs = list(zip(real[:60], real[60:120], strict=True))
    assert source_leak(pairs, seed=3) == source_leak(pairs, seed=3)


def test_of_few_texts_nothing_is_said(real: list[str]) -> None:
    pairs = list(zip(real[:FEWEST_PAIRS], real[100:], strict=False))
    assert source_leak(pairs[:-1], seed=0) is None and source_leak(pairs, seed=0) is not None


def test_odd_texts_are_no_error() -> None:
    assert source_leak([(str(number) * 3, "!?" * 5) for number in range(40)], seed=0) is not None
    assert source_leak([("", " ")] * 40, seed=0) is None


@pytest.mark.parametrize(
    ("share", "number", "low", "high"), [(0.5, 100, 0.404, 0.596), (1.0, 30, 0.886, 1.0), (0.0, 10, 0.0, 0.278)]
)
def test_the_interval_is_wilsons(share: float, number: int, low: float, high: float) -> None:
    assert wilson(share, number) == pytest.approx((low, high), abs=6e-4)

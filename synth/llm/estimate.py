"""
What a run will take, before its first request: tokens and cost, from a sample of its prompts and what is known already.

Tokens of a prompt are a weighted sum of what it consists of: words, letters, digits, Chinese characters and so on. The
weights start as those of today's tokenizers, each with its spread among them, and move to those of the model's own
tokenizer and chat template with every call whose prompt is known (Bayesian linear regression: as good as the start with
no call, and settled for the texts at hand with some twenty). Replies are measured against the recipe's example.
"""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, TypeVar

from synth.llm.config import Endpoint

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

SAMPLE_SIZE = 200  # prompts; the mean length of so many is within a few per cent of all
FEWEST_CALLS = 5  # below, one odd reply would decide; the example reply does instead
ENOUGH_TO_MEASURE = 30  # calls, for an estimate within some 5 %
INTERVAL = 1.8  # standard deviations for nine in ten; 1.64 if few calls told their own spread as well as many

_HAN, _KANA, _HANGUL = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff", "\u3040-\u30ff", "\uac00-\ud7af"
_ACCENTED, _GREEK_CYRILLIC = "\u00c0-\u024f\u1e00-\u1eff", "\u0370-\u052f"
_WIDE = "\u2010-\u206f\u3000-\u303f\uff00-\uffef"
# What a text consists of, the tokens that each takes, and their spread. Least-squares fits to passages, documentation
# and prompts in English and Chinese, for other scripts to translated messages of programs; the mean over the tables of
# Qwen, GPT-4o (o200k) and DeepSeek-V3. Older ones (cl100k, Claude 2) take up to twice as many for Chinese: hence its
# spread.
FEATURES: tuple[tuple[re.Pattern[str], float, float], ...] = (
    (re.compile("[A-Za-z]+"), 0.72, 0.05),
    (re.compile("[A-Za-z]"), 0.093, 0.012),
    (re.compile("[0-9]"), 0.85, 0.25),
    (re.compile(r"[!-/:-@\[-`{-~]"), 0.29, 0.06),
    (re.compile(r"\n|[ \t]{2,}"), 0.94, 0.2),
    (re.compile(f"[{_HAN}]"), 0.73, 0.25),
    (re.compile(f"[{_WIDE}]"), 1.41, 0.2),
    (re.compile(f"[{_KANA}]"), 0.75, 0.15),
    (re.compile(f"[{_HANGUL}]"), 0.92, 0.2),
    (re.compile(f"[{_GREEK_CYRILLIC}]"), 0.45, 0.15),
    (re.compile(f"[{_ACCENTED}]"), 2.0, 1.5),
    (re.compile(f"[^\x00-\x7f{_HAN}{_KANA}{_HANGUL}{_ACCENTED}{_GREEK_CYRILLIC}{_WIDE}]"), 0.7, 0.4),
)
TEMPLATE_TOKENS, TEMPLATE_SPREAD = 12.0, 30.0  # what a chat template puts around the messages of one request
LINE_NOISE = 0.03  # standard deviation of one prompt's tokens around the weighted sum, as a share of them
REPLY_SPREAD = 0.35  # the same of a model's mean reply around the recipe's example


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one request asks, and an example of the reply that the recipe wants of it."""

    messages: Sequence[Mapping[str, str]]
    example_reply: str


@dataclass(frozen=True, slots=True)
class PaidCall:
    """One earlier call of the same model and prompt version, as the server counted; `prompt` where it is known."""

    tokens_in: int
    tokens_out: int
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What a run will take. Costs are in US dollars, None where a price is not stated.

    In nine of ten runs the outcome lies between `*_low` and `*_high`, as far as the calls known are like those to come.
    Requests sent again after a fault are not in it. `basis`: what it was computed from, one line; `is_rough`: from no
    calls, and so many requests are to come that some could be asked first to measure it.
    """

    requests: int
    tokens_in: int
    tokens_out: int
    tokens_low: int
    tokens_high: int
    cost: float | None
    cost_low: float | None
    cost_high: float | None
    basis: str
    is_rough: bool = False


@dataclass(frozen=True, slots=True)
class Mean:
    """Tokens of one request on average, and the standard deviation of what is known of it."""

    tokens: float
    deviation: float


def draw(pending: Sequence[T], number: int = SAMPLE_SIZE, *, seed: int) -> list[T]:
    """So many of what is pending (all, if there are no more) to estimate from; the same for the same seed."""
    return random.Random(seed).sample(pending, min(number, len(pending)))


class Calibration:
    """
    What is known of a model's tokens: from calls already paid for, or of tokenizers in general.

    With five calls or more whose prompts are known, prompts and replies are measured by them; else, with five calls or
    more, the requests to come are taken to be like those; else replies are taken to be as long as the example. Calls
    that the server did not count are left out.
    """

    def __init__(self, paid: Sequence[PaidCall] = ()) -> None:
        counted = [call for call in paid if call.tokens_in > 0 and call.tokens_out > 0]
        self._known = [(call, call.prompt) for call in counted if call.prompt is not None]
        self._alike = counted if len(self._known) < FEWEST_CALLS <= len(counted) else []
        self._weights, self._covariance = _fitted(
            [_prompt_features(prompt) for _, prompt in self._known], [call.tokens_in for call, _ in self._known]
        )

    @property
    def is_measured(self) -> bool:
        """Whether it knows enough calls to go by them."""
        return bool(self._alike) or len(self._known) >= FEWEST_CALLS

    def basis(self, sample: Sequence[Prompt]) -> str:
        """What an estimate of requests, of which these are some, is computed from, one line."""
        if self._alike:
            return f"from {len(self._alike)} earlier calls of this model and prompt, taken to be like those to come"
        if len(self._known) >= FEWEST_CALLS:
            return f"from {len(self._known)} earlier calls of this model and prompt"
        texts = [message["content"] for prompt in sample for message in prompt.messages]
        per_token = sum(map(len, texts)) / max(1.0, sum(map(_tokens_in_general, texts)))
        return (
            f"from {per_token:.1f} characters per token, as tokenizers have in general, and the recipe's example of a"
            " reply (a model that thinks first takes many times more)"
        )

    def prompt_tokens(self, sample: Sequence[Prompt], num_requests: int) -> Mean:
        """Of a prompt: the mean of all `num_requests`, of which the sample is a part."""
        import numpy as np

        if self._alike:
            return _mean_to_come([call.tokens_in for call in self._alike], num_requests)
        rows = np.array([_prompt_features(prompt) for prompt in sample])
        drawn = _mean_of_all(rows @ self._weights, num_requests)
        mean_row = rows.mean(axis=0)
        return Mean(drawn.tokens, math.hypot(drawn.deviation, math.sqrt(mean_row @ self._covariance @ mean_row)))

    def reply_tokens(self, sample: Sequence[Prompt], num_requests: int) -> Mean:
        """Of a reply: the mean of all `num_requests`; the sample is of their prompts."""
        if self._alike:
            return _mean_to_come([call.tokens_out for call in self._alike], num_requests)
        expected = _mean_of_all([_reply_in_general(prompt) for prompt in sample], num_requests)
        if len(self._known) < FEWEST_CALLS:
            return Mean(expected.tokens, math.hypot(expected.deviation, REPLY_SPREAD * expected.tokens))
        examples = [_reply_in_general(prompt) for _, prompt in self._known]
        times = sum(call.tokens_out for call, _ in self._known) / sum(examples)
        misses = [call.tokens_out - times * each for (call, _), each in zip(self._known, examples, strict=True)]
        missed = _mean_to_come(misses, num_requests).deviation
        return Mean(expected.tokens * times, math.hypot(expected.deviation * times, missed))


def estimate(
    sample: Sequence[Prompt],
    num_requests: int,
    calibration: Calibration,
    endpoints: Sequence[Endpoint],
    times: float = 1.0,
    *,
    batch: bool = False,
) -> Estimate:
    """
    What asking about `num_requests` pending seeds will take.

    Args:
        sample: what some of them ask, drawn at random; empty only if there are none.
        endpoints: each gets a share of the requests by its weight; their prices make the cost.
        times: how many times as much as the first request about a seed all requests about it take.
        batch: by the prices of the Batch API.
    """
    if not num_requests:
        cost = None if _cost(endpoints, 0.0, 0.0, batch=batch) is None else 0.0
        return Estimate(0, 0, 0, 0, 0, cost, cost, cost, "nothing is left to ask")
    sent, replied = calibration.prompt_tokens(sample, num_requests), calibration.reply_tokens(sample, num_requests)
    amount = num_requests * times
    tokens_in, tokens_out = amount * sent.tokens, amount * replied.tokens
    margin = INTERVAL * amount * math.hypot(sent.deviation, replied.deviation)
    cost, cost_low, cost_high = _cost(endpoints, tokens_in, tokens_out, batch=batch), None, None
    basis = calibration.basis(sample)
    if times > 1.005:
        basis += f", {times:.2f} times as much for what had to be asked again"
    if cost is not None:
        of_sent = _cost(endpoints, amount * sent.deviation, 0.0, batch=batch) or 0.0
        of_replied = _cost(endpoints, 0.0, amount * replied.deviation, batch=batch) or 0.0
        cost_margin = INTERVAL * math.hypot(of_sent, of_replied)
        cost_low, cost_high = max(0.0, cost - cost_margin), cost + cost_margin
    return Estimate(
        requests=round(amount),
        tokens_in=round(tokens_in),
        tokens_out=round(tokens_out),
        tokens_low=round(max(0.0, tokens_in + tokens_out - margin)),
        tokens_high=round(tokens_in + tokens_out + margin),
        cost=cost,
        cost_low=cost_low,
        cost_high=cost_high,
        basis=basis,
        is_rough=not calibration.is_measured and num_requests > ENOUGH_TO_MEASURE,
    )


def _cost(endpoints: Sequence[Endpoint], tokens_in: float, tokens_out: float, *, batch: bool) -> float | None:
    """US dollars for so many tokens, shared among the endpoints by weight; None if one of them has no price."""
    total = 0.0
    for endpoint in endpoints:
        per_million_in = endpoint.cost(1_000_000, 0, batch=batch)
        per_million_out = endpoint.cost(0, 1_000_000, batch=batch)
        if per_million_in is None or per_million_out is None:
            return None
        total += endpoint.weight * (per_million_in * tokens_in + per_million_out * tokens_out) / 1e6
    return total / sum(endpoint.weight for endpoint in endpoints)


def _mean_of_all(drawn: Sequence[float], number: int) -> Mean:
    """The mean of `number` values of which these were drawn at random."""
    return Mean(fmean(drawn), _deviation(drawn) * math.sqrt(max(0.0, 1 / len(drawn) - 1 / number)))


def _mean_to_come(past: Sequence[float], number: int) -> Mean:
    """The mean of `number` values to come that are like those of the past."""
    return Mean(fmean(past), _deviation(past) * math.sqrt(1 / len(past) + 1 / number))


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else fmean(values)  # of one alone it is not known: be wide


def _features(text: str) -> list[float]:
    return [float(len(pattern.findall(text))) for pattern, _, _ in FEATURES]


def _tokens_in_general(text: str) -> float:
    return sum(count * weight for count, (_, weight, _) in zip(_features(text), FEATURES, strict=True))


def _reply_in_general(prompt: Prompt) -> float:
    return _tokens_in_general(prompt.example_reply) + 1.0  # the one that ends it


def _prompt_features(prompt: Prompt) -> list[float]:
    return [*_features("\n".join(message["content"] for message in prompt.messages)), 1.0]


def _fitted(rows: Sequence[Sequence[float]], tokens: Sequence[int]) -> "tuple[np.ndarray, np.ndarray]":
    """
    The weights of N prompts' features, (F,), and their covariance, (F, F): ridge regression towards the general
    weights, held there by their spread.
    """
    import numpy as np

    start = np.array([*(weight for _, weight, _ in FEATURES), TEMPLATE_TOKENS])
    precision = np.diag([*(spread**-2 for _, _, spread in FEATURES), TEMPLATE_SPREAD**-2])
    if not rows:
        return start, np.linalg.inv(precision)
    rows_NF, tokens_N = np.array(rows), np.array(tokens, dtype=float)
    noise_N = np.maximum(2.0, LINE_NOISE * tokens_N)  # a share, so that one absurd count does not bend the line
    scaled_NF = rows_NF / noise_N[:, None]
    covariance = np.linalg.inv(precision + scaled_NF.T @ scaled_NF)
    weights = covariance @ (precision @ start + scaled_NF.T @ (tokens_N / noise_N))
    return weights, covariance

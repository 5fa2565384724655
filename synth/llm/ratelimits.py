"""
What the headers of a response say about when and how much to ask: Retry-After and the x-ratelimit-* family.

Every provider writes them in its own way, some servers write nonsense: a value that makes no sense is None.
"""

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from synth.llm.faults import Limits

MOST_COUNT = 10**12  # requests or tokens in one window
MOST_WAIT = 365 * 86_400.0  # seconds; whoever says more means never
MOST_SECONDS = 7 * 86_400.0  # until a window is whole again: providers have them of a minute, an hour, a day

_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")  # 6m0s, 120ms
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
# A plain number as large as this is no span of time but a moment: seconds since 1970, or milliseconds.
_EPOCH, _EPOCH_IN_MS = 1e9, 1e12


def limits_of(headers: Mapping[str, str]) -> Limits | None:
    """
    What x-ratelimit-{limit,remaining,reset}-{requests,tokens} say, None where they say nothing at all: without a limit
    the other two mean nothing.
    """
    get = headers.get
    requests, tokens = get("x-ratelimit-limit-requests"), get("x-ratelimit-limit-tokens")
    if requests is None and tokens is None:
        return None
    limits = Limits(
        # a limit of 0 would serve nobody, and this response came from somewhere
        requests=_count(requests) or None,
        requests_left=_count(get("x-ratelimit-remaining-requests")),
        requests_reset=_seconds_until(get("x-ratelimit-reset-requests")),
        tokens=_count(tokens) or None,
        tokens_left=_count(get("x-ratelimit-remaining-tokens")),
        tokens_reset=_seconds_until(get("x-ratelimit-reset-tokens")),
    )
    return None if limits == Limits() else limits


def retry_after(headers: Mapping[str, str]) -> float | None:
    """
    Seconds from now by `retry-after-ms` or `Retry-After` (seconds or a date), at most a year; None where neither makes
    sense.
    """
    seconds = _retry_after(headers)
    return None if seconds is None else min(seconds, MOST_WAIT)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return max(0.0, seconds * unit)
    said = headers.get("retry-after", "")
    seconds = _span(said)
    return seconds if seconds is not None else _moment(said)


def _count(said: str | None) -> int | None:
    if said is None or not (said.isascii() and said.isdigit()) or len(said) > 15:
        return None
    count = int(said)
    return count if count <= MOST_COUNT else None


def _seconds_until(said: str | None) -> float | None:
    if said is None:
        return None
    seconds = _span(said)
    if seconds is None and (seconds := _number(said)) is not None and seconds >= _EPOCH:
        seconds = max(0.0, (seconds / 1000 if seconds >= _EPOCH_IN_MS else seconds) - time.time())
    if seconds is None:
        seconds = _moment(said)
    return seconds if seconds is not None and 0 <= seconds <= MOST_SECONDS else None


def _number(said: str | None) -> float | None:
    try:
        number = float(said or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _span(said: str) -> float | None:
    parts = _PART.findall(said) if len(said) < 50 else []
    if not parts or "".join(number + unit for number, unit in parts) != said:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _moment(said: str) -> float | None:
    """Seconds from now to a date as in mails or in ISO 8601, 0 for one that has passed."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return max(0.0, read(said).timestamp() - time.time())
        except (ValueError, OverflowError):
            continue
    return None

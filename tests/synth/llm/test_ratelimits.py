"""What headers say about when and how much to ask, in the ways that servers write it."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from synth.llm.faults import Limits
from synth.llm.ratelimits import limits_of, retry_after

SOON = datetime.now(UTC) + timedelta(days=1)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": "1e308"}, 365 * 86_400.0),
        ({"retry-after-ms": "1e300"}, 365 * 86_400.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 365 * 86_400.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 +9999999999"}, None),
        ({"retry-after": "\udcff"}, None),
    ],
)
def test_retry_after_is_seconds_a_span_or_a_date(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers) == expected


def test_a_date_is_counted_from_now() -> None:
    seconds = retry_after({"retry-after": format_datetime(SOON, usegmt=True)})
    assert seconds is not None and abs(seconds - (SOON.timestamp() - time.time())) < 5


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", 3723.5),
        ("13.5µs", 13.5e-6),
        ("7", 7.0),
        ("0.25", 0.25),
        ("0", 0.0),
        ("0s", 0.0),
        ("2d", 172_800.0),
        ("2001-01-01T00:00:00Z", 0.0),
        ("1000000000", 0.0),  # the moment, long ago
        ("-1", None),
        ("nan", None),
        ("1e300", None),
        ("99999999999999", None),
        ("30d", None),
        ("6m0x", None),
        ("s", None),
        ("", None),
        ("9" * 400 + "s", None),
    ],
)
def test_the_reset_of_a_window_is_a_span_seconds_or_a_moment(said: str, expected: float | None) -> None:
    limits = limits_of({"x-ratelimit-limit-requests": "10", "x-ratelimit-reset-requests": said})
    assert limits is not None and limits.requests_reset == pytest.approx(expected)


@pytest.mark.parametrize(
    "said", [SOON.isoformat(), f"{SOON.timestamp():.0f}", f"{SOON.timestamp() * 1000:.0f}"], ids=["iso", "s", "ms"]
)
def test_a_moment_to_come_is_counted_from_now(said: str) -> None:
    limits = limits_of({"x-ratelimit-limit-tokens": "10", "x-ratelimit-reset-tokens": said})
    assert limits is not None and limits.tokens_reset is not None
    assert abs(limits.tokens_reset - (SOON.timestamp() - time.time())) < 5


@pytest.mark.parametrize("said", ["-1", "nan", "1e9", "", "many", "٣", "1" * 16, "9" * 5000, "0.5"])
def test_counts_that_make_no_sense_say_nothing(said: str) -> None:
    headers = dict.fromkeys(("x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens"), said)
    assert limits_of(headers) is None


def test_what_is_left_says_nothing_where_the_limit_is_not_said() -> None:
    assert limits_of({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1s"}) is None


def test_all_six_are_read_and_a_limit_of_nothing_is_none() -> None:
    headers = {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "100ms",
        "x-ratelimit-limit-tokens": "0",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert limits_of(headers) == Limits(600, 0, 0.1, None, 149_984, 360.0)


def test_without_such_headers_there_is_nothing() -> None:
    assert limits_of({"content-type": "application/json", "x-ratelimit-limit": "7"}) is None

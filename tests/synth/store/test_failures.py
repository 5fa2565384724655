"""Failures: told in one line each, not asked again as they are, and found for those who want to try once more."""

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

import pytest

from synth.records import key_of, new_id
from synth.store import failures
from synth.store.connection import Store
from synth.store.console import query
from synth.store.failures import LONGEST_REASON, Failure, one_line
from synth.store.judgements import Judge, Judgement, add_judgements
from tests.synth.store import finishing

KEY, RUN = key_of("a configuration"), new_id()
FAILURE = Failure(
    stage_key=KEY,
    seed_id=key_of("a seed"),
    request_key=key_of("a request"),
    asked="m",
    server="http://127.0.0.1:8000/v1",
    prompt_version="p-1",
    attempt=0,
    kind="too_long",
    reason="8,193 tokens are too many",
    permanent=True,
    attempts=1,
)
BROKEN = replace(
    FAILURE,
    seed_id=key_of("b seed"),
    request_key=key_of("b request"),
    kind="broken",
    reason="500",
    permanent=False,
    attempts=7,
)


def add(store: Store, *added: Failure, run_id: UUID = RUN) -> None:
    with store.write() as cursor:
        failures.add_failures(cursor, added, run_id)


def finish(store: Store, seed_ids: Iterable[UUID], stage_key: UUID = KEY) -> None:
    with store.write() as cursor:
        finishing.finish(cursor, stage_key, *seed_ids)


def test_a_failure_is_told_with_all_that_is_known_of_it(store: Store) -> None:
    add(store, BROKEN)
    [row] = query(store, "SELECT * EXCLUDE (failure_id, created_at) FROM failures").to_pylist()
    assert row == {
        "kind": "broken",
        "reason": "500",
        "permanent": False,
        "attempts": 7,
        "asked": "m",
        "server": "http://127.0.0.1:8000/v1",
        "prompt_version": "p-1",
        "attempt": 0,
        "is_finished": False,
        "seed_id": str(BROKEN.seed_id),
        "request_key": str(BROKEN.request_key),
        "run_id": str(RUN),
    }


def test_a_failure_is_finished_once_its_seed_is_under_the_same_configuration(store: Store) -> None:
    add(store, FAILURE, BROKEN)
    finish(store, [FAILURE.seed_id])
    finish(store, [BROKEN.seed_id], key_of("another configuration"))
    rows = query(store, "SELECT kind, is_finished FROM failures ORDER BY kind").to_pylist()
    assert [(row["kind"], row["is_finished"]) for row in rows] == [("broken", False), ("too_long", True)]


def test_a_failure_of_a_judge_is_finished_once_it_has_graded_the_sample(store: Store) -> None:
    def say(seed_id: UUID, key: UUID = KEY) -> None:
        judge = Judge(("m",), "llm", "p-1", key)
        with store.write() as cursor:
            add_judgements(cursor, judge, new_id(), [Judgement(new_id(), seed_id, new_id(), True, "m", 3)])

    say(FAILURE.seed_id)  # the first of two requests about a sample: the second got nothing
    add(store, FAILURE, BROKEN)
    say(BROKEN.seed_id, key_of("another judge"))
    assert query(store, "SELECT kind FROM failures WHERE is_finished").to_pylist() == []
    say(FAILURE.seed_id)
    assert query(store, "SELECT kind FROM failures WHERE is_finished").to_pylist() == [{"kind": "too_long"}]
    add(store, replace(FAILURE, attempt=1))  # what was asked with it was graded, it was not
    assert query(store, "SELECT kind FROM failures WHERE is_finished").to_pylist() == []


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("a\nb\t c\r\n", "a b c"),
        ("\x1b[31mred\u202e\0\ud800", "\\x1b[31mred\\u202e\\x00\\ud800"),
        ("héllo 世界 🎉", "héllo 世界 🎉"),
        ("x" * (LONGEST_REASON + 1), "x" * (LONGEST_REASON - 1) + "…"),
        ("\x00" * 10**6, "\\x00" * 74 + "\\x0…"),
        (" " * 10**6, ""),
        ("no http://ann:pa@ss@host/v1@2, write to a@b.org", "no http://host/v1@2, write to a@b.org"),
    ],
)
def test_whatever_a_server_says_is_stored_as_one_short_printable_line(store: Store, said: str, stored: str) -> None:
    assert one_line(said) == stored
    assert one_line(said).isprintable() and len(one_line(said)) <= LONGEST_REASON
    add(store, replace(FAILURE, reason=said))
    assert query(store, "SELECT reason FROM failures").to_pylist() == [{"reason": stored}]


def test_only_what_would_fail_again_is_hopeless_and_for_its_own_configuration(store: Store) -> None:
    add(store, FAILURE, BROKEN, replace(FAILURE, stage_key=key_of("another"), request_key=key_of("another request")))
    assert failures.hopeless(store, KEY) == {FAILURE.request_key: ("too_long", "8,193 tokens are too many")}


def test_what_was_learnt_last_of_a_hopeless_request_counts(store: Store) -> None:
    add(store, FAILURE)
    add(store, replace(FAILURE, kind="cut", reason="at max_tokens"))
    assert failures.hopeless(store, KEY) == {FAILURE.request_key: ("cut", "at max_tokens")}


def test_a_retry_makes_a_new_attempt_only_where_the_same_request_would_fail_again(store: Store) -> None:
    add(store, FAILURE, BROKEN)
    assert failures.to_ask_again(store, RUN) == {FAILURE.seed_id: 1, BROKEN.seed_id: 0}
    retried = replace(FAILURE, request_key=key_of("attempt 1"), attempt=1)
    add(store, retried, run_id=new_id())
    assert failures.to_ask_again(store, RUN)[FAILURE.seed_id] == 2
    add(store, replace(retried, attempt=2, permanent=False, kind="timeout"), run_id=new_id())
    assert failures.to_ask_again(store, RUN)[FAILURE.seed_id] == 2


def test_the_failures_of_a_run_are_those_of_the_named_kinds_that_nobody_finished(store: Store) -> None:
    timed_out = replace(BROKEN, seed_id=key_of("c seed"), kind="timeout")
    add(store, FAILURE, BROKEN, timed_out)
    assert set(failures.to_ask_again(store, RUN, ["broken", "timeout"])) == {BROKEN.seed_id, timed_out.seed_id}
    finish(store, [BROKEN.seed_id])
    assert set(failures.to_ask_again(store, RUN)) == {FAILURE.seed_id, timed_out.seed_id}
    assert failures.to_ask_again(store, RUN, ["empty"]) == failures.to_ask_again(store, new_id()) == {}


def test_what_a_run_left_is_counted_by_kind_without_what_was_finished_since(store: Store) -> None:
    cut = [replace(FAILURE, seed_id=key_of(number), kind="cut") for number in range(3)]
    add(store, FAILURE, BROKEN, *cut)
    add(store, replace(BROKEN, kind="timeout"), run_id=new_id())
    finish(store, [BROKEN.seed_id, cut[0].seed_id])
    assert list(failures.left(store, RUN).items()) == [("cut", 2), ("too_long", 1)]


def test_the_seeds_to_retry_come_in_the_order_of_their_ids(store: Store) -> None:
    many = [replace(BROKEN, seed_id=key_of(number)) for number in range(50)]
    add(store, *many)
    assert list(failures.to_ask_again(store, RUN)) == sorted(failure.seed_id for failure in many)


def test_no_failures_are_no_work(store: Store) -> None:
    add(store)
    assert query(store, "FROM failures").num_rows == 0

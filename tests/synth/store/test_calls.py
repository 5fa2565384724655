"""Calls: what was paid for is stored once, whoever reads it again."""

from dataclasses import replace

from synth.records import key_of, new_id
from synth.store.calls import Call, add_calls
from synth.store.connection import Store
from synth.store.console import query

CALL = Call(
    call_id=key_of("a request"),
    seed_id=key_of("a passage"),
    model="m",
    prompt_version="p-1",
    sampling={"temperature": 1.0, "max_tokens": 64},
    attempt=0,
    outcome="used",
    tokens_in=10,
    tokens_out=5,
    cost=0.25,
    seconds=1.5,
)


def test_the_same_call_is_stored_once_within_a_batch_and_ever_after(store: Store) -> None:
    other = replace(CALL, call_id=key_of("another"), outcome="cut", cost=None, seconds=None, seed_id=None)
    with store.write() as cursor:
        assert add_calls(cursor, [CALL, other, CALL], new_id()) == 2
    with store.write() as cursor:
        assert add_calls(cursor, [replace(CALL, outcome="rejected")], new_id()) == 0
    rows = query(
        store, "SELECT outcome, cost, seconds, sampling->>'max_tokens' AS most FROM calls ORDER BY 1"
    ).to_pylist()
    assert rows == [
        {"outcome": "cut", "cost": None, "seconds": None, "most": "64"},
        {"outcome": "used", "cost": 0.25, "seconds": 1.5, "most": "64"},
    ]


def test_no_calls_are_no_work(store: Store) -> None:
    with store.write() as cursor:
        assert add_calls(cursor, [], new_id()) == 0

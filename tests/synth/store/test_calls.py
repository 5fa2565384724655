"""Calls: what was paid for is stored once, whoever reads it again."""

from dataclasses import replace

from synth.records import key_of, new_id
from synth.store import runs
from synth.store.calls import Call, Paid, add_calls, paid_calls
from synth.store.connection import Store
from synth.store.console import query
from tests.synth.store.finishing import finish

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
    server="http://127.0.0.1:8000/v1",
    asked="configured",
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


def test_a_call_says_what_was_asked_where_and_why_the_reply_was_not_used(store: Store) -> None:
    told = replace(CALL, reason="no JSON:\n\x1b[31m\ud800", repaired="asked again", batch="batch_1")
    with store.write() as cursor:
        add_calls(cursor, [told], new_id())
    assert query(store, "SELECT model, asked, server, reason, repaired, batch FROM calls").to_pylist() == [
        {
            "model": "m",
            "asked": "configured",
            "server": "http://127.0.0.1:8000/v1",
            "reason": "no JSON: \\x1b[31m\\ud800",
            "repaired": "asked again",
            "batch": "batch_1",
        }
    ]


def test_earlier_calls_are_those_of_the_same_models_prompt_and_number_asked_for(store: Store) -> None:
    def bought(*calls: Call, per_seed: int = 4) -> None:
        with runs.recorded(store, "generate", {"per_seed": per_seed}) as run, store.write() as cursor:
            add_calls(cursor, [replace(call, call_id=new_id()) for call in calls], run.run_id)

    bought(replace(CALL, tokens_in=1))
    bought(replace(CALL, tokens_in=2, seed_id=key_of("another passage")))
    bought(replace(CALL, asked="other"), replace(CALL, prompt_version="p-2"), replace(CALL, seed_id=None))
    bought(replace(CALL, repaired="asked again"))
    bought(CALL, per_seed=2)
    found = paid_calls(store, ["configured", "third"], "p-1", per_seed=4, limit=5)
    assert found == [Paid(key_of("another passage"), 2, 5, None, None), Paid(key_of("a passage"), 1, 5, None, None)]
    assert paid_calls(store, ["configured"], "p-1", per_seed=4, limit=1) == found[:1]


def test_what_was_asked_again_about_a_seed_is_told_by_how_much_it_took(store: Store) -> None:
    again = [replace(CALL, turn=1), replace(CALL, repaired="asked again", tokens_in=25)]
    with runs.recorded(store, "generate", {"per_seed": 4}) as run, store.write() as cursor:
        add_calls(cursor, [replace(call, call_id=new_id()) for call in (CALL, *again)], run.run_id)
    [begun] = paid_calls(store, ["configured"], "p-1", per_seed=4, limit=5)
    assert begun == Paid(key_of("a passage"), 10, 5, None, None)
    with store.write() as cursor:
        finish(cursor, key_of("settings"), key_of("a passage"))
    [done] = paid_calls(store, ["configured"], "p-1", per_seed=4, limit=5)
    assert done == replace(begun, times=4.0, num_requests=3)


def test_no_calls_are_no_work(store: Store) -> None:
    with store.write() as cursor:
        assert add_calls(cursor, [], new_id()) == 0

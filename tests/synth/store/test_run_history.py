"""What is told of runs: the latest, one that is named in any way, and its models, outcomes and failures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from synth.records import Draft, Retrieval, Source, UserError, key_of, new_id
from synth.store import runs, samples
from synth.store.calls import Call, add_calls
from synth.store.connection import Store
from synth.store.failures import Failure, add_failures
from synth.store.made import add_finished
from synth.store.rows import insert, now
from synth.store.run_history import find_run, generate_config, num_runs, num_unfinished, recent, story
from tests.synth.store.finishing import done, finish

CALL = Call(
    call_id=key_of("a request"),
    seed_id=key_of("a seed"),
    model="small-2026",
    prompt_version="p-1",
    sampling={"temperature": 1.0},
    attempt=0,
    outcome="used",
    tokens_in=100,
    tokens_out=10,
    cost=0.5,
    seconds=1.0,
    server="http://127.0.0.1:8000/v1",
    asked="small",
)
FAILURE = Failure(
    key_of("a configuration"), key_of("a seed"), key_of("r"), "small", "s", "p-1", 0, "too_long", "long", True, 1
)


def add_run(store: Store, run_id: UUID | None = None, kind: str = "generate") -> UUID:
    """The row of a run that has not ended."""
    row: dict[str, Any] = {"run_id": run_id or new_id(), "kind": kind, "started_at": now(), "config": '{"n": 1}'}
    with store.write() as cursor:
        insert(cursor, "run", [row | {"code_version": "0", "model": "small", "prompt_version": "p-1", "device": ""}])
    return UUID(str(row["run_id"]))


def add(store: Store, run_id: UUID, calls: Sequence[Call] = (), failures: Sequence[Failure] = ()) -> None:
    """Calls as they are, but each a request of its own."""
    with store.write() as cursor:
        add_calls(cursor, [replace(call, call_id=new_id()) for call in calls], run_id)
        add_failures(cursor, failures, run_id)


def test_the_latest_runs_come_first_and_no_more_than_asked_for(store: Store) -> None:
    ids = [add_run(store, kind=kind) for kind in ("ingest", "generate", "mine", "generate")]
    assert [run["run_id"] for run in recent(store, kind=None, limit=3)] == ids[:0:-1]
    assert [run["run_id"] for run in recent(store, kind="generate", limit=20)] == [ids[3], ids[1]]
    assert recent(store, kind="train", limit=20) == []
    assert [num_runs(store, kind=kind) for kind in (None, "generate", "train")] == [4, 2, 0]


def test_a_kind_that_no_run_is_of_is_refused_with_those_that_there_are(store: Store) -> None:
    with pytest.raises(UserError, match=r"'\\x1b\[31m'; the kinds are ingest, generate"):
        recent(store, kind="\x1b[31m", limit=1)


def test_a_run_is_told_with_what_it_made_asked_and_paid(store: Store, training_source: Source) -> None:
    with runs.recorded(store, "generate", {"per_seed": 2}, model="small") as run:
        drafts = [Draft(Retrieval(query, ("p",)), training_source.source_id, "query") for query in ("a", "b", "a")]
        with store.write() as cursor:
            samples.add_drafts(cursor, drafts, run.run_id)
        run.requests, run.tokens_in, run.tokens_out, run.cost = 3, 200, 20, 0.25
    [told] = recent(store, kind=None, limit=20)
    expected = {"status": "done", "config": {"per_seed": 2}, "num_samples": 2, "requests": 3, "cost": 0.25}
    assert told | expected == told


def test_negatives_judgements_and_moved_positives_are_counted_by_their_run(store: Store) -> None:
    first, second = add_run(store, kind="mine"), add_run(store, kind="relabel")
    with store.write() as cursor:
        insert(cursor, "negative", [{"negative_id": new_id(), "run_id": first} for _ in range(3)])
        insert(cursor, "judgement", [{"judgement_id": new_id(), "run_id": second} for _ in range(2)])
        moved = [{"sample_id": new_id(), "run_id": second, "moved_to": each} for each in (new_id(), None)]
        insert(cursor, "relabelled", moved)
    numbers = ("num_samples", "num_negatives", "num_judgements", "num_moved")
    told = [tuple(run[name] for name in numbers) for run in recent(store, kind=None, limit=2)]
    assert told == [(0, 0, 2, 1), (0, 3, 0, 0)]


def test_a_run_that_has_not_ended_is_told_with_what_is_stored_so_far(store: Store) -> None:
    add(store, add_run(store), [CALL, replace(CALL, outcome="cut")])
    [told] = recent(store, kind=None, limit=20)
    expected = {"status": "unfinished", "requests": 2, "tokens_in": 200, "tokens_out": 20, "cost": 1.0, "seconds": None}
    assert told | expected == told


def test_a_run_is_named_by_its_id_an_end_or_a_beginning_of_it_or_as_the_last(store: Store) -> None:
    other, run_id = (add_run(store, UUID(digits * 16)) for digits in ("1a", "2b"))
    for given in (run_id, run_id.hex, f" {run_id} ".upper(), str(run_id)[-8:], str(run_id)[-14:], "2b2b", "last"):
        assert find_run(store, str(given)) == run_id
    assert find_run(store, str(other)[-8:]) == other


@pytest.mark.parametrize("given", ["", "2b", "%%%%", "____", "first", "\x1b[31m", "2b2b' OR 1=1 --", "2" * 33])
def test_what_can_be_no_id_is_refused_in_one_line(store: Store, given: str) -> None:
    add_run(store, UUID("2b" * 16))
    with pytest.raises(UserError, match=r"is no run: give `last`, or 4 or more digits") as raised:
        find_run(store, given)
    assert str(raised.value).isprintable()


def test_an_id_that_no_run_has_is_refused_and_so_is_the_last_of_none(store: Store) -> None:
    with pytest.raises(UserError, match="nothing was run yet; begin with `synth ingest PATH`"):
        find_run(store, "last")
    with pytest.raises(UserError, match="no run's id ends with '1234abcd'; `synth runs` lists the runs"):
        find_run(store, "1234abcd")


def test_an_end_that_several_runs_have_is_refused_with_some_of_them(store: Store) -> None:
    ids = [add_run(store, UUID(f"{number:024x}1234abcd")) for number in range(1, 7)]
    with pytest.raises(UserError, match=r"'1234abcd' may be generate .* or others; give more digits") as raised:
        find_run(store, "1234abcd")
    assert [str(run_id) in str(raised.value) for run_id in ids] == [False, False, True, True, True, True]


def test_what_a_run_is_listed_under_always_finds_it(store: Store) -> None:
    ends = ("0001-11111234abcd", "0001-22221234abcd", "0002-22221234abcd", "0001-33335678abcd")
    ids = {add_run(store, UUID(f"00000000-0000-7000-{end}")) for end in ends}
    told = {run["run_id"]: run["ending"] for run in recent(store, kind=None, limit=20)}
    assert {find_run(store, ending) for ending in told.values()} == ids == set(told)
    assert sorted(map(len, told.values())) == [8, 12, 36, 36]


def test_the_mixture_of_models_is_told_by_model_and_server(store: Store) -> None:
    run_id = add_run(store)
    other = replace(CALL, asked="large", model="large-2026", cost=None, seconds=None, batch="batch_1")
    add(store, run_id, [CALL, replace(CALL, seconds=3.0), other, replace(CALL, server="http://127.0.0.1:8001/v1")])
    add(store, add_run(store), [CALL])
    small = {"model": "small", "batched": 0}
    assert story(store, run_id)["models"] == [
        small
        | {"server": CALL.server, "calls": 2, "tokens_in": 200, "tokens_out": 20, "cost": 1.0, "median_seconds": 2.0},
        {
            "model": "large",
            "server": CALL.server,
            "calls": 1,
            "batched": 1,
            "tokens_in": 100,
            "tokens_out": 10,
            "cost": None,
            "median_seconds": None,
        },
        small
        | {
            "server": "http://127.0.0.1:8001/v1",
            "calls": 1,
            "tokens_in": 100,
            "tokens_out": 10,
            "cost": 0.5,
            "median_seconds": 1.0,
        },
    ]


def test_a_sum_that_lacks_some_prices_is_no_price(store: Store) -> None:
    run_id = add_run(store)
    add(store, run_id, [CALL, replace(CALL, cost=None)])
    told = story(store, run_id)
    assert (told["cost"], told["models"][0]["cost"]) == (None, None)


def test_the_seeds_that_a_run_did_not_come_to_are_neither_done_nor_failed(store: Store) -> None:
    run_id = add_run(store)
    assert num_unfinished(store, run_id) == 0  # of an earlier version, which did not say how many there were
    with store.write() as cursor:
        cursor.execute("UPDATE run SET config = '{\"num_seeds\": 5}'")
        finish(cursor, key_of("a configuration"), key_of(1), key_of(2), run_id=run_id)
    add(store, run_id, failures=[FAILURE, replace(FAILURE, kind="cut")])
    assert num_unfinished(store, run_id) == 2


def test_outcomes_are_told_with_their_three_most_frequent_reasons_and_how_many_had_others(store: Store) -> None:
    run_id = add_run(store)
    reasons = ["no JSON"] * 3 + ["cut"] * 2 + ["a", "aa", "b"]
    add(store, run_id, [replace(CALL, outcome="unusable", reason=reason) for reason in reasons[:-1]])
    add(store, run_id, [replace(CALL, outcome="unusable", reason=reasons[-1], repaired="asked again")])
    add(store, run_id, [replace(CALL, outcome="unusable")])  # of an earlier version, which gave no reason
    add(store, run_id, [CALL, replace(CALL, repaired="found"), replace(CALL, repaired="cut")])
    assert story(store, run_id)["outcomes"] == [
        {
            "outcome": "unusable",
            "calls": 9,
            "repaired": 0,
            "cut": 0,
            "asked_again": 1,
            "reasons": [{"n": 3, "reason": "no JSON"}, {"n": 2, "reason": "cut"}, {"n": 1, "reason": "b"}],
            "other_reasons": 2,
        },
        {"outcome": "used", "calls": 3, "repaired": 1, "cut": 1, "asked_again": 0, "reasons": [], "other_reasons": 0},
    ]


def test_what_replies_offered_and_checks_rejected_is_told_by_reason_of_this_run_alone(store: Store) -> None:
    run_id, other = add_run(store), add_run(store)
    with store.write() as cursor:
        for run, seed, rejections in (
            (run_id, 1, {'a "b".c': 1, "language": 2}),
            (run_id, 2, {"language": 3}),
            (run_id, 3, {}),
            (other, 4, {"language": 7}),
        ):
            add_finished(cursor, key_of("a configuration"), run, [done(key_of(seed), rejections=rejections)])
    assert story(store, run_id)["rejections"] == [{"reason": "language", "n": 5}, {"reason": 'a "b".c', "n": 1}]


def test_failures_are_told_by_kind_and_with_how_many_were_finished_since(store: Store) -> None:
    run_id = add_run(store)
    broken = [
        replace(FAILURE, seed_id=key_of(number), kind="broken", reason="500", permanent=False) for number in (1, 2)
    ]
    add(store, run_id, failures=[FAILURE, *broken])
    with store.write() as cursor:
        finish(cursor, FAILURE.stage_key, key_of(1))
    assert story(store, run_id)["failures"] == [
        {
            "kind": "broken",
            "permanent": False,
            "requests": 2,
            "finished_since": 1,
            "reasons": [{"n": 2, "reason": "500"}],
            "other_reasons": 0,
        },
        {
            "kind": "too_long",
            "permanent": True,
            "requests": 1,
            "finished_since": 0,
            "reasons": [{"n": 1, "reason": "long"}],
            "other_reasons": 0,
        },
    ]


def test_calls_of_before_servers_were_stored_are_told_by_what_the_server_called_itself(store: Store) -> None:
    run_id = add_run(store)
    add(store, run_id, [CALL])
    with store.write() as cursor:
        cursor.execute("UPDATE llm_call SET server = NULL, asked = NULL, reason = NULL, repaired = NULL, batch = NULL")
    told = story(store, run_id)
    assert (told["models"][0]["model"], told["models"][0]["server"]) == ("small-2026", None)
    assert told["outcomes"] == [
        {"outcome": "used", "calls": 1, "repaired": 0, "cut": 0, "asked_again": 0, "reasons": [], "other_reasons": 0}
    ]


def test_the_configuration_of_a_generate_run_is_what_it_was_told(store: Store) -> None:
    told = {"task": "retrieval", "operation": "query", "sources": ["guide"], "per_seed": 4, "temperature": 1.0}
    told |= {"language": "", "max_tries": 1}
    with runs.recorded(store, "generate", told) as run:
        assert generate_config(store, run.run_id) == told


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("mine", "is of the kind mine; only what `synth generate` asked"),
        ("generate", "asked no LLM, or is of"),
        ("judge", "`synth judge --again`, with the options of that run"),
        ("relabel", "`synth relabel --again`, with the options of that run"),
    ],
)
def test_a_run_that_cannot_be_asked_again_is_refused_with_what_can(store: Store, kind: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        generate_config(store, add_run(store, kind=kind))


def test_a_run_that_asked_nothing_has_no_models_outcomes_or_failures(store: Store) -> None:
    told = story(store, add_run(store, kind="mine"))
    assert [told[part] for part in ("models", "outcomes", "rejections", "failures")] == [[], [], [], []]

"""A report's numbers are those of the store, and of `synth runs show`."""

import json
from pathlib import Path

import pytest

from synth.records import Classification, Retrieval, Sts, Written
from synth.stages.report.run import DIFFERENCE, LENGTH, WORDS, Report, as_json, outcome, report
from synth.store.connection import Store
from synth.store.console import query
from synth.store.made import Finished
from synth.store.reported_runs import find_reported_run
from synth.store.run_history import story
from synth.store.run_report import Scope
from tests.chat_server import ChatServer, Messages
from tests.synth.stages.generating import plan, run
from tests.synth.stages.reporting import ADDED, HARBOUR, TOWER, a_run, added, draft, passage, rejected, with_sources

ASKED = ADDED[Retrieval]
assert isinstance(ASKED, Retrieval)


def of(store: Store, *finished: Finished, **settings: object) -> Report:
    return report(store, Scope(a_run(store, *finished, **settings)))  # type: ignore[arg-type]


def mixed(messages: Messages) -> str:
    """Two queries, of which one is far too short; what is asked for again is as bad."""
    text = messages[1]["content"]
    name = next(name for name in ("Alder", "Birch", "Cedar", "Dogwood", "Elm") if f"of {name}" in text)
    return json.dumps({"queries": [f"when did people dig the port at {name}, try {len(messages)}?", "what"]})


async def test_the_numbers_add_up_to_those_of_the_store_and_of_runs_show(with_passages: Store, tmp_path: Path) -> None:
    store = with_passages
    async with ChatServer(mixed) as server:
        made = plan(store, tmp_path, server.base_url, per_seed=3, max_tries=2)
        told = await run(store, made)
    run_id, _ = find_reported_run(store, None)
    found, shown = outcome(store, run_id), story(store, run_id)
    assert (found.num_seeds, found.num_done, found.num_short, found.tries) == (5, 5, 5, {2: 5})
    assert (found.num_offered, found.num_accepted, found.num_samples, found.num_known) == (20, 10, 10, 0)
    assert found.num_accepted == told.num_stored and found.num_short == told.num_short
    assert {each.reason: each.num for each in found.rejections} == told.rejections
    assert [{"reason": each.reason, "n": each.num} for each in found.rejections] == shown["rejections"]
    assert sum(each.num for each in found.rejections) == found.num_offered - found.num_accepted
    assert sum(each.share for each in found.rejections) == pytest.approx(0.5)
    [stored] = query(store, "SELECT count(*) AS n FROM samples").to_pylist()
    [kept] = query(store, "SELECT count(*) AS n FROM rejections").to_pylist()
    assert (stored["n"], kept["n"]) == (10, 10)
    assert (found.requests, found.tokens_in, found.cost) == (shown["requests"], shown["tokens_in"], shown["cost"])
    assert found.cost_per_stored == pytest.approx(told.usage.cost / 10 if told.usage.cost else None)
    assert found.tokens_per_stored == pytest.approx((told.usage.tokens_in + told.usage.tokens_out) / 10)


def test_rewritings_are_measured_against_their_originals(store: Store) -> None:
    with_sources(store)
    seeds = added(store, *ADDED.values())
    made = [
        Retrieval("by whom was the harbour dug?", (f"{HARBOUR} Always.",)),
        Sts("A boat sails.", "A vessel sails.", 4.2),
        Classification("where is my card?", "card_arrival"),
    ]
    finished = [Finished(seed, [draft(each, seed)]) for seed, each in zip(seeds, made, strict=True)]
    found = {(each.of, each.measure): each for each in of(store, *finished).spreads}
    assert found.keys() == {(name, m) for name in ("query", "passage", "text 2", "text") for m in (LENGTH, DIFFERENCE)}
    longer = found["passage", LENGTH].histogram
    assert longer.num == 1 and longer.median == pytest.approx(7 / 73)
    assert 0 < found["passage", DIFFERENCE].histogram.median < 0.1 < found["query", DIFFERENCE].histogram.median


def test_queries_of_passages_are_measured_in_words_and_by_script_if_there_are_two(store: Store) -> None:
    with_sources(store)
    english, chinese = passage(), passage(TOWER)
    finished = [
        Finished(english, [draft(Retrieval("who dug it?", (HARBOUR,)), english, operation="query")]),
        Finished(chinese, [draft(Retrieval("灯塔由什么砌成？", (TOWER,)), chinese, operation="query")]),
    ]
    both = of(store, *finished, operation="query")
    [spread] = both.spreads
    assert (spread.of, spread.measure, spread.histogram.num) == ("query", WORDS, 2)
    assert {script: each.num for script, each in spread.by_script.items()} == {"Chinese or Japanese": 1, "Latin": 1}
    again = of(store, finished[0], operation="query")
    assert (again.outcome.num_known, again.outcome.num_samples, again.spreads) == (1, 0, [])


def test_a_negative_costs_what_a_sample_would(store: Store) -> None:
    with_sources(store)
    [asked] = added(store, ASKED)
    written = [Written("Birch has no harbour.", "inadequate"), Written("Cedar has two.", "other_aspect")]
    found = of(store, Finished(asked, written), operation="hard-negative", cost=3.0).outcome
    assert (found.num_samples, found.num_negatives, found.stored_unit) == (0, 2, "negative")
    assert (found.cost_per_stored, found.tokens_per_stored) == (1.5, 55.0)


def test_where_no_price_is_stated_only_tokens_are_told(store: Store) -> None:
    with_sources(store)
    [asked] = added(store, ASKED)
    found = of(store, Finished(asked, [draft(Retrieval("who?", ("By hand.",)), asked)]), cost=None).outcome
    assert (found.cost, found.cost_per_stored, found.tokens_per_stored) == (None, None, 110.0)


def test_a_run_that_made_nothing_is_told_too(store: Store) -> None:
    with_sources(store)
    [asked] = added(store, ASKED)
    found = of(store, Finished(asked, [], [rejected("length", "a")]), num_seeds=3)
    assert (found.outcome.num_offered, found.outcome.num_accepted, found.outcome.num_not_reached) == (1, 0, 2)
    assert (found.spreads, found.accepted, found.source_leak) == ([], [], None)
    assert len(found.rejected) == 1 and found.outcome.cost_per_stored is None
    assert json.loads(json.dumps(as_json(found), default=str))["rejections"][0]["share"] == 1.0


def test_the_most_frequent_reason_comes_first_and_not_the_first_by_name(store: Store) -> None:
    with_sources(store)
    [asked] = added(store, ASKED)
    refused = [rejected("copied", "a"), *(rejected("unchanged", text) for text in "bcd"), rejected("length", "e")]
    found = of(store, Finished(asked, [], refused)).outcome.rejections
    assert [(each.reason, each.num) for each in found] == [("unchanged", 3), ("copied", 1), ("length", 1)]


def test_written_passages_are_told_from_real_ones_in_a_report(store: Store) -> None:
    with_sources(store)
    contents = [Retrieval(f"query {number}", (f"Passage {number} of many, {number * 7}.",)) for number in range(40)]
    seeds = added(store, *contents)
    finished = [
        Finished(each, [Written(f"Moreover, it is worth noting: {each.seed_id}", "inadequate")]) for each in seeds
    ]
    found = of(store, *finished, operation="hard-negative")
    assert found.num_written == 40 and found.source_leak is not None and found.source_leak.is_above_chance
    assert as_json(found)["source_leak"]["is_above_chance"] is True


def test_a_run_that_was_killed_is_told_by_what_is_stored_of_it(store: Store) -> None:
    with_sources(store)
    [asked] = added(store, ADDED[Retrieval])
    made = draft(Retrieval("by whom?", ("By hand.",)), asked)
    run_id = a_run(store, Finished(asked, [made], [rejected("length", "a")]), num_seeds=4)
    with store.write() as cursor:
        cursor.execute("DELETE FROM run_end WHERE run_id = ?", [run_id])
    found = outcome(store, run_id)
    assert (found.status, found.num_known, found.num_done, found.num_not_reached) == ("unfinished", None, 1, 3)
    assert (found.num_samples, found.num_offered, found.cost, found.tokens_in) == (1, 2, 0.5, 100)


def test_what_is_begun_is_not_among_what_is_not_reached(store: Store) -> None:
    with_sources(store)
    seeds = added(store, *ADDED.values())
    run_id = a_run(store, *(Finished(seed, []) for seed in seeds), num_seeds=6)
    with store.write() as cursor:
        cursor.execute("DELETE FROM generated WHERE run_id = ? AND seed_id <> ?", [run_id, seeds[0].seed_id])
    found = outcome(store, run_id)
    assert (found.num_done, found.num_begun, found.num_not_reached, found.tries) == (1, 2, 3, {1: 3})


def test_words_are_counted_in_whole_numbers(store: Store) -> None:
    with_sources(store)
    seed = passage()
    made = [draft(Retrieval(text, (HARBOUR,)), seed, operation="query") for text in ("who dug it?", "who dug it then?")]
    [spread] = of(store, Finished(seed, made), operation="query").spreads
    assert (spread.histogram.edges, spread.histogram.counts) == ((3.0, 4.0, 5.0), (1, 1))

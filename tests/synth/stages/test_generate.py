"""Generate: passages become samples once, whatever stops the run; over real HTTP with a small local server."""

from dataclasses import replace
from pathlib import Path

import pytest

from synth.llm.engine import LLMConfig
from synth.records import LLMError, Source, Task, Use, UserError, new_id, text_id
from synth.stages.generate import Generated, Plan, generate_samples, plan_generate
from synth.store import sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.sources import NewPassage
from tests.chat_server import ChatServer, Fault, completion

TEXTS = [
    f"Harbour {name}\nThe harbour of {name} was dug in {year} by hand. Its lighthouse guides every skiff at night. "
    f"Fishermen of {name} sell their catch on the quay before sunrise, whatever the weather brings."
    for name, year in (("Alder", 1780), ("Birch", 1802), ("Cedar", 1831), ("Dogwood", 1850), ("Elm", 1877))
]


@pytest.fixture
def with_passages(store: Store) -> Store:
    """A store with five passages of a source to train on."""
    source = Source("harbours", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, text.split("\n")[0], str(n)) for n, text in enumerate(TEXTS)]
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
    return store


PRICES = {"price_in": 2.0, "price_out": 8.0}


def plan(
    store: Store, tmp_path: Path, base_url: str | None = None, prices: dict[str, float] = PRICES, **changes: object
) -> Plan:
    llm = LLMConfig(base_url, "test-model", concurrency=2, max_retries=2, **prices) if base_url else None
    options: dict[str, object] = {
        "task": Task.RETRIEVAL,
        "operation": "query",
        "names": [],
        "num_queries": 3,
        "seed": 0,
        "limit": None,
    }
    return plan_generate(store, llm=llm, journal=tmp_path / "journal", **(options | changes))  # type: ignore[arg-type]


async def run(store: Store, made: Plan) -> Generated:
    return await generate_samples(store, made, on_progress=lambda _: None)


def samples(store: Store) -> list[dict[str, object]]:
    return query(store, "SELECT query, positives, method, model, prompt_version FROM samples ORDER BY ALL").to_pylist()


async def test_the_extractive_engine_needs_no_server_and_repeats_itself(with_passages: Store, tmp_path: Path) -> None:
    outcome = await run(with_passages, plan(with_passages, tmp_path))
    assert outcome.num_stored >= 10
    assert outcome.num_seeds == 5
    first = samples(with_passages)
    assert {row["model"] for row in first} == {"extractive"}
    again = await run(with_passages, plan(with_passages, tmp_path))
    assert (again.num_seeds, samples(with_passages)) == (0, first)


async def test_other_settings_are_another_stage_but_store_no_content_twice(
    with_passages: Store, tmp_path: Path
) -> None:
    await run(with_passages, plan(with_passages, tmp_path))
    before = len(samples(with_passages))
    more = await run(with_passages, plan(with_passages, tmp_path, num_queries=4))
    assert more.num_seeds == 5
    assert more.num_known == before
    assert len(samples(with_passages)) == before + more.num_stored


async def test_an_llm_is_asked_once_for_each_passage_and_pays_once(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer() as server:
        first = await run(with_passages, plan(with_passages, tmp_path, server.base_url, limit=2))
        second = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        third = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert [outcome.num_seeds for outcome in (first, second, third)] == [2, 3, 0]
    assert server.paid == 5
    assert first.tokens_in > 0
    assert {row["model"] for row in samples(with_passages)} == {"test-model"}
    assert {tuple(row["positives"]) for row in samples(with_passages)} == {(text,) for text in TEXTS}  # type: ignore


async def test_replies_in_the_journal_are_not_bought_again_when_the_store_lost_them(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer() as server:
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        before = samples(with_passages)
        with with_passages.write() as cursor:  # as if killed between the last reply and the first lease
            for table in ("generated", "revision", "sample_state"):
                cursor.execute(f"DELETE FROM {table}")
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert (server.paid, outcome.tokens_in, outcome.tokens_out) == (5, 0, 0)
    assert samples(with_passages) == before


async def test_what_came_before_the_server_died_is_kept_and_the_next_run_goes_on(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer(script=[None, None], faults={Fault.BROKEN: 1.0}) as server:
        with pytest.raises(LLMError, match="test-model"):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    kept = len({tuple(row["positives"]) for row in samples(with_passages)})  # type: ignore[arg-type]
    async with ChatServer() as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert 1 <= kept == 5 - outcome.num_seeds
    assert query(with_passages, "SELECT status FROM runs ORDER BY started_at").to_pylist() == [
        {"status": "failed"},
        {"status": "done"},
    ]


async def test_a_reply_that_is_not_as_asked_is_counted_and_does_not_stop_the_run(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer(lambda _: "__import__('os').system('true')") as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert (outcome.num_stored, dict(outcome.rejections)) == (0, {"reply not as asked": 5})


async def test_a_reply_cut_short_is_left_for_the_next_run_with_the_remedy(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer(script=[Fault.CUT_REPLY]) as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    [(failure, number)] = outcome.failures.items()
    assert (number, "raise max_tokens" in failure) == (1, True)
    assert len(plan(with_passages, tmp_path, server.base_url).seeds) == 1


async def test_a_run_in_which_no_seed_got_a_reply_is_an_error(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer(faults={Fault.CUT_REPLY: 1.0}) as server:
        with pytest.raises(LLMError, match=r"not one of 1 passages got a reply.*raise max_tokens"):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url, limit=1))


CALLS = "SELECT call_id, seed_id, outcome, tokens_in, tokens_out, cost, prompt_version FROM calls ORDER BY ALL"


async def test_every_reply_is_a_call_with_its_price_and_every_sample_names_the_one_it_was_made_of(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer() as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    calls = query(with_passages, CALLS).to_pylist()
    assert sorted(call["seed_id"] for call in calls) == sorted(str(text_id(text)) for text in TEXTS)
    assert {(call["outcome"], call["prompt_version"]) for call in calls} == {("used", "retrieval-query-1")}
    assert all(call["cost"] == (2 * call["tokens_in"] + 8 * call["tokens_out"]) / 1e6 for call in calls)
    assert outcome.cost == pytest.approx(sum(call["cost"] for call in calls))
    [recorded] = query(with_passages, "SELECT cost, config->>'max_tokens' AS most FROM runs").to_pylist()
    assert recorded == {"cost": outcome.cost, "most": "2048"}
    unlinked = (
        "SELECT count(*) AS n FROM samples s ANTI JOIN calls c ON c.call_id = s.call_id AND c.seed_id = s.seed_id"
    )
    assert query(with_passages, unlinked).to_pylist() == [{"n": 0}]


async def test_a_reply_taken_from_the_journal_after_a_crash_is_the_same_call(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer() as server:
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        before = query(with_passages, CALLS).to_pylist()
        with with_passages.write() as cursor:  # as if killed before the first lease, the second time with calls kept
            for table in ("generated", "revision", "sample_state", "llm_call"):
                cursor.execute(f"DELETE FROM {table}")
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        with with_passages.write() as cursor:
            cursor.execute("DELETE FROM generated")
        again = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert query(with_passages, CALLS).to_pylist() == before
    assert (server.paid, again.cost) == (5, 0.0)


async def test_what_was_paid_for_and_is_of_no_use_is_a_call_too(with_passages: Store, tmp_path: Path) -> None:
    replies = iter(["no JSON", '{"queries": ["this passage says what?"]}', "", '{"queries": ["harbour quay sunrise"]}'])
    async with ChatServer(lambda _: next(replies), script=[Fault.CUT_REPLY]) as server:
        made = plan(with_passages, tmp_path, server.base_url, limit=4)
        await run(with_passages, replace(made, concurrency=1))
    calls = query(with_passages, "SELECT outcome, seed_id FROM calls ORDER BY created_at, outcome").to_pylist()
    assert sorted(call["outcome"] for call in calls) == ["cut", "empty", "rejected", "used"]
    assert len({call["seed_id"] for call in calls}) == 4


async def test_what_a_server_was_paid_before_it_proved_useless_is_kept(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer(error=lambda body: (200, completion("x" * (9 << 20)))) as server:
        with pytest.raises(LLMError):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    calls = query(with_passages, "SELECT outcome, seed_id IS NULL AS stray FROM calls").to_pylist()
    assert {"outcome": "unusable", "stray": False} in calls


@pytest.mark.parametrize(("prices", "cost"), [({}, None), ({"price_in": 0.0, "price_out": 0.0}, 0.0)])
async def test_no_price_is_unknown_and_a_price_of_0_is_free(
    with_passages: Store, tmp_path: Path, prices: dict[str, float], cost: float | None
) -> None:
    async with ChatServer() as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url, prices, limit=1))
    assert outcome.cost == cost
    assert query(with_passages, "SELECT c.cost AS call, r.cost AS run FROM calls c, runs r").to_pylist() == [
        {"call": cost, "run": cost}
    ]


async def test_the_extractive_engine_has_no_calls_and_costs_nothing(with_passages: Store, tmp_path: Path) -> None:
    outcome = await run(with_passages, plan(with_passages, tmp_path))
    assert outcome.cost is None
    assert query(with_passages, "FROM calls").num_rows == 0


async def test_the_key_is_nowhere_in_the_store(
    with_passages: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-a-key-that-nobody-may-see-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    async with ChatServer(key=key) as server:
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert key.encode() not in with_passages.path.read_bytes()


def test_a_held_out_corpus_is_no_seed(store: Store, tmp_path: Path) -> None:
    source = Source("benchmark", "corpus", Use.EVAL, "documents", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, [NewPassage(text_id("t"), "t", "", "1")])
    with pytest.raises(UserError, match="corpus is empty"):
        plan(store, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": Task.STS}, "no recipe makes sts samples"),
        ({"operation": "augment"}, "no recipe makes retrieval samples by the operation augment"),
        ({"names": ["nowhere"]}, "no source is called nowhere; this store has: harbours"),
    ],
)
def test_what_cannot_be_made_is_said(
    with_passages: Store, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(with_passages, tmp_path, **changes)

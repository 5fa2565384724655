"""Generate: passages become samples once, whatever stops the run; over real HTTP with a small local server."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synth.llm.engine import UNCOUNTED
from synth.recipes import RECIPES
from synth.records import LLMError, Source, Task, Use, UserError, new_id, text_id
from synth.stages.asking.forecast import sampled
from synth.stages.asking.watch import Watch
from synth.stages.generate.plan import Wanted, plan_generate, plan_retry
from synth.stages.generate.run import generate_samples
from synth.store import sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.failures import Failure, add_failures
from synth.store.seeds import Seeds
from synth.store.sources import NewPassage
from tests.chat_server import ChatServer, Fault, completion, queries_about
from tests.synth.stages.generating import CALLS, PRICES, TEXTS, asking, plan, run, samples


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
    more = await run(with_passages, plan(with_passages, tmp_path, per_seed=4))
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
    assert first.usage.tokens_in > 0
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
    assert (server.paid, outcome.usage.tokens_in, outcome.usage.tokens_out) == (5, 0, 0)
    assert samples(with_passages) == before


async def test_a_reply_that_is_not_as_asked_is_shown_to_the_llm_once_with_what_is_wrong(
    with_passages: Store, tmp_path: Path
) -> None:
    def reply(messages: list[dict[str, str]]) -> str:
        return queries_about(messages[:2]) if len(messages) == 4 else "Sure! What would you like to know?"

    async with ChatServer(reply) as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url, limit=1))
    assert (outcome.num_done, outcome.failures, len(server.asked)) == (1, {}, 2)
    again = server.asked[1]["messages"]
    assert again[2] == {"role": "assistant", "content": "Sure! What would you like to know?"}
    assert "cannot be used" in again[3]["content"]
    calls = query(with_passages, "SELECT outcome, repaired FROM calls ORDER BY outcome").to_pylist()
    assert calls == [{"outcome": "unusable", "repaired": ""}, {"outcome": "used", "repaired": "asked again"}]


async def test_replies_that_are_never_as_asked_are_left_and_bought_no_more(
    with_passages: Store, tmp_path: Path
) -> None:
    bad = text_id(TEXTS[0]).hex

    def reply(messages: list[dict[str, str]]) -> str:
        return "__import__('os').system('true')" if bad in messages[1]["content"] else queries_about(messages)

    async with ChatServer(reply) as server:
        for paid in (6, 6):  # one passage is asked for twice, the second time with what is wrong
            outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
            assert server.paid == paid
            [(kind, reason)] = outcome.failures
            assert kind == "unusable" and "nor is the one to a second request" in reason
    attempts = query(with_passages, "SELECT attempts FROM failures ORDER BY created_at").column(0).to_pylist()
    assert attempts == [2, 0]  # as many as this run sent


async def test_what_is_whole_in_a_reply_that_was_cut_is_kept(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer(script=[Fault.CUT_REPLY]) as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url, limit=1))
    assert (outcome.num_done, outcome.num_stored) == (1, 1)  # of three queries
    assert query(with_passages, "SELECT outcome, repaired FROM calls").to_pylist() == [
        {"outcome": "used", "repaired": "cut"}
    ]


async def test_a_reply_cut_too_early_is_left_until_max_tokens_is_raised(with_passages: Store, tmp_path: Path) -> None:
    bad = text_id(TEXTS[0]).hex

    def reply(messages: list[dict[str, str]]) -> str:
        text = messages[1]["content"]
        return '{"queries": ["What ' + "more " * 90 if bad in text else queries_about(messages)

    async with ChatServer(reply, faults={Fault.CUT_REPLY: 1.0}) as server:
        for _ in range(2):
            outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
            [((kind, reason), number)] = outcome.failures.items()
            assert (kind, number, "cut at max_tokens = 2048; raise max_tokens" in reason) == ("cut", 1, True)
        assert server.paid == 5  # the second time from the journal
    async with ChatServer() as server:
        raised = asking(tmp_path, server.base_url, max_tokens=4096)
        outcome = await run(with_passages, plan_generate(with_passages, Wanted(per_seed=3), raised))
        assert (server.paid, outcome.num_done) == (1, 1)


async def test_a_limit_takes_passages_that_never_failed_before_those_that_did(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer(lambda _: " ") as server:
        for num_asked, num_new in ((2, 2), (4, 2), (5, 1)):
            with pytest.raises(LLMError, match=f"not one of {num_new} passages"):
                await run(with_passages, plan(with_passages, tmp_path, server.base_url, limit=2))
            assert len(server.asked) == num_asked
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url, limit=2))
        assert (outcome.num_passed_over, sum(outcome.failures.values()), len(server.asked)) == (2, 2, 5)
        raised = asking(tmp_path, server.base_url, max_tokens=4096)
        with pytest.raises(LLMError, match="not one of 2 passages"):
            await run(with_passages, plan_generate(with_passages, Wanted(per_seed=3, limit=2), raised))
        assert len(server.asked) == 7  # they are another request now


async def test_a_passage_whose_server_broke_comes_before_one_whose_request_is_known_to_fail(
    with_passages: Store, tmp_path: Path
) -> None:
    first, second = sorted(text_id(text) for text in TEXTS)[:2]
    made = plan(with_passages, tmp_path, "http://127.0.0.1:9/v1")
    failure = Failure(
        made.stage_key, first, new_id(), "test-model", "", "", 0, "empty", "empty", permanent=True, attempts=1
    )
    broken = replace(failure, seed_id=second, kind="broken", permanent=False)
    with with_passages.write() as cursor:
        add_failures(cursor, [failure, broken, broken], new_id())
    pending = Seeds().pending(with_passages, made.stage_key, limit=None)
    assert (len(pending), pending[3:]) == (5, [second, first])
    assert pending[:3] == Seeds().untried(with_passages, made.stage_key)
    assert set(sampled(with_passages, replace(made, seeds=pending), 3, seed=0)) == set(pending[:3])
    assert len(sampled(with_passages, replace(made, seeds=pending), 4, seed=0)) == 4


async def test_the_first_reply_of_each_kind_that_is_of_no_use_is_said_at_once(
    with_passages: Store, tmp_path: Path
) -> None:
    notes: list[str] = []
    replies = iter([queries_about, *[lambda _: " "] * 2, *[lambda _: "no JSON"] * 4])
    async with ChatServer(lambda messages: next(replies)(messages), script=[Fault.CUT_REPLY]) as server:
        one_by_one = {**PRICES, "concurrency": 1}
        made = plan(with_passages, tmp_path, server.base_url, one_by_one)
        outcome = await generate_samples(with_passages, made, watch=Watch(note=notes.append))
        assert "1 reply was cut at max_tokens and used in part: raise max_tokens for longer ones" in outcome.notes
        notes_of_the_second: list[str] = []
        second = plan(with_passages, tmp_path, server.base_url, one_by_one)
        again = await generate_samples(with_passages, second, watch=Watch(note=notes_of_the_second.append))
        assert (again.num_passed_over, notes_of_the_second) == (4, [])
    cut, empty, unusable = (each for each in notes if each != UNCOUNTED)
    assert cut.startswith("a reply of test-model was cut at max_tokens = 2048 and used in part; raise max_tokens")
    assert empty.startswith("the reply of test-model is empty")
    assert "is not as asked, nor is the one to a second request" in unusable
    assert empty.endswith("; its seed is left, `synth runs retry last --only failed` asks again")
    assert unusable.endswith("; its seed is left, `synth runs retry last --only unusable` asks again")


async def test_a_run_in_which_no_seed_got_a_reply_is_an_error(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer(lambda _: " ") as server:
        with pytest.raises(LLMError, match=r"not one of 1 passages got a reply that can be used: .*is empty"):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url, limit=1))


async def test_every_reply_is_a_call_with_its_price_and_every_sample_names_the_one_it_was_made_of(
    with_passages: Store, tmp_path: Path
) -> None:
    async with ChatServer() as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    calls = query(with_passages, CALLS).to_pylist()
    assert sorted(call["seed_id"] for call in calls) == sorted(str(text_id(text)) for text in TEXTS)
    version = RECIPES[Task.RETRIEVAL, "query"].prompt_version
    assert {(call["outcome"], call["prompt_version"]) for call in calls} == {("used", version)}
    assert all(call["cost"] == (2 * call["tokens_in"] + 8 * call["tokens_out"]) / 1e6 for call in calls)
    assert outcome.usage.cost == pytest.approx(sum(call["cost"] for call in calls))
    [recorded] = query(with_passages, "SELECT cost, config->>'max_tokens' AS most FROM runs").to_pylist()
    assert recorded == {"cost": outcome.usage.cost, "most": "2048"}
    unlinked = (
        "SELECT count(*) AS n FROM samples s ANTI JOIN calls c ON c.call_id = s.call_id AND c.seed_id = s.seed_id"
    )
    assert query(with_passages, unlinked).to_pylist() == [{"n": 0}]


async def test_one_request_that_the_server_will_not_take_is_not_sent_again_until_it_is_asked_for(
    with_passages: Store, tmp_path: Path
) -> None:
    bad = text_id(TEXTS[0]).hex
    patient = {"now": False}

    def error(body: dict[str, Any]) -> tuple[int, Any] | None:
        said = {"error": {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}}
        return (400, said) if bad in body["messages"][-1]["content"] and not patient["now"] else None

    async with ChatServer(error=error) as server:
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        assert [kind for kind, _ in outcome.failures] == ["too_long"] and outcome.num_done == 4
        num_asked = len(server.asked)
        again = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        assert again.failures == outcome.failures and len(server.asked) == num_asked
        assert query(with_passages, "SELECT kind, permanent, count(*) AS n FROM failures GROUP BY ALL").to_pylist() == [
            {"kind": "too_long", "permanent": True, "n": 2}  # one of each run
        ]
        patient["now"] = True
        retried = plan_retry(with_passages, "last", ("too_long",), asking(tmp_path, server.base_url))
        outcome = await run(with_passages, retried)
        assert (outcome.num_done, outcome.failures, len(server.asked)) == (1, {}, num_asked + 1)
        with pytest.raises(UserError, match="nothing of run last is left as too_long"):
            plan_retry(with_passages, "last", ("too_long",), asking(tmp_path, server.base_url))


async def test_a_changed_parser_reads_again_what_was_paid_for(
    with_passages: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ChatServer() as server:
        await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        before = samples(with_passages)
        recipe = RECIPES[Task.RETRIEVAL, "query"]
        monkeypatch.setitem(RECIPES, (Task.RETRIEVAL, "query"), replace(recipe, parser_version="another"))
        outcome = await run(with_passages, plan(with_passages, tmp_path, server.base_url))
    assert (outcome.num_done, outcome.usage.replayed, outcome.usage.requests, server.paid) == (5, 5, 0, 5)
    assert samples(with_passages) == before


async def test_of_a_corpus_with_one_correction_and_ten_more_eleven_are_asked(store: Store, tmp_path: Path) -> None:
    texts = [f"The harbour master of quay {n} writes the {n} tides of the day on a board." for n in range(60)]
    async with ChatServer() as server:
        for version, chosen in enumerate((texts[:50], [texts[0] + " In chalk.", *texts[1:]])):
            source = Source("tides", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", str(version))
            with store.write() as cursor:
                sources.add_source(cursor, source, new_id())
                passages = [NewPassage(text_id(text), text, "", str(n)) for n, text in enumerate(chosen)]
                sources.add_passages(cursor, source.source_id, passages)
            await run(store, plan(store, tmp_path, server.base_url, limit=None))
        assert server.paid == 61
    asked = query(store, "SELECT DISTINCT seed_id FROM samples").column("seed_id").to_pylist()
    assert {str(text_id(text)) for text in [texts[0] + " In chalk.", *texts[1:]]} <= set(asked)


async def test_what_was_paid_for_and_is_of_no_use_is_a_call_too(with_passages: Store, tmp_path: Path) -> None:
    replies = iter(
        [
            "no JSON",
            '{"queries": ["this passage says what?"]}',
            "",
            '{"queries": ["harbour quay sunrise"]}',
            "still none",
            "{}",
        ]
    )
    script = [Fault.CUT_REPLY]
    async with ChatServer(lambda _: next(replies), script=script) as server:
        one_by_one = {**PRICES, "concurrency": 1}
        await run(with_passages, plan(with_passages, tmp_path, server.base_url, one_by_one))
    calls = query(with_passages, "SELECT outcome, seed_id FROM calls ORDER BY created_at, outcome").to_pylist()
    assert sorted(call["outcome"] for call in calls) == ["cut", "empty", "rejected", "unusable", "unusable", "used"]
    assert len({call["seed_id"] for call in calls}) == 5


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
    assert outcome.usage.cost == cost
    assert query(with_passages, "SELECT c.cost AS call, r.cost AS run FROM calls c, runs r").to_pylist() == [
        {"call": cost, "run": cost}
    ]


async def test_the_extractive_engine_has_no_calls_and_costs_nothing(with_passages: Store, tmp_path: Path) -> None:
    outcome = await run(with_passages, plan(with_passages, tmp_path))
    assert outcome.usage.cost is None
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
        ({"operation": "rhyme"}, "no recipe makes retrieval samples by the operation rhyme"),
        ({"operation": "augment"}, "there are no retrieval samples to start from: ingest some for training"),
        ({"names": ("nowhere",)}, "no source is called nowhere; this store has: harbours"),
    ],
)
def test_what_cannot_be_made_is_said(
    with_passages: Store, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        plan(with_passages, tmp_path, **changes)


async def test_a_retry_of_what_a_run_did_not_leave_names_what_it_left(with_passages: Store, tmp_path: Path) -> None:
    async with ChatServer(lambda _: "no JSON") as server:
        with pytest.raises(LLMError):
            await run(with_passages, plan(with_passages, tmp_path, server.base_url))
        with pytest.raises(UserError, match="left nothing as timeout or empty, but 5 as unusable: `--only"):
            plan_retry(with_passages, "last", ("timeout", "empty"), asking(tmp_path, server.base_url))

"""What a run will take, before it: measured by what earlier runs had to ask again."""

from dataclasses import replace
from pathlib import Path

import pytest

from synth.llm.ceilings import Ceilings
from synth.recipes.recipe import Recipe
from synth.records import Source, Task
from synth.stages.asking.forecast import Forecast
from synth.stages.generate.forecast import forecast
from synth.stages.generate.plan import Wanted, plan_generate
from synth.store.connection import Store
from synth.store.console import query
from tests.chat_server import ChatServer
from tests.synth.stages.generating import asking
from tests.synth.stages.lines import CHOICE, IN_A_TONE, LINES, add_texts, saying, write

TEXTS = [f"text {number}" for number in range(12)]


def foreseen(store: Store, folder: Path, base_url: str, recipe: Recipe) -> Forecast:
    wanted = Wanted(Task.CLASSIFICATION, recipe.operation, recipes={(recipe.task, recipe.operation): recipe})
    return forecast(store, plan_generate(store, wanted, asking(folder, base_url)), seed=0)


async def test_what_earlier_samples_had_to_be_asked_again_is_expected_of_those_to_come(
    store: Store, training_source: Source, tmp_path: Path
) -> None:
    add_texts(store, training_source, *TEXTS[:6])
    async with ChatServer(saying("one\nno two", "no three", "two")) as server:
        alone = foreseen(store, tmp_path, server.base_url, LINES)
        await write(store, tmp_path, server.base_url)
        add_texts(store, training_source, *TEXTS[6:])
        found = foreseen(store, tmp_path, server.base_url, LINES)
        outcome = await write(store, tmp_path, server.base_url)
    assert (alone.num_seeds, alone.estimate.requests) == (6, 6) and "asked again" not in alone.estimate.basis
    assert (found.num_seeds, found.estimate.requests) == (6, 18)
    assert "times as much for what had to be asked again" in found.estimate.basis
    paid = outcome.usage.tokens_in + outcome.usage.tokens_out
    assert found.estimate.tokens_in + found.estimate.tokens_out == pytest.approx(paid, rel=0.05)


async def test_a_request_that_goes_before_counts_and_is_what_is_shown(
    store: Store, training_source: Source, tmp_path: Path
) -> None:
    add_texts(store, training_source, *TEXTS)
    async with ChatServer() as server:
        one, two = (foreseen(store, tmp_path, server.base_url, recipe) for recipe in (LINES, IN_A_TONE))
        assert server.asked == []
    assert (one.estimate.requests, two.estimate.requests) == (12, 24)
    assert two.estimate.tokens_in > one.estimate.tokens_in
    assert [messages[0]["content"].startswith(CHOICE) for messages in two.prompts] == [True] * 3
    assert query(store, "FROM runs").num_rows == 0


async def test_samples_whose_replies_are_in_the_journal_need_no_request(
    store: Store, training_source: Source, tmp_path: Path
) -> None:
    add_texts(store, training_source, *TEXTS)
    async with ChatServer(saying("one\ntwo")) as server:
        await write(store, tmp_path, server.base_url)
        read_anew = replace(LINES, parser_version="another")
        found = foreseen(store, tmp_path, server.base_url, read_anew)
    assert (found.num_seeds, found.num_known, found.estimate.requests) == (12, 12, 0)


async def test_what_is_begun_and_not_done_still_needs_its_further_tries(
    store: Store, training_source: Source, tmp_path: Path
) -> None:
    add_texts(store, training_source, *TEXTS[:6])
    async with ChatServer(saying("one\nno two", "no three", "two")) as server:
        await write(store, tmp_path, server.base_url)
        add_texts(store, training_source, *TEXTS[6:9])
        await write(store, tmp_path, server.base_url, ceilings=Ceilings(max_requests=19))
        found = foreseen(store, tmp_path, server.base_url, LINES)
        outcome = await write(store, tmp_path, server.base_url)
    assert (found.num_seeds, found.num_known) == (3, 1)
    assert found.estimate.requests == outcome.usage.requests == 8
    paid = outcome.usage.tokens_in + outcome.usage.tokens_out
    assert found.estimate.tokens_in + found.estimate.tokens_out == pytest.approx(paid, rel=0.15)


async def test_what_no_reply_that_can_be_used_came_for_is_not_expected_to_be_asked_again(
    store: Store, training_source: Source, tmp_path: Path
) -> None:
    add_texts(store, training_source, *TEXTS)

    def reply(conversation: list[dict[str, str]]) -> str:
        return "?" if any(text in conversation[0]["content"] for text in TEXTS[:4]) else "one\ntwo"

    async with ChatServer(reply) as server:
        outcome = await write(store, tmp_path, server.base_url)
        left = [each for each in TEXTS if any(text in each for text in TEXTS[:4])]
        found = foreseen(store, tmp_path, server.base_url, LINES)
    assert sum(outcome.failures.values()) == found.num_seeds == len(left)
    assert (found.num_known, found.estimate.requests) == (len(left), 0)

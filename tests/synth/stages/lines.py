"""
A recipe whose replies are lines: a line that begins with "no " is rejected, one that was there
already too, and a reply that begins with "?" cannot be read. And an LLM that says what a test has it say.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from synth.checks import rejected
from synth.recipes.recipe import Brief, First, Messages, NewSample, Parsed, Recipe
from synth.records import BadReply, Classification, Draft, Sample, Source, Task, new_id
from synth.stages.generate.plan import Wanted, plan_generate
from synth.stages.generate.run import Generated, generate_samples
from synth.store import samples
from synth.store.connection import Store
from tests.synth.stages.generating import PRICES, asking

CHOICE = "Choose a tone for"


def messages(seed: Sample, brief: Brief) -> Messages:
    assert isinstance(seed.content, Classification)
    tone = f" The tone is {brief.facts['tone']}." if brief.facts else ""
    return [{"role": "user", "content": f"Write {brief.number} lines about {seed.content.text}.{tone}"}]


def parse(reply_text: str, seed: Sample, brief: Brief) -> Parsed:
    if reply_text.startswith("?"):
        raise BadReply("it has no lines")
    known = {each.content.text for each in brief.samples if isinstance(each.content, Classification)}
    made, rejections = [], []
    for line in reply_text.splitlines():
        if line.startswith("no ") or line in known:
            rejections.append(rejected("known" if line in known else "refused", line, f"found: {line}"))
        else:
            known.add(line)
            made.append(NewSample(Classification(line, "x")))
    return Parsed(made, rejections)


def read_tone(reply_text: str, seed: Sample) -> Mapping[str, str]:
    if reply_text not in ("grave", "light"):
        raise BadReply("it names no tone")
    return {"tone": reply_text}


def ask_for_a_tone(seed: Sample, brief: Brief) -> Messages:
    assert isinstance(seed.content, Classification)
    return [{"role": "user", "content": f"{CHOICE} {seed.content.text}."}]


LINES = Recipe(
    task=Task.CLASSIFICATION,
    operation="lines",
    title="lines about a text",
    source="these tests",
    seeds="samples",
    per_seed=2,
    messages=messages,
    schema=None,
    parse=parse,
    example_reply=lambda seed, number: "a line\n" * number,
    most_tries=6,
)
IN_A_TONE = replace(LINES, first=First(ask_for_a_tone, None, read_tone, "grave"))


def add_texts(store: Store, source: Source, *texts: str) -> None:
    """Samples to start from."""
    with store.write() as cursor:
        drafts = [Draft(Classification(text, "x"), source.source_id, "ingest") for text in texts]
        samples.add_drafts(cursor, drafts, new_id())


async def write(
    store: Store,
    folder: Path,
    base_url: str,
    recipe: Recipe = LINES,
    *,
    stop: asyncio.Event | None = None,
    max_tries: int | None = None,
    **settings: Any,
) -> Generated:
    """Generate by the recipe, of one sample at a time."""
    wanted = Wanted(
        task=recipe.task,
        operation=recipe.operation,
        max_tries=max_tries,
        recipes={(recipe.task, recipe.operation): recipe},
    )
    asked = asking(folder, base_url, PRICES, **{"concurrency": 1, "max_retries": 0, **settings})
    return await generate_samples(store, plan_generate(store, wanted, asked), stop=stop)


def saying(*replies: str) -> Callable[[list[dict[str, str]]], str]:
    """The first reply about each text, then the second, and so on; the last for ever."""
    num_said: Counter[str] = Counter()

    def reply(conversation: list[dict[str, str]]) -> str:
        about = conversation[0]["content"]
        num_said[about] += 1
        return replies[min(num_said[about], len(replies)) - 1]

    return reply

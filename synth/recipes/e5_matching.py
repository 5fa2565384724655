"""
Retrieval, operations "short-short" and "long-long": two texts of about the same length that belong together.

E5-Mistral's matching of short with short and of long with long texts (arXiv 2401.00368, tables 10 and 11), without hard
negatives, as there. In short-short the LLM writes both, on the matter of a passage, with few words in common. In
long-long the passage is the positive, so that it is as long as the corpus allows (the paper has 300 words written), and
the LLM writes the long text that it is to be found for.
"""

import json
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from synth.checks import Rejection, copied, num_words
from synth.likeness import Taken, difference, keeps_sentences, units
from synth.llm.formats import strict_schema
from synth.recipes.e5_task import (
    INSTRUCTION,
    MOST_TRIES,
    SOURCE,
    SYSTEM,
    drawn,
    instruction_findings,
    instruction_of,
    mark,
)
from synth.recipes.findings import Finding, asked_words, counted, earlier_queries, first_of, text_findings
from synth.recipes.reading import read_reply
from synth.recipes.recipe import Brief, Messages, NewSample, Parsed, Recipe
from synth.records import Passage, Retrieval, Task, normalise

PARSER_VERSION = "1"
PER_SEED = 1

SHORT_WORDS = (1, 20)
MOST_SHARED = 0.5  # of the units of the shorter of two short texts
LEAST_NEW = 0.5  # of a long text, against the passage
FEWEST_LONG, ENOUGH_LONG = 60, 300  # words

PAIRINGS = (
    "a question and its answer in a few words",
    "a term and what it means",
    "a headline and another editor's headline for the same news",
    "a trouble and its cause or remedy",
    "a name (of a person, place, product, law, ...) and what it is known for",
    "a statement and one that follows from it",
)
LONG_TEXTS = (
    "a post in a forum that tells of a case at length and asks for advice",
    "an article on the same matter by another author, for other readers",
    "a report or log of something that happened, in which the matter is decisive",
    "a letter or complaint that tells the matter from the side of somebody concerned",
    "the minutes of a meeting or the transcript of a talk in which the matter is discussed",
)

SHORT_SHORT = """\
Think of {tasks} in which a short text is to be found for a short text, such as {pairing}, and write one \
example for each task, on the matter of the passage below. Where the passage gives nothing for this pairing, choose \
another.

Each example has
- {instruction};
- "query": the given text, of 2 to 12 words;
- "positive": the text to be found for it, of 2 to 15 words. It is right by what the passage says.

Both texts are in {language}, stand alone, speak of no passage, and have as few words in common as can be: who only \
compares words would not match them.

The passage is all that stands between the two lines "{mark}".
{mark}
{passage}
{mark}

Reply as {{"examples": [{{"instruction": "...", "query": "...", "positive": "..."}}, ...]}} with {number} in the \
list."""

LONG_LONG = """\
Think of {tasks} in which the passage below is to be found for a long text, such as {text}, and write one \
example for each task.

Each example has
- {instruction};
- "query": the long text. Whoever wrote it has never seen the passage, and would be helped by nothing so much as by \
it; it is on the same matter and contradicts nothing in it. It has {length}, is in {language}, holds details of its \
own, and takes no sentence over from the passage.

The passage is all that stands between the two lines "{mark}".
{mark}
{passage}
{mark}

Reply as {{"examples": [{{"instruction": "...", "query": "..."}}, ...]}} with {number} in the list."""


class ShortExample(BaseModel):
    """Two short texts."""

    model_config = ConfigDict(strict=True)

    instruction: str
    query: str
    positive: str


class ShortReply(BaseModel):
    """What the LLM is asked to reply for short-short."""

    model_config = ConfigDict(strict=True)

    examples: list[ShortExample] = Field(min_length=1, max_length=100)


class LongExample(BaseModel):
    """A long text that the passage is to be found for."""

    model_config = ConfigDict(strict=True)

    instruction: str
    query: str


class LongReply(BaseModel):
    """What the LLM is asked to reply for long-long."""

    model_config = ConfigDict(strict=True)

    examples: list[LongExample] = Field(min_length=1, max_length=100)


def ask_short(seed: Passage, brief: Brief) -> Messages:
    """Ask for pairs of short texts on the matter of the passage."""
    user = SHORT_SHORT.format(
        number=brief.number,
        tasks=counted(brief.number, "task", "different tasks"),
        instruction=INSTRUCTION,
        pairing=drawn(PAIRINGS, seed, 1),
        language=brief.language or "the language of the passage",
        mark=mark(seed),
        passage=seed.text,
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def ask_long(seed: Passage, brief: Brief) -> Messages:
    """Ask for long texts that the passage is to be found for."""
    user = LONG_LONG.format(
        number=brief.number,
        tasks=counted(brief.number, "task", "different tasks"),
        instruction=INSTRUCTION,
        text=drawn(LONG_TEXTS, seed, 1),
        length=asked_words(long_words(seed)),
        language=brief.language or "the language of the passage",
        mark=mark(seed),
        passage=seed.text,
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def long_words(seed: Passage) -> tuple[int, int]:
    """How many words a text that is matched with the passage has: about as many as it or more, up to 300 at least."""
    fewest = max(FEWEST_LONG, min(ENOUGH_LONG, round(0.8 * num_words(seed.text[: 20 * ENOUGH_LONG]))))
    return fewest, 3 * fewest


def parse_short(reply_text: str, seed: Passage, brief: Brief) -> Parsed:
    """The pairs of short texts that the checks accept. Raises BadReply."""
    reply, repaired = read_reply(reply_text, ShortReply)
    made: list[NewSample] = []
    rejections: list[Rejection] = []
    earlier = earlier_queries(brief)
    for each in reply.examples:
        if found := first_of(_of_short(each, seed, brief, earlier)):
            rejections.append(found)
            continue
        positive = normalise(each.positive)
        made.append(NewSample(Retrieval(normalise(each.query), (positive,), instruction_of(each.instruction))))
        earlier.add(each.query)
    return Parsed(made, rejections, repaired)


def parse_long(reply_text: str, seed: Passage, brief: Brief) -> Parsed:
    """The long texts that the checks accept, each with the passage as its positive. Raises BadReply."""
    reply, repaired = read_reply(reply_text, LongReply)
    made: list[NewSample] = []
    rejections: list[Rejection] = []
    earlier = earlier_queries(brief)
    for each in reply.examples:
        if found := first_of(_of_long(each, seed, brief, earlier)):
            rejections.append(found)
            continue
        query = each.query.strip()  # its paragraphs stay
        made.append(NewSample(Retrieval(query, (seed.text,), instruction_of(each.instruction))))
        earlier.add(query)
    return Parsed(made, rejections, repaired)


def _of_short(each: ShortExample, seed: Passage, brief: Brief, earlier: Taken) -> Iterator[Finding]:
    for name, text in (("query", each.query), ("positive", each.positive)):
        yield from text_findings(name, text, seed.text, brief.language, SHORT_WORDS)
        yield "copied", text, copied(text, seed.text)
    yield "duplicate", each.query, earlier.again(each.query)
    yield "shared words", each.positive, _shared(each.query, each.positive)
    yield from instruction_findings(each.instruction, each.query)


def _shared(query: str, positive: str) -> str | None:
    """Too many words (or characters of Chinese and the like) in common."""
    ours, theirs = set(units(query)), set(units(positive))
    fewest = min(len(ours), len(theirs))
    share = len(ours & theirs) / fewest if fewest else 0.0
    return f"shares {share:.0%} of its words with the query" if share > MOST_SHARED else None


def _of_long(each: LongExample, seed: Passage, brief: Brief, earlier: Taken) -> Iterator[Finding]:
    query = each.query
    yield from text_findings("query", query, seed.text, brief.language, long_words(seed))
    yield "copied", query, copied(query, seed.text) or keeps_sentences(query, seed.text)
    share = difference(query, seed.text)
    yield "copied", query, None if share > LEAST_NEW else f"only {share:.0%} of it is new"
    yield "duplicate", query, earlier.again(query)
    yield from instruction_findings(each.instruction, query)


def example_of_short(seed: Passage, number: int) -> str:
    """As many pairs of a few words of the passage."""
    each = {"instruction": _INSTRUCTION, "query": seed.text[:40], "positive": seed.text[:50]}
    return json.dumps({"examples": [each] * number}, ensure_ascii=False)


def example_of_long(seed: Passage, number: int) -> str:
    """As many texts that are half as long again as the passage, or as the fewest words that are asked for."""
    length = max(len(seed.text) * 3 // 2, 6 * long_words(seed)[0])
    text = (seed.text * (1 + length // max(len(seed.text), 1)))[:length]
    return json.dumps({"examples": [{"instruction": _INSTRUCTION, "query": text}] * number}, ensure_ascii=False)


_INSTRUCTION = "Given a question about boats, retrieve texts that answer it."
_CHECKS = ("length", "characters", "leakage", "language", "copied", "duplicate")

RECIPES = (
    Recipe(
        task=Task.RETRIEVAL,
        operation="short-short",
        title="two short texts on a passage's matter that belong together, with few words in common",
        source=f"{SOURCE}: short-short matching",
        seeds="passages",
        language="any",
        per_seed=PER_SEED,
        messages=ask_short,
        schema=strict_schema(ShortReply),
        parse=parse_short,
        example_reply=example_of_short,
        checks=(*_CHECKS, "shared words", "instruction"),
        most_tries=MOST_TRIES,
        parser_version=PARSER_VERSION,
    ),
    Recipe(
        task=Task.RETRIEVAL,
        operation="long-long",
        title="a long text that a passage is to be found for",
        source=f"{SOURCE}: long-long matching",
        seeds="passages",
        language="any",
        per_seed=PER_SEED,
        messages=ask_long,
        schema=strict_schema(LongReply),
        parse=parse_long,
        example_reply=example_of_long,
        checks=(*_CHECKS, "instruction"),
        most_tries=MOST_TRIES,
        parser_version=PARSER_VERSION,
    ),
)

"""
Retrieval, operations "short-short" and "long-long": two texts of about the same length that belong together.

E5-Mistral's matching of short with short and of long with long texts (arXiv 2401.00368, tables 10 and 11), without hard
negatives, as there. In short-short the LLM writes both, on the matter of a passage, with few words in common. In
long-long the passage is the positive, so that it is as long as the corpus allows (the paper has 300 words written), and
the LLM writes the long text that it is to be found for.
"""

import json

from synth.checks import copied, num_words
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
    stretched,
)
from synth.recipes.findings import asked_words, counted, earlier_queries, text_findings
from synth.recipes.reading import Form, Items, read_reply
from synth.recipes.recipe import Brief, Checked, Messages, NewSample, Parsed, Recipe, parsed
from synth.records import Passage, Retrieval, Task, normalise

PARSER_VERSION = "3"
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


class ShortExample(Form):
    """Two short texts."""

    instruction: str
    query: str
    positive: str


class ShortReply(Form):
    """What the LLM is asked to reply for short-short."""

    examples: Items[ShortExample]


class LongExample(Form):
    """A long text that the passage is to be found for."""

    instruction: str
    query: str


class LongReply(Form):
    """What the LLM is asked to reply for long-long."""

    examples: Items[LongExample]


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
    earlier = earlier_queries(brief)
    return parsed((_checked_short(each, seed, brief, earlier) for each in reply.examples), repaired)


def parse_long(reply_text: str, seed: Passage, brief: Brief) -> Parsed:
    """The long texts that the checks accept, each with the passage as its positive. Raises BadReply."""
    reply, repaired = read_reply(reply_text, LongReply)
    earlier = earlier_queries(brief)
    return parsed((_checked_long(each, seed, brief, earlier) for each in reply.examples), repaired)


def _checked_short(each: ShortExample, seed: Passage, brief: Brief, earlier: Taken) -> Checked:
    for name, text in (("query", each.query), ("positive", each.positive)):
        yield from text_findings(name, text, seed.text, brief.language, SHORT_WORDS)
        yield "copied", text, copied(text, seed.text)
    yield "duplicate", each.query, earlier.again(each.query)
    yield "shared words", each.positive, _shared(each.query, each.positive)
    yield from instruction_findings(each.instruction, each.query)
    earlier.add(each.query)
    positive = normalise(each.positive)
    yield NewSample(Retrieval(normalise(each.query), (positive,), instruction_of(each.instruction)))


def _shared(query: str, positive: str) -> str | None:
    """Too many words (or characters of Chinese and the like) in common."""
    ours, theirs = set(units(query)), set(units(positive))
    fewest = min(len(ours), len(theirs))
    share = len(ours & theirs) / fewest if fewest else 0.0
    return f"shares {share:.0%} of its words with the query" if share > MOST_SHARED else None


def _checked_long(each: LongExample, seed: Passage, brief: Brief, earlier: Taken) -> Checked:
    query = each.query
    yield from text_findings("query", query, seed.text, brief.language, long_words(seed))
    yield "copied", query, copied(query, seed.text) or keeps_sentences(query, seed.text)
    share = difference(query, seed.text)
    yield "copied", query, None if share > LEAST_NEW else f"only {share:.0%} of it is new"
    yield "duplicate", query, earlier.again(query)
    yield from instruction_findings(each.instruction, query)
    earlier.add(query)
    # its paragraphs stay
    yield NewSample(Retrieval(query.strip(), (seed.text,), instruction_of(each.instruction)))


def example_of_short(seed: Passage, number: int) -> str:
    """As many pairs of a few words of the passage."""
    each = {"instruction": _INSTRUCTION, "query": seed.text[:40], "positive": seed.text[:50]}
    return json.dumps({"examples": [each] * number}, ensure_ascii=False)


def example_of_long(seed: Passage, number: int) -> str:
    """As many texts that are half as long again as the passage, or as the fewest words that are asked for."""
    length = max(len(seed.text) * 3 // 2, 6 * long_words(seed)[0])
    text = stretched(seed.text, length)
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

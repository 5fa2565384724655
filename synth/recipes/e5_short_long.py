"""
Retrieval, operation "short-long": a short query that a passage answers, with the instruction of its task and a hard
negative.

E5-Mistral's short-long matching (arXiv 2401.00368, table 8). Its positive document is written by the LLM as well;
here it is the passage. Query type, length, difficulty and clarity are those of the paper, and the passage's id decides
them. The hard negative is held to what the operation hard-negative asks of one.
"""

import json
from itertools import chain

from synth.likeness import Taken, asked_length
from synth.llm.formats import strict_schema
from synth.recipes import hard_negative
from synth.recipes.e5_task import (
    CLARITIES,
    DIFFICULTIES,
    INSTRUCTION,
    MOST_TRIES,
    SOURCE,
    SYSTEM,
    drawn,
    instruction_findings,
    instruction_of,
    mark,
)
from synth.recipes.findings import asked_words, counted, earlier_queries, found_in, query_findings
from synth.recipes.like_original import of_form
from synth.recipes.reading import Form, Items, read_reply
from synth.recipes.recipe import Brief, Checked, Messages, NewSample, Parsed, Recipe, parsed
from synth.records import NegativeKind, Passage, Retrieval, Task, Written, normalise

OPERATION = "short-long"
PARSER_VERSION = "3"
PER_SEED = 1

QUERY_TYPES = (
    "extremely long-tail: hardly anybody ever asks it",
    "long-tail: few people ask it",
    "common: many people ask it",
)
LENGTHS = ((2, 5), (5, 15), (10, 40))  # words; E5-Mistral: fewer than 5, 5 to 15, at least 10
KINDS: tuple[NegativeKind, ...] = tuple(hard_negative.KINDS)

USER = """\
Think of {tasks} in which the passage below is what somebody looks for, and write one example for each task.

Each example has
- {instruction};
- "query": what somebody types who has that task and would be glad to find exactly this passage. It is {query_type}. \
It has {length}, is in {language}, and is {clarity}; it is what somebody asks {difficulty}. The \
passage answers it. It stands alone, speaks of no passage or text, and takes no phrase of the passage beyond names and \
terms;
- "missing": what the query asks and the hard negative does not give, in a few words;
- "hard_negative": a passage that looks useful for the query and is less so: {kind}. It is in the language, style and \
layout of the passage, of {negative_length}, white space not counted, true to life, on its own matter \
throughout, and never says what it lacks.

The passage is all that stands between the two lines "{mark}".
{mark}
{passage}
{mark}

Reply as {{"examples": [{{"instruction": "...", "query": "...", "missing": "...", "hard_negative": "..."}}, ...]}} \
with {number} in the list."""


class Example(Form):
    """A query with the instruction of its task, and a passage that answers it worse than the seed."""

    instruction: str
    query: str
    missing: str
    hard_negative: str


class Reply(Form):
    """What the LLM is asked to reply."""

    examples: Items[Example]


def messages(seed: Passage, brief: Brief) -> Messages:
    """Ask for queries that the passage answers, as the passage's id decides."""
    user = USER.format(
        number=brief.number,
        tasks=counted(brief.number, "retrieval task", "different retrieval tasks"),
        instruction=INSTRUCTION,
        query_type=drawn(QUERY_TYPES, seed, 1),
        length=asked_words(drawn(LENGTHS, seed, 2)),
        difficulty=drawn(DIFFICULTIES, seed, 3),
        clarity=drawn(CLARITIES, seed, 4),
        kind=hard_negative.KINDS[_kind(seed)],
        language=brief.language or "the language of the passage",
        negative_length=asked_length(seed.text, hard_negative.MOST_LONGER),
        mark=mark(seed),
        passage=seed.text,
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def parse(reply_text: str, seed: Passage, brief: Brief) -> Parsed:
    """The examples of a reply that the checks accept, each with the passage as its positive. Raises BadReply."""
    reply, repaired = read_reply(reply_text, Reply)
    earlier = earlier_queries(brief)
    return parsed((_checked(each, seed, brief, earlier) for each in reply.examples), repaired)


def _kind(seed: Passage) -> NegativeKind:
    """How the hard negative is worse."""
    return drawn(KINDS, seed, 5)


def _checked(each: Example, seed: Passage, brief: Brief, earlier: Taken) -> Checked:
    yield from query_findings(each.query, seed.text, brief.language, earlier, drawn(LENGTHS, seed, 2))
    yield from instruction_findings(each.instruction, each.query)
    negative = each.hard_negative.strip()
    of_negative = chain(  # one after the other: what is far too long is not compared
        of_form(negative, seed.text, most_longer=hard_negative.MOST_LONGER),
        hard_negative.worse(negative, each.query, (seed.text,)),
    )
    yield from found_in(negative, of_negative, "the hard negative")
    earlier.add(each.query)
    content = Retrieval(normalise(each.query), (seed.text,), instruction_of(each.instruction))
    yield NewSample(content, (Written(negative, _kind(seed), hard_negative.requirement(each.missing)),))


def example_reply(seed: Passage, number: int) -> str:
    """As many examples, each with a passage of the seed's length."""
    each = {
        "instruction": "Given a question about boats, retrieve texts that answer it.",
        "query": seed.text[:60],
        "missing": seed.text[:60],
        "hard_negative": seed.text,
    }
    return json.dumps({"examples": [each] * number}, ensure_ascii=False)


RECIPE = Recipe(
    task=Task.RETRIEVAL,
    operation=OPERATION,
    title="a short query that a passage answers, with its instruction and a hard negative",
    source=f"{SOURCE}: short-long matching",
    seeds="passages",
    language="any",
    per_seed=PER_SEED,
    messages=messages,
    schema=strict_schema(Reply),
    parse=parse,
    example_reply=example_reply,
    checks=(
        *("length", "characters", "leakage", "language", "copied", "duplicate", "instruction", "empty"),
        *("the query", "unchanged", "sentences kept"),
    ),
    most_tries=MOST_TRIES,
    parser_version=PARSER_VERSION,
)

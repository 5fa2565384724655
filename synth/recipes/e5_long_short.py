"""
Retrieval, operation "long-short": a long text, the short target that it is matched with, and one that misleads.

E5-Mistral's long-short matching (arXiv 2401.00368, table 9), which is classification put as retrieval: the text is
the query, its label the positive, a misleading label the negative. The text must name neither.
Text and labels are written about the matter of a passage; what the label names, and how long, difficult and clear the
text is, the passage's id decides.
"""

import json

from synth.checks import copied, names_class
from synth.likeness import Taken, keeps_sentences
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
    stretched,
)
from synth.recipes.findings import asked_words, counted, earlier_queries, text_findings
from synth.recipes.reading import Form, Items, read_reply
from synth.recipes.recipe import Brief, Checked, Messages, NewSample, Parsed, Recipe, parsed
from synth.records import Passage, Retrieval, Task, Written, normalise

OPERATION = "long-short"
PARSER_VERSION = "3"
PER_SEED = 1

TARGETS = (
    "its topic",
    "what its writer wants (the intent)",
    "how its writer feels about the matter",
    "the field or trade that it belongs to",
    "the kind of text that it is",
    "whom it is written for",
)
# Words; E5-Mistral: fewer than 10, and at least 10, 50, 100 and 200.
LENGTHS = ((4, 12), (10, 50), (50, 120), (100, 250), (200, 450))
TARGET_WORDS = (0.5, 12)

USER = """\
Think of {tasks} of giving each of many texts a short target out of a list, here {target}, and write one example for \
each task, on the matter of the passage below.

Each example has
- {instruction};
- "text": a text by somebody who has to do with the matter: a message, a note, a review, a report, part of an article, \
whatever the task is about. It has {length}, is {clarity}, and is for somebody {difficulty}. It contradicts nothing in \
the passage and copies no sentence of it;
- "target": the right target of the text, of 1 to 8 words;
- "misleading_target": a target of the same list that a careless reader would take for the right one, of 1 to 8 words. \
The text names neither of the two targets;
- "missing": why it is not the right one, in a few words.

All but the instruction is in {language}.

The passage is all that stands between the two lines "{mark}".
{mark}
{passage}
{mark}

Reply as {{"examples": [{{"instruction": "...", "text": "...", "target": "...", "misleading_target": "...", \
"missing": "..."}}, ...]}} with {number} in the list."""


class Example(Form):
    """A text, its target, and one that is not its."""

    instruction: str
    text: str
    target: str
    misleading_target: str
    missing: str


class Reply(Form):
    """What the LLM is asked to reply."""

    examples: Items[Example]


def messages(seed: Passage, brief: Brief) -> Messages:
    """Ask for long texts on the matter of the passage, each with a short target."""
    user = USER.format(
        number=brief.number,
        tasks=counted(brief.number, "task", "different tasks"),
        instruction=INSTRUCTION,
        target=drawn(TARGETS, seed, 1),
        length=asked_words(_words(seed)),
        difficulty=drawn(DIFFICULTIES, seed, 3),
        clarity=drawn(CLARITIES, seed, 4),
        language=brief.language or "the language of the passage",
        mark=mark(seed),
        passage=seed.text,
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def parse(reply_text: str, seed: Passage, brief: Brief) -> Parsed:
    """The texts of a reply that the checks accept, each with its target and a misleading one. Raises BadReply."""
    reply, repaired = read_reply(reply_text, Reply)
    earlier = earlier_queries(brief)
    return parsed((_checked(each, seed, brief, earlier) for each in reply.examples), repaired)


def _words(seed: Passage) -> tuple[int, int]:
    """How long the text is to be."""
    return drawn(LENGTHS, seed, 2)


def _checked(each: Example, seed: Passage, brief: Brief, earlier: Taken) -> Checked:
    text, target, misleading = each.text, each.target, each.misleading_target
    yield from text_findings("text", text, seed.text, brief.language, _words(seed))
    yield from text_findings("target", target, seed.text, brief.language, TARGET_WORDS)
    yield "copied", text, copied(text, seed.text) or keeps_sentences(text, seed.text)
    yield "duplicate", text, earlier.again(text)
    for name in (target, misleading):
        found = names_class(text, "", name)
        yield "target named", text, found and f"the text {found}"
    yield from instruction_findings(each.instruction, text)
    yield from text_findings("misleading target", misleading, target, "", TARGET_WORDS)
    yield "unchanged", misleading, Taken([target], "the target").again(misleading)
    earlier.add(text)
    content = Retrieval(text.strip(), (normalise(target),), instruction_of(each.instruction))
    written = Written(normalise(misleading), "other_aspect", hard_negative.requirement(each.missing))
    yield NewSample(content, (written,))


def example_reply(seed: Passage, number: int) -> str:
    """As many examples, each with a text as long as was asked for, in the passage's own characters."""
    length = 7 * sum(_words(seed)) // 2  # characters
    text = stretched(seed.text, length)
    each = {
        "instruction": "Given a message about boats, find what its writer wants.",
        "text": text,
        "target": seed.text[:20],
        "misleading_target": seed.text[:20],
        "missing": seed.text[:40],
    }
    return json.dumps({"examples": [each] * number}, ensure_ascii=False)


RECIPE = Recipe(
    task=Task.RETRIEVAL,
    operation=OPERATION,
    title="a long text on a passage's matter, its short target, and a misleading one",
    source=f"{SOURCE}: long-short matching",
    seeds="passages",
    language="any",
    per_seed=PER_SEED,
    messages=messages,
    schema=strict_schema(Reply),
    parse=parse,
    example_reply=example_reply,
    checks=(
        *("length", "characters", "leakage", "language", "copied", "duplicate", "target named", "instruction"),
        "unchanged",
    ),
    most_tries=MOST_TRIES,
    parser_version=PARSER_VERSION,
)

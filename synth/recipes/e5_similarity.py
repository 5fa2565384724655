"""
STS, operations "triple" and "bitext": a text with one that says nearly the same and one that says something else, each
with a score.

E5-Mistral's synthesis for semantic similarity and for bitexts (arXiv 2401.00368, tables 12 and 13): text 1 with text 2
gets a high score, text 1 with text 3 a low one. The scores are drawn from the paper's, and so are the unit of text and
the difficulty; the passage's id decides them, and the texts are on its matter. In a bitext texts 2 and 3 are in another
language than text 1, and the scores say how well they translate it. A triple is two samples.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from synth.checks import copied, repeated, same_as
from synth.likeness import Taken, difference
from synth.llm.formats import strict_schema
from synth.recipes.e5_task import MOST_TRIES, SOURCE, SYSTEM, drawn, mark, stretched
from synth.recipes.findings import asked_words, counted, text_findings
from synth.recipes.reading import Form, Items, read_reply
from synth.recipes.recipe import Brief, Checked, Finding, Messages, NewSample, Parsed, Recipe, parsed
from synth.records import Passage, Sts, Task, normalise

PARSER_VERSION = "3"
PER_SEED = 2  # the two samples of one triple
LEAST_TRANSLATED = 0.3  # of a text, against the one that it translates

# The instructions that E5-Mistral trains these with.
SIMILAR = "Retrieve semantically similar text."
PARALLEL = "Retrieve parallel sentences."

UNITS = {"sentence": (5, 50), "phrase": (2, 15), "passage": (30, 200)}  # words
LEVELS = ("who goes to elementary school", "who goes to high school", "who goes to college")

# What the scores mean, the three low ones last; after those of semantic textual similarity: the paper has no words.
SIMILARITIES = {
    5.0: "they mean exactly the same",
    4.5: "they mean the same but for a shade",
    4.0: "they mean mostly the same; some unimportant details differ",
    3.5: "they mean roughly the same; a detail of weight differs or is missing",
    3.0: "they mean roughly the same, but something important differs or is missing",
    2.5: "they are on the same matter and share some details, but say something else",
}
QUALITIES = {
    5.0: "it says exactly what the text says",
    4.5: "it says what the text says, but for a shade",
    4.0: "it says what the text says, but an unimportant detail differs",
    2.5: "much of it is right, but a name, a number or a word that matters is wrong",
    2.0: "some of it is right, but several things that matter are wrong, missing or added",
    1.5: "it is on the same matter and says little of what the text says",
}

TRIPLE = """\
Write {triples} of {unit}s on the matter of the passage below.

Each triple has
- "text": a {unit} of {length}, on something that the passage says, in words of its own;
- "close": a {unit} of such a length whose similarity to it is {high} of 5: {high_means};
- "far": a {unit} of such a length whose similarity to the first is {low} of 5: {low_means}. It uses some of the \
first's words, so that who only compares words would take it for close.

All three are in {language}, stand alone, are well written, and can be understood by somebody {level}. \
"close" is no copy of "text": it has other words or another order.

{passage}

Reply as {{"triples": [{{"text": "...", "close": "...", "far": "..."}}, ...]}} with {number} in the list."""

BITEXT = """\
Write {triples} of {unit}s on the matter of the passage below, for finding translations into {language}.

Each triple has
- "text": a {unit} of {length}, on something that the passage says, in the language of the passage and in words of its \
own;
- "close": its translation into {language}, of such a length and the quality {high} of 5: {high_means};
- "far": a {unit} in {language} that reads as well, shares words with "close", and as a translation has the quality \
{low} of 5: {low_means}.

All three stand alone, and can be understood by somebody {level}.

{passage}

Reply as {{"triples": [{{"text": "...", "close": "...", "far": "..."}}, ...]}} with {number} in the list."""

PASSAGE = """\
The passage is all that stands between the two lines "{mark}".
{mark}
{passage}
{mark}"""


class Triple(Form):
    """A text, one that says nearly the same, and one that says something else."""

    text: str
    close: str
    far: str


class Reply(Form):
    """What the LLM is asked to reply."""

    triples: Items[Triple]


def ask_triple(seed: Passage, brief: Brief) -> Messages:
    """Ask for triples in one language."""
    return _messages(TRIPLE, SIMILARITIES, seed, brief)


def ask_bitext(seed: Passage, brief: Brief) -> Messages:
    """Ask for triples of which two texts are in the language of the brief."""
    return _messages(BITEXT, QUALITIES, seed, brief)


def parse_triple(reply_text: str, seed: Passage, brief: Brief) -> Parsed:
    """Two scored pairs of each triple that the checks accept. Raises BadReply."""
    reply, repaired = read_reply(reply_text, Reply)
    earlier, scores = _earlier(brief), _scores(seed, SIMILARITIES)
    return parsed((_checked_triple(each, seed, brief, earlier, scores) for each in reply.triples), repaired)


def parse_bitext(reply_text: str, seed: Passage, brief: Brief) -> Parsed:
    """The same across two languages."""
    reply, repaired = read_reply(reply_text, Reply)
    earlier, scores = _earlier(brief), _scores(seed, QUALITIES)
    return parsed((_checked_bitext(each, seed, brief, earlier, scores) for each in reply.triples), repaired)


def _messages(prompt: str, means: Mapping[float, str], seed: Passage, brief: Brief) -> Messages:
    unit, (high, low) = drawn(list(UNITS), seed, 1), _scores(seed, means)
    number = _num_triples(brief.number)
    user = prompt.format(
        number=number,
        triples=counted(number, "triple", "triples"),
        unit=unit,
        length=asked_words(UNITS[unit]),
        high=high,
        high_means=means[high],
        low=low,
        low_means=means[low],
        level=drawn(LEVELS, seed, 4),
        language=brief.language or "the language of the passage",
        passage=PASSAGE.format(mark=mark(seed), passage=seed.text),
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def _num_triples(number: int) -> int:
    """How many triples so many samples are, rounded up."""
    return (number + 1) // 2


def _scores(seed: Passage, means: Mapping[float, str]) -> tuple[float, float]:
    """Of the close and of the far pair."""
    scores = sorted(means)
    return drawn(scores[3:], seed, 2), drawn(scores[:3], seed, 3)


def _earlier(brief: Brief) -> Taken:
    """The first texts of the triples that were taken of earlier replies."""
    return Taken(each.content.text1 for each in brief.samples if isinstance(each.content, Sts))


def _checked_triple(each: Triple, seed: Passage, brief: Brief, earlier: Taken, scores: tuple[float, float]) -> Checked:
    yield from _of_texts(each, seed, (brief.language, brief.language))
    yield "duplicate", each.text, earlier.again(each.text)
    earlier.add(each.text)
    yield from _pairs(each, scores, SIMILAR)


def _checked_bitext(each: Triple, seed: Passage, brief: Brief, earlier: Taken, scores: tuple[float, float]) -> Checked:
    yield from _of_texts(each, seed, ("", brief.language))
    for name, text in (("close", each.close), ("far", each.far)):
        share = difference(text, each.text)
        untranslated = f"{name} is {1 - share:.0%} the first text" if share < LEAST_TRANSLATED else None
        yield "untranslated", text, untranslated
    yield "duplicate", each.text, earlier.again(each.text)
    earlier.add(each.text)
    yield from _pairs(each, scores, PARALLEL)


def _of_texts(each: Triple, seed: Passage, languages: Sequence[str]) -> Iterator[Finding]:
    """`languages`: of the first text, and of the other two; "" for the passage's."""
    words = UNITS[drawn(list(UNITS), seed, 1)]
    first, others = languages
    for name, text, language in (("text", each.text, first), ("close", each.close, others), ("far", each.far, others)):
        yield from text_findings(name, text, seed.text, language, words)
        yield "copied", text, copied(text, seed.text)
    for name, text, before in (("close", each.close, (each.text,)), ("far", each.far, (each.text, each.close))):
        found = repeated(text, set(map(same_as, before)))
        yield "duplicate", text, found and f"{name}: {found}"


def _pairs(each: Triple, scores: tuple[float, float], instruction: str) -> Iterator[NewSample]:
    text = normalise(each.text)
    for other, score in zip((each.close, each.far), scores, strict=True):
        yield NewSample(Sts(text, normalise(other), score, instruction))


def example_reply(seed: Passage, number: int) -> str:
    """As many triples of texts of the length that is asked for, in the passage's own characters."""
    fewest, most = UNITS[drawn(list(UNITS), seed, 1)]
    length = 3 * (fewest + most)  # characters
    text = stretched(seed.text, length)
    each = {"text": text, "close": text, "far": text}
    return json.dumps({"triples": [each] * _num_triples(number)}, ensure_ascii=False)


_CHECKS = ("length", "characters", "leakage", "language", "copied", "duplicate")

RECIPES = (
    Recipe(
        task=Task.STS,
        operation="triple",
        title="a text on a passage's matter with one close to it and one that is not, scored",
        source=f"{SOURCE}: semantic textual similarity",
        seeds="passages",
        language="any",
        per_seed=PER_SEED,
        messages=ask_triple,
        schema=strict_schema(Reply),
        parse=parse_triple,
        example_reply=example_reply,
        checks=_CHECKS,
        most_tries=MOST_TRIES,
        parser_version=PARSER_VERSION,
    ),
    Recipe(
        task=Task.STS,
        operation="bitext",
        title="a text on a passage's matter with its translation and one that is none, scored",
        source=f"{SOURCE}: bitext retrieval",
        seeds="passages",
        language="needed",
        per_seed=PER_SEED,
        messages=ask_bitext,
        schema=strict_schema(Reply),
        parse=parse_bitext,
        example_reply=example_reply,
        checks=(*_CHECKS, "untranslated"),
        most_tries=MOST_TRIES,
        parser_version=PARSER_VERSION,
    ),
)

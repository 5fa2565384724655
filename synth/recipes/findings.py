"""What recipes that start from passages look at in a text of a reply, and in which order: the cheap checks first."""

from collections.abc import Iterable, Iterator

from synth.checks import (
    LONGEST_WORD,
    MOST_KEPT,
    Rejection,
    copied,
    hidden,
    leaked,
    rejected,
    wrong_language,
    wrong_length,
)
from synth.likeness import Taken
from synth.recipes.recipe import Brief
from synth.records import Retrieval, normalise

# A reason in a word, the text at fault, and what was found; None: nothing.
Finding = tuple[str, str, str | None]


def first_of(findings: Iterable[Finding]) -> Rejection | None:
    """The first that found something; those behind it are not looked at."""
    for reason, text, found in findings:
        if found:
            return rejected(reason, text, found)
    return None


def text_findings(name: str, text: str, original: str, language: str, words: tuple[float, float]) -> Iterator[Finding]:
    """
    Of any text that was asked for in a `language`, "" for that of the `original`, and of so many `words`. What is far
    too long is found first: nothing else looks at it.
    """
    fewest, most = words
    shown = normalise(text[:MOST_KEPT])
    is_far_too_long = len(text) > 10 * LONGEST_WORD * most
    yield "length", shown, f"the {name} has {len(text)} characters" if is_far_too_long else None
    for reason, found in (
        ("characters", hidden(text)),
        ("length", wrong_length(text, fewest=fewest, most=most)),
        ("leakage", leaked(text, original)),
        ("language", wrong_language(text, original, language)),
    ):
        yield reason, shown, found and f"the {name}: {found}"


def query_findings(
    query: str, passage: str, language: str, earlier: Taken, words: tuple[float, float]
) -> Iterator[Finding]:
    """Of a query that a passage answers. `earlier` are the queries that were taken."""
    yield from text_findings("query", query, passage, language, words)
    yield "copied", query, copied(query, passage)
    yield "duplicate", query, earlier.again(query)


def earlier_queries(brief: Brief) -> Taken:
    """The queries that were taken of earlier replies."""
    return Taken(each.content.query for each in brief.samples if isinstance(each.content, Retrieval))


def counted(number: int, one: str, many: str) -> str:
    """So many of something, as it is asked for."""
    return f"{number} {one if number == 1 else many}"


def asked_words(words: tuple[int, int]) -> str:
    """A length as it is asked for, and as `text_findings` counts it."""
    fewest, most = words
    return f"{fewest} to {most} words, or {2 * fewest} to {2 * most} characters in Chinese or Japanese"

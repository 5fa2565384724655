"""What recipes that start from passages look at in a text of a reply, and in which order: the cheap checks first."""

import re
from collections.abc import Iterable, Iterator, Sequence

from synth.checks import LONGEST_WORD, MOST_KEPT, copied, hidden, leaked, wrong_language, wrong_length
from synth.likeness import Taken
from synth.recipes.recipe import Brief, Finding
from synth.records import Retrieval, normalise

_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|amp|lt|gt|quot|apos|nbsp);", re.IGNORECASE)
_MARK = re.compile(r"\s*(?:(\d{1,3})[.)、．）]\s*(?=\D)|[-*•]\s+)")  # of an item of a list


def found_in(text: str, found: Iterable[tuple[str, str | None]], name: str = "") -> Iterator[Finding]:
    """What was found in one text, by reason; `name` says of an item's texts which."""
    for reason, what in found:
        yield reason, text, f"{name}: {what}" if name and what else what


def text_findings(name: str, text: str, original: str, language: str, words: tuple[float, float]) -> Iterator[Finding]:
    """
    Of any text that was asked for in a `language`, "" for that of the `original`, and of so many `words`. What is far
    too long is found first: nothing else looks at it.
    """
    fewest, most = words
    shown = normalise(text[:MOST_KEPT])
    is_far_too_long = len(text) > 10 * LONGEST_WORD * most
    yield "length", shown, f"the {name} has {len(text)} characters" if is_far_too_long else None
    found = (
        ("characters", unreadable(text, original)),
        ("length", wrong_length(text, fewest=fewest, most=most)),
        ("leakage", leaked(text, original)),
        ("language", wrong_language(text, original, language)),
    )
    yield from found_in(shown, found, f"the {name}")


def unreadable(text: str, original: str) -> str | None:
    """Characters that are not seen, or are written as in HTML where the original has none that is."""
    entity = _ENTITY.search(text)
    return hidden(text) or (f"contains {entity[0]}" if entity and not _ENTITY.search(original) else None)


def unnumbered(texts: Sequence[str], original: str = "") -> list[str]:
    """
    The items of a list without the marks of another list: numbers in a row, or the same dash or dot before each. One
    that stands alone may belong to its text, as in "1. FC Köln", and so may those after such an original.
    """
    marks = [found for text in texts if (found := _MARK.match(text))]
    if len(marks) < max(len(texts), 2) or _MARK.match(original):
        return list(texts)
    numbers = [int(mark[1]) for mark in marks if mark[1]]
    in_a_row = list(range(numbers[0], numbers[0] + len(texts))) if numbers else []
    is_list = numbers == in_a_row and (numbers or len({mark[0].strip() for mark in marks}) == 1)
    return [text[mark.end() :] for text, mark in zip(texts, marks, strict=True)] if is_list else list(texts)


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

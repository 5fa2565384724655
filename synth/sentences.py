"""Where the sentences of a text begin and end, in English and Chinese."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LIST_MARKER = re.compile(r"\s*(?:(?:[-*+•]|\d{1,3}[.)、])(?:\s+|$))?")
_SENTENCE_BREAK = re.compile(r"[。！？；]++[”’」』）]*+|(?<![.!?])[.!?]++[\"'”’)\]]*+(?=\s)")
_NEXT = re.compile(r"\s*(\S?)")
_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:e\.g|i\.e|etc|vs|cf|al|Mr|Mrs|Ms|Dr|St|No|Fig|Inc|Jr|approx))\.$")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, and where it stands in its text."""

    text: str
    start: int
    end: int


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of each line, list markers left out; `start` and `end` count in `text`."""
    offset = 0
    for line in text.split("\n"):
        start = end_of_marker(line)
        ends = [found.end() for found in _SENTENCE_BREAK.finditer(line) if _ends_sentence(line, found.end())]
        for end in [*ends, len(line)]:
            if line[start:end].strip():
                yield Sentence(line[start:end].strip(), offset + start, offset + end)
            start = end
        offset += len(line) + 1


def end_of_marker(line: str) -> int:
    """Where the text of a line begins, after the mark of a list item."""
    marker = _LIST_MARKER.match(line)
    return marker.end() if marker else 0


def _ends_sentence(line: str, end: int) -> bool:
    following = _NEXT.match(line, end)
    is_within = following is not None and following[1].islower()
    return not (is_within or _ABBREVIATION.search(line[max(0, end - 12) : end]))

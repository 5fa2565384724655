"""
Reading a reply: the JSON object that was asked for, wherever the model put it, checked against the recipe's model.

A reply is hostile input. It is parsed as JSON, never run, and nothing is guessed: what was not written to its end is
dropped. What had to be done to read it is told, so that it can be counted and looked at.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from synth.records import BadReply

# "": the reply is the object and nothing else. "found": it stood in prose, in a fence, in a list or after thoughts.
# "cut": the reply broke off within it, and only what had been written to its end was kept.
Repaired = Literal["", "found", "cut"]
Shape = TypeVar("Shape", bound=BaseModel)

_MOST_SHOWN = 120  # characters of a reply in an error
_MOST_NAMED, _MOST_SAID = 3, 400  # faults in an error, and their characters
_MOST_SEARCHED = 1_000_000  # characters; no recipe asks for a hundredth
_MOST_TRIED, _MOST_CUT = 20, 3  # whole objects, and beginnings of one that breaks off
_START = re.compile(r'\{\s*["}]')  # of an object; a brace of LaTeX or code is none
# Of an object that breaks off: a string (of a member with its colon), whole or unfinished, or what gives it structure.
_PIECE = re.compile(r'(?::\s*)?"(?:[^"\\]|\\.)*+("?)|[][{},]', re.DOTALL)


def read_reply(reply_text: str, shape: type[Shape]) -> tuple[Shape, Repaired]:
    """
    The object in a reply, as the shape that it was asked to have, and what had to be done to find it.

    A reply that is one object is that object. Of several within other text the last that fits counts: a model that
    writes a draft first means its answer. Of the same key twice the last counts, as everywhere in JSON.

    Raises:
        BadReply: no object fits; it says of the last one where it does not and what was expected, in one printable
            line that a model can act on.
    """
    whole = _loaded(reply_text)
    if isinstance(whole, dict):
        return _fitting(whole, shape), ""
    answer = _answer(reply_text)
    misfit: BadReply | None = None
    starts: list[int] = []
    for found in reversed(list(_objects(answer, starts))[-_MOST_TRIED:]):
        try:
            return _fitting(found, shape), "found"
        except BadReply as error:
            misfit = misfit or error
    for start in starts[:_MOST_CUT]:
        begun = _loaded(_completed(answer, start))
        if isinstance(begun, dict):
            try:
                return _fitting(begun, shape), "cut"
            except BadReply as error:
                misfit = misfit or BadReply(f"the reply breaks off: {error}")
    raise misfit or BadReply(f"the reply is no JSON object: {_shown(reply_text)}")


def _answer(reply_text: str) -> str:
    """What comes after the thoughts of a reasoning model: a draft that it thought better of is no answer."""
    if len(reply_text) > _MOST_SEARCHED:
        raise BadReply(f"the reply is no JSON object, and too long to search for one: {_shown(reply_text)}")
    _, closed, answer = reply_text.rpartition("</think>")
    if not closed and reply_text.lstrip().startswith("<think>"):
        raise BadReply("the reply ends before its thoughts do: there is no JSON object after them")
    return answer


def _objects(text: str, broken: list[int]) -> Iterator[dict[str, Any]]:
    """The outermost objects in a text, in order; where one begins that is none to its end goes into `broken`."""
    position, work = 0, 0
    while found := _START.search(text, position):
        start = found.start()
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            broken.append(start)
            position = start + 1
            reached = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
            work += reached - start + start // 100  # an error counts the lines before it
        else:
            yield value
        if work > 10 * len(text):  # made so that each of many beginnings is read to the end of the text
            return


def _completed(text: str, start: int) -> str:
    """
    The object that begins at `start` and breaks off, closed after its last whole member; of a list that it breaks off
    in, after the last whole item. "" where it does not break off.
    """
    closing: list[str] = []  # of what is open, outermost first
    end, closed_by = start, ""
    for piece in _PIECE.finditer(text, start):
        mark = piece[0][0]
        if mark in "[{":
            closing.append("]" if mark == "[" else "}")
        elif mark in "]}":
            closing.pop()
            if not closing:
                return ""
        is_key = mark == '"' and len(closing) == 1
        is_unfinished = mark in ':"' and not piece[1]
        if closing in (["}"], ["}", "]"]) and not (is_key or is_unfinished):
            end = piece.start() if mark == "," else piece.end()
            closed_by = "".join(reversed(closing))
    return text[start:end] + closed_by


def _fitting(value: dict[str, Any], shape: type[Shape]) -> Shape:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        faults = [
            f"{_place(fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        said = _printable("; ".join(faults[:_MOST_NAMED])[:_MOST_SAID])
        more = f"; and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise BadReply(f"the JSON object is not as asked: {said}{more}") from None


def _place(path: tuple[int | str, ...]) -> str:
    """As in `pairs[2].score`; "the object" for itself."""
    named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return named.removeprefix(".") or "the object"


def _loaded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, or ten thousand brackets
        return None


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        _refuse(digits)
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant[:20]} is no number")


# Python's own takes NaN and 1e999, and refuses the line breaks that models write into the strings of long texts.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse, strict=False)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\ufffd" for char in text)

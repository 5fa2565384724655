"""
Reading a reply: the JSON object that was asked for, wherever the model put it, checked against the recipe's model.

A reply is hostile input. It is parsed as JSON, never run, and nothing is guessed: what was not written to its end is
dropped, and what leaves in doubt how it is meant is refused, in a line that tells the LLM how to write it. What had to
be done to read a reply is told, so that it can be counted and looked at.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from synth.recipes.near_json import START, mended
from synth.records import BadReply

# "": the reply is the object and nothing else. "found": it stood in prose, in a fence, in a list, in another object or
# after thoughts, or was JSON but for its spelling (near_json.py).
# "cut": the reply broke off within it, and only what had been written to its end was kept.
Repaired = Literal["", "found", "cut"]
Shape = TypeVar("Shape", bound=BaseModel)
Item = TypeVar("Item")
Items = Annotated[list[Item], Field(min_length=1, max_length=100)]  # what was asked for, and no reply without end

_MOST_SHOWN = 120  # characters of a reply in an error
_MOST_NAMED, _MOST_SAID = 3, 400  # faults in an error, and their characters
_MOST_SEARCHED = 1_000_000  # characters; no recipe asks for a hundredth
_MOST_TRIED, _MOST_BROKEN = 20, 3  # whole objects, and what begins like one and is none
_MOST_UNWRAPPED = 3  # objects, each the only thing that another holds
_MOST_OF_A_FAULT = 30  # characters
_HINTS = {
    "Invalid \\escape": " (a backslash in a text is written twice)",
    "Expecting ',' delimiter": ' (or a quotation mark in a text, which is written \\")',
}
# Behind an object, what shows that its reply is over: what follows is of another turn, or of another prompt.
_OVER = re.compile(
    r"<\|(?:im_end|eot_id|endoftext|user)\|>|<end_of_turn>|</s>|<｜end▁of▁sentence｜>"
    r"|^(?:User|Human|用户) ?[:：]|^----- (?:passage |text )?[0-9a-f]{32}\b",
    re.MULTILINE,
)
# What JSON makes of \beta, \frac, \theta, \neq and \rho where their backslash was written once.
_FORMULA = re.compile(
    r"(?:[\b](?:eta|egin|ar|inom|oldsymbol)|\f(?:rac|orall)|\t(?:ext|extbf|extit|heta|imes|au|riangle|ilde)"
    r"|\n(?:abla|eq|eg|otin|exists)|\r(?:ho|ight|angle))(?![a-z])"
)
# Of an object that breaks off: a string (of a member with its colon), whole or unfinished, or what gives it structure.
_PIECE = re.compile(r'(?::\s*)?"(?:[^"\\]|\\.)*+("?)|[][{},]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Broken:
    """Where something begins like an object and is none, how far it was read, and what is wrong there."""

    start: int
    reached: int
    fault: str


def _whole(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]  # `"3"` and 3.0 mean 3


class Form(BaseModel):
    """What the LLM is asked to reply. A server without schemas may add keys: they are let pass."""

    model_config = ConfigDict(strict=True)


def read_reply(reply_text: str, shape: type[Shape]) -> tuple[Shape, Repaired]:
    """
    The object in a reply, as the shape that it was asked to have, and what had to be done to find it.

    A reply that is one object is that object. Of several within other text the last that fits counts: a model that
    writes a draft first means its answer. What stands behind the mark of another turn or another prompt is no answer.
    Of the same key twice the last counts, as everywhere in JSON.

    Raises:
        BadReply: no object fits; it says of the last one where it does not and what was expected, in one printable
            line that a model can act on.
    """
    misfit: BadReply | None = None
    broken: list[_Broken] = []
    for found, repaired in _found(reply_text, broken):
        try:
            return _fitting(found, shape), repaired
        except BadReply as error:
            misfit = misfit or (BadReply(f"the reply breaks off: {error}") if repaired == "cut" else error)
    raise misfit or BadReply(f"the reply is no JSON object: {_furthest(broken) or _shown(reply_text)}")


def _found(reply_text: str, broken: list[_Broken]) -> Iterator[tuple[dict[str, Any], Repaired]]:
    """The objects that may be meant, the likeliest first. What begins like one and is none goes into `broken`."""
    whole = _loaded(reply_text)
    if isinstance(whole, (dict, str)):
        for each in _unwrapped(whole):
            yield each, "" if each is whole else "found"
    if isinstance(whole, dict):
        return
    answer = _answer(reply_text)
    for found in reversed(list(_objects(answer, broken))[-_MOST_TRIED:]):
        for each in _unwrapped(found):
            yield each, "found"
    for start in [each.start for each in broken]:
        begun = _loaded(_completed(answer, start))
        if isinstance(begun, dict):
            yield begun, "cut"


def _furthest(broken: Sequence[_Broken]) -> str:
    return max(broken, key=lambda each: each.reached).fault if broken else ""


def _answer(reply_text: str) -> str:
    """What comes after the thoughts of a reasoning model: a draft that it thought better of is no answer."""
    if len(reply_text) > _MOST_SEARCHED:
        raise BadReply(f"the reply is no JSON object, and too long to search for one: {_shown(reply_text)}")
    _, closed, answer = reply_text.rpartition("</think>")
    if not closed and reply_text.lstrip().startswith("<think>"):
        raise BadReply("the reply ends before its thoughts do: there is no JSON object after them")
    return answer


def _unwrapped(found: Any) -> Iterator[dict[str, Any]]:
    """An object, and the one that is all that it holds; either may be written as a text."""
    for _ in range(_MOST_UNWRAPPED):
        if isinstance(found, str):
            found = _loaded(found)
        if not isinstance(found, dict):
            return
        yield found
        found = next(iter(found.values())) if len(found) == 1 else None


def _objects(text: str, broken: list[_Broken]) -> Iterator[dict[str, Any]]:
    """The outermost objects of an answer, in order; where one begins that is none to its end goes into `broken`."""
    position, work, is_found = 0, 0, False
    while begun := START.search(text, position):
        start = begun.start()
        if is_found and _OVER.search(text, position, start):
            return
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            is_looked_at = len(broken) < _MOST_BROKEN
            value, position = _mended(text, start) if is_looked_at else (None, start + 1)
            reached = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
            work += reached - start + start // 100  # an error counts the lines before it
            if value is None and is_looked_at:
                broken.append(_Broken(start, reached, _said(error)))
        if value is not None:
            is_found = True
            yield value
        if work > 10 * len(text):  # made so that each of many beginnings is read to the end of the text
            return


def _mended(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The object that begins at `start`, JSON but for its spelling, and where it ends; or None, and where to go on."""
    found = mended(text, start)
    value = _loaded(found[0]) if found else None
    return (value, found[1]) if found and isinstance(value, dict) else (None, start + 1)


def _said(error: ValueError | RecursionError) -> str:
    """What is wrong with JSON, with what a model would do about it, and the text from there."""
    if not isinstance(error, json.JSONDecodeError):
        return ""
    hint = next((hint for said, hint in _HINTS.items() if error.msg.startswith(said)), "")
    return f"{error.msg} at: {_printable(error.doc[error.pos : error.pos + _MOST_OF_A_FAULT])}{hint}"


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
        fitting = shape.model_validate(value)
    except ValidationError as error:
        faults = [
            f"{_place(fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        said = _printable("; ".join(faults[:_MOST_NAMED])[:_MOST_SAID])
        more = f"; and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise BadReply(f"the JSON object is not as asked: {said}{more}") from None
    if any(_FORMULA.search(text) for text in _texts(fitting.model_dump())):
        raise BadReply("formulas in the JSON object have lost their backslashes: a backslash is written twice")
    return fitting


def _texts(value: Any) -> Iterator[str]:
    """The texts that were asked for."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each)
        case dict():
            yield from _texts(list(value.values()))


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

"""
Reading a reply: the JSON object that was asked for, wherever the model put it, checked against the recipe's model.

A reply is hostile input. It is parsed as JSON, never run, and nothing is guessed: what was not written to its end is
dropped, and what leaves in doubt how it is meant is refused, in a line that tells the LLM how to write it: to ask again
costs one request, and a reply misread would be a wrong sample. What had to be done to read a reply is told, so that it
can be counted and looked at.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar

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
_MOST_TRIED, _MOST_BROKEN = 20, 3  # earlier objects, and what begins like one and is looked at for its spelling
_MOST_UNWRAPPED = 3  # objects, each the only thing that another holds
_MOST_OF_A_FAULT, _MOST_SAID_BETWEEN = 30, 100  # characters
_HINTS = {
    "Invalid \\escape": " (a backslash in a text is written twice)",
    "Expecting ',' delimiter": ' (or a quotation mark in a text, which is written \\")',
}
_STANDS_WITHIN = (
    "the JSON object stands within broken JSON, or more goes on beside it: reply with one JSON object and nothing else "
    '(a quotation mark in a text is written \\")'
)
# Behind an object, what shows that its reply is over: what follows is of another turn, or of another prompt.
_OVER = re.compile(
    r"<\|(?:im_(?:end|start)|eo[tms]_id|eot|end|endoftext|end_of_(?:text|turn)|start_header_id|start_of_role|turn"
    r"|user|system|assistant|human)\|>|</?(?:start|end)_of_turn>|</?s>|\[/?INST\]|<｜(?:end▁of▁sentence|User|Assistant)｜>"
    r"|^[#* ]{0,5}(?:User|Human|Instruction|用户)[* ]{0,3}[:：]|^----- (?:passage |text )?[0-9a-f]{32}\b",
    re.MULTILINE | re.IGNORECASE,
)
# Between two objects, that the second takes the place of the first; and that it is of another text.
_MENDS = re.compile(
    r"\bbetter ?[:.]|\b(?:improv(?:e|ed|ing|ement)|final(?:ly)?|correct(?:ed|ion)|revis(?:e|ed|ion))\b"
    r"|改进|改進|更好|修改|修正|最终|最終",
    re.IGNORECASE,
)
_NAMES_A_TEXT = re.compile(
    r"(?:query|passage|text|document|input|example|查询|段落|文本)\b[^:：\n]{0,20}[:：]", re.IGNORECASE
)
# What shows that an object stood in a text of another one: behind it, and between it and what is broken before it.
_GOES_ON = re.compile(r"""["”]\s*(?:[}\]]|:\s*["“\[{\d])|^\s*[,，]\s*["“']?\w{1,40}["”']?\s*[:：]""")
_IS_WITHIN = re.compile(r'["”]\s*(?:[}\]]|:\s*["“\[{\d]|[,，]\s*["“])')
_UNLIKE_JSON = re.compile(r"\{\s*['‘]?\w{1,40}['’]?\s*[:：]")  # an object in the spelling of Python or JavaScript
# What JSON makes of \beta, \frac, \times, \neq and \rho where their backslash was written once. Where that is a word at
# the beginning of a line or behind a tab (au, ext, exists), what stands beside it must be of a formula too.
_FORMULA = re.compile(
    r"[\b](?:eta|egin|ar|inom|oldsymbol)(?![a-z])|\f(?:rac|orall)(?![a-z])|\r(?:ho|ight|angle)(?![a-z])"
    r"|\t(?:(?:ext|extbf|extit|ilde)\{|(?:imes|riangle)(?![a-z])|(?:heta|au)(?:\s?[_^=<>$}]))"
    r"|(?<=[$({^_=])\t(?:heta|au)(?![a-z])"
    r"|\n(?:abla|otin)(?![a-z])|(?<=[ $)}\]\d])\neq(?=\s?[\w\\({$-])(?![a-z])|(?<=\$)\n(?:eg|exists)(?![a-z])"
)
# Of an object that breaks off: a string (of a member with its colon), whole or unfinished, or what gives it structure.
_PIECE = re.compile(r'(?::\s*)?"(?:[^"\\]|\\.)*+("?)|[][{},]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}
# What a text may break off with: a literal or a sign of which more was to come, and a number that JSON takes for whole.
_PART_OF_A_WORD = re.compile(r"-|t(?:ru?)?|f(?:al?s?)?|n(?:ul?)?")
_PART_OF_A_NUMBER = re.compile(r"\.|(?:\.\d+)?[eE][+-]?")


@dataclass(frozen=True, slots=True)
class _Span:
    """Where something begins like an object, and ends: the object, or what is wrong with it."""

    start: int
    end: int
    value: Any = None
    fault: str = ""
    is_cut: bool = False  # right as far as it goes


def _whole(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]  # `"3"` and 3.0 mean 3


class Form(BaseModel):
    """What the LLM is asked to reply. A server without schemas may add keys: they are let pass."""

    model_config = ConfigDict(strict=True)

    # Of a list of texts a model may write a better one, and say so. Of a judgement two that differ are always in doubt.
    has_one_answer: ClassVar[bool] = False


def read_reply(reply_text: str, shape: type[Shape]) -> tuple[Shape, Repaired]:
    """
    The object in a reply, as the shape that it was asked to have, and what had to be done to find it.

    A reply that is one object is that object. Of other text the last thing that begins like an object counts: where it
    is broken or does not fit, an earlier one that fits may be an echo or a draft. Nor is it read where an earlier one
    fits and says something else, unless words before the last one say that it is the better or final one (and no Form
    that `has_one_answer` was asked for). What stands behind the mark of another turn or another prompt is no answer.
    Of the same key twice the last counts, as everywhere in JSON.

    Raises:
        BadReply: the object does not fit, or it is in doubt which one is meant; it says where it does not and what was
            expected, in one printable line that a model can act on.
    """
    whole = _loaded(reply_text)
    if isinstance(whole, (dict, str)) and any(True for _ in _unwrapped(whole)):
        read, is_whole = _fitting_within(whole, shape)
        return read, "" if is_whole else "found"
    answer = _answer(reply_text)
    spans = list(_of_its_turn(answer))
    spans = [span for span in spans if span.value != {}] or spans
    if not spans:
        raise BadReply(f"the reply is no JSON object: {_shown(reply_text)}")
    read, repaired = _last_read(answer, spans[-1], shape)
    _refuse_doubt(answer, spans, read, shape)
    return read, repaired


def every_reply(text: str, shape: type[Shape]) -> Iterator[Shape]:
    """Every object in a text that could be a reply, in order: to find out whether a text dictates one."""
    return (each for span in _spans(text) for each in _fits(span, shape))


def _fits(span: _Span, shape: type[Shape]) -> Iterator[Shape]:
    """What stands there as the shape, if it fits."""
    if span.value is not None:
        with suppress(BadReply):
            yield _fitting_within(span.value, shape)[0]


def _last_read(answer: str, last: _Span, shape: type[Shape]) -> tuple[Shape, Repaired]:
    """The object of an answer, or what had been written to its end of one in which the reply breaks off."""
    if last.value is not None:
        return _fitting_within(last.value, shape)[0], "found"
    begun = _loaded(_completed(answer, last.start)) if last.is_cut else None
    if not isinstance(begun, dict):
        raise BadReply(f"the reply is no JSON object: {last.fault or _shown(answer[last.start : last.end])}")
    try:
        return _fitting(begun, shape), "cut"
    except BadReply as error:
        raise BadReply(f"the reply breaks off: {error}") from None


def _refuse_doubt(answer: str, spans: Sequence[_Span], read: Shape, shape: type[Shape]) -> None:
    """Raises BadReply where the last object of an answer, which fits, need not be what is meant."""
    *earlier, last = spans
    over = _OVER.search(answer, last.end)
    behind = answer[last.end : over.start() if over else len(answer)]
    if _GOES_ON.search(behind) or _UNLIKE_JSON.search(behind):
        raise BadReply(_STANDS_WITHIN)
    said_between = answer[earlier[-1].end : last.start] if earlier else ""
    is_mended = _is_mended(said_between, shape)
    if any(other != read for each in earlier[-_MOST_TRIED:] for other in _fits(each, shape) if not is_mended):
        raise BadReply("the reply holds several JSON objects that differ: reply with one and nothing else")
    for each, following in pairwise(spans):
        if each.value is None and _IS_WITHIN.search(answer, each.end, following.start):
            raise BadReply(_STANDS_WITHIN)
    if earlier and earlier[-1].value != last.value and not re.search(r"\w", said_between):
        raise BadReply(_STANDS_WITHIN)


def _is_mended(said: str, shape: type[BaseModel]) -> bool:
    """Whether it is said between two objects that the second takes the place of the first."""
    has_one_answer = issubclass(shape, Form) and shape.has_one_answer
    is_mended = len(said) <= _MOST_SAID_BETWEEN and _MENDS.search(said) and not _NAMES_A_TEXT.search(said)
    return bool(is_mended) and not has_one_answer


def _fitting_within(value: Any, shape: type[Shape]) -> tuple[Shape, bool]:
    """What of an object, or of one that it holds, fits, and whether that is all of it. Raises BadReply."""
    misfit: BadReply | None = None
    for each in _unwrapped(value):
        try:
            return _fitting(each, shape), each is value
        except BadReply as error:
            misfit = misfit or error
    raise misfit or BadReply("the reply is no JSON object")


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


def _of_its_turn(answer: str) -> Iterator[_Span]:
    """What begins like an object until the turn of the answer is over."""
    position = 0
    for span in _spans(answer):
        if position and _OVER.search(answer, position, span.start):
            return
        yield span
        position = span.end


def _spans(text: str) -> Iterator[_Span]:
    """What begins like an object, the outermost of each, in order."""
    position, work, num_broken = 0, 0, 0
    while begun := START.search(text, position):
        start = begun.start()
        span = _span(text, start, may_mend=num_broken < _MOST_BROKEN)
        position = span.end
        num_broken += span.value is None
        work += span.end - start + start // 100  # an error counts the lines before it
        if work > 10 * len(text):  # made so that each of many beginnings is slow to read
            span = _Span(start, len(text), fault=span.fault)
            position = len(text)
        yield span


def _span(text: str, start: int, *, may_mend: bool) -> _Span:
    try:
        value, end = _DECODER.raw_decode(text, start)
        return _Span(start, end, value)
    except (ValueError, RecursionError) as error:
        value, end = _mended(text, start) if may_mend else (None, start)
        if value is not None:
            return _Span(start, end, value)
        return _Span(start, _end_of_broken(text, start), fault=_said(error), is_cut=_breaks_off(error))


def _end_of_broken(text: str, start: int) -> int:
    """Where the last bracket of what is open at `start` is closed: what stands before that is within it."""
    closing: list[str] = []
    for piece in _PIECE.finditer(text, start):
        if piece[0] in _CLOSING:
            closing.append(_CLOSING[piece[0]])
        elif piece[0] in ("]", "}"):
            if piece[0] != closing.pop():
                break
            if not closing:
                return piece.end()
    return len(text)


def _breaks_off(error: ValueError | RecursionError) -> bool:
    """Whether all is right up to the end of the text, where more was to come."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    rest = error.doc[error.pos :]
    if error.msg.startswith("Unterminated string"):
        return not rest.rstrip(" \n`").endswith("}")  # else the object is closed, and a quotation mark is wrong
    if not rest.strip():
        return True
    if error.msg.startswith("Expecting value"):
        return _PART_OF_A_WORD.fullmatch(rest) is not None
    if error.msg.startswith("Expecting ',' delimiter"):
        return error.doc[error.pos - 1].isdigit() and _PART_OF_A_NUMBER.fullmatch(rest) is not None
    return error.msg.startswith("Invalid \\u") and len(rest) < len("\\u0000")


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
    in, after the last whole item.
    """
    closing: list[str] = []  # of what is open, outermost first
    end, closed_by = start, ""
    for piece in _PIECE.finditer(text, start):
        mark = piece[0][0]
        if mark in _CLOSING:
            closing.append(_CLOSING[mark])
        elif mark in "]}":
            closing.pop()
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

"""JSON that anybody may have written: the object on a line, the elements of an array, neither too deep nor too long."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from synth.records import UserError
from synth.stages.lines import MAX_LINE, NOT_UTF8, BadLine, Row, reading

MAX_DEPTH = 100  # of lists and objects in a row: what looks at it later calls itself
PIECE = 1 << 20  # bytes of a JSON array that are read at one time
TOO_DEEP = "too deep or too large to be a row of a data set"
SPACE = re.compile(r"[ \t\r\n]*")


def parse_object(line: bytes) -> Row:
    """The JSON object on a line. Raises BadLine if it is none."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadLine(NOT_UTF8, text=line[:800].decode(errors="replace").strip()) from None
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadLine(
            "not valid JSON", f" ({error.msg}); every line must be one JSON object", text=_shown(text)
        ) from None
    except (RecursionError, ValueError):  # the second: a whole number of thousands of digits
        raise BadLine(TOO_DEEP, text=_shown(text)) from None
    return checked_object(row, text)


def checked_object(row: object, text: str) -> Row:
    """What was parsed of this JSON, if it is an object that can be stored and shown. Raises BadLine."""
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(row):
        raise BadLine(TOO_DEEP, text=_shown(text))
    if "\\u" in text and not _is_encodable(row):
        raise BadLine("holds half of a surrogate pair; mend the encoding of this row", text=_shown(text))
    if not isinstance(row, dict):
        kind = type(row).__name__
        raise BadLine("not a JSON object", f" but {kind}; every row must be one JSON object", text=_shown(text))
    return row


def _shown(text: str) -> str:
    return text[:800].strip()


def _is_deep(row: object) -> bool:
    level = [row]
    for _ in range(MAX_DEPTH + 1):
        level = [each for outer in level for each in _children(outer) if isinstance(each, (dict, list))]
    return bool(level)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_encodable(row: object) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_array(path: Path) -> bool:
    """Whether a file begins as a JSON array does."""
    with reading(path) as file:
        return file.read(1000).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def elements(path: Path) -> Iterator[tuple[object, str]]:
    """The elements of a JSON array, each with its JSON; of the file no more is held than one of them and a piece."""
    decode = json.JSONDecoder().raw_decode
    with reading(path) as file:
        pieces = codecs.getincrementaldecoder("utf-8-sig")()

        def more(size: int = PIECE) -> str:
            try:
                data = file.read(size)
                return pieces.decode(data, final=not data)
            except UnicodeDecodeError:
                raise UserError(f"{path}: {NOT_UTF8}") from None

        held, line = more(), 1
        place = _after(held, 0)  # of the bracket or comma before an element
        while held[place] != "]":
            start, end, value = _after(held, place + 1), 0, None
            wrong, where = "the array does not end", len(held)
            if held[place] == "[" and held.startswith("]", start):
                place = start
                continue
            try:
                value, end = decode(held, start)
            except json.JSONDecodeError as error:
                wrong, where = error.msg, error.pos
            except (RecursionError, ValueError):
                raise UserError(f"{path}: {TOO_DEEP}") from None
            after = _after(held, end)
            if end and after < len(held):  # what ends at the end of a piece may go on in the next
                if held[after] not in ",]":
                    line += held.count("\n", 0, after)
                    raise UserError(f"{path}:{line}: not valid JSON (no comma between two rows)")
                yield value, held[start:end]
                place = after
                continue
            length = len(held) - place
            long = length > MAX_LINE
            piece = "" if long else more(min(max(PIECE, length), MAX_LINE + 1 - length))  # of twice the size each time
            if not piece:
                line += held.count("\n", 0, where)
                size = f", or a row of more than {MAX_LINE >> 20} MiB" if long else ""
                raise UserError(f"{path}:{line}: not valid JSON ({wrong}){size}")
            line += held.count("\n", 0, place)
            held, place = held[place:] + piece, 0
        if held[place + 1 :].strip() or more().strip():
            raise UserError(f"{path}: not valid JSON (more behind the end of the array)")


def _after(text: str, place: int) -> int:
    """The place behind the white space at this one."""
    space = SPACE.match(text, place)
    return space.end() if space else place

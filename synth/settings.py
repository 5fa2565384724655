"""
Settings from TOML into frozen records: every key known, every value of its type, one line that says what is wrong.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from synth.records import UserError

CONFIG, STORE, LAKE = "synth.toml", "store.duckdb", "store.ducklake"  # what makes a folder a workspace
Record = TypeVar("Record")
NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}
MAX_KEY = 255  # bytes; a key may name a file, and no file system takes more


def read_toml(path: Path) -> dict[str, Any]:
    """
    A TOML file's table; a byte order mark is let pass.

    Raises UserError, naming the file, if it is missing or broken, or has a key that could name no file.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise UserError(f"{path}: these settings cannot be read: lists or tables nested too deeply") from None
    except (OSError, ValueError) as error:  # not UTF-8, not TOML, numbers of thousands of digits
        raise UserError(f"{path}: these settings cannot be read: {error}") from None
    _check_keys(table, path)
    return table


def _check_keys(table: dict[str, Any], path: Path) -> None:
    below: list[object] = [table]
    while below:  # dotted keys nest deeper than Python recurses
        value = below.pop()
        if isinstance(value, dict):
            for key in value:
                if len(key.encode()) > MAX_KEY:
                    raise UserError(f"{path}: the key {_shown(key)} is longer than {MAX_KEY} bytes")
                if "\0" in key:
                    raise UserError(f"{path}: the key {_shown(key)} has a NUL character in it")
            below += value.values()
        elif isinstance(value, list):
            below += value


def record_of(kind: type[Record], table: object, where: str, **given: object) -> Record:
    """
    A record made from a table, and from what is `given` beside it. Keys with a default may be left out; whole numbers
    pass as numbers.

    Raises UserError that names `where` and the key: unknown (and what was meant), missing, or of the wrong type.
    """
    if not isinstance(table, dict):
        raise UserError(f"{where}: must be a table of settings, not {_shown(table)}")
    hints = typing.get_type_hints(kind)
    refuse_unknown(table, [key for key in hints if key not in given], where)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    required = [field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING]
    if missing := [key for key in required if key not in table and key not in given]:
        raise UserError(f"{where}: missing {', '.join(missing)}")
    return kind(**{key: _typed(value, hints[key], f"{where}: {key}") for key, value in table.items()}, **given)


def refuse_unknown(table: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise UserError for a key that is none of the known ones, with what was meant."""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"{where}: unknown key {key}: {remedy}")


def _typed(value: object, wanted: Any, where: str) -> object:
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (typing.get_origin(wanted) or wanted,)
    if typing.get_origin(wanted) is typing.Literal:
        if value in typing.get_args(wanted):
            return value
        raise UserError(f"{where} must be one of {', '.join(map(str, typing.get_args(wanted)))}, not {_shown(value)}")
    if type(value) not in options and not (float in options and type(value) is int):
        expected = " or ".join(NAMES.get(option, str(option)) for option in options if option is not type(None))
        raise UserError(f"{where} must be {expected}, not {_shown(value)}")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise UserError(f"{where} must be a number of at most 64 bits")
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{where} must be a text without NUL characters")
    return float(value) if type(value) is int and float in options else value


def _shown(value: object) -> str:
    """A value on one short line: lists, tables and giant numbers by their kind alone."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:60]}…")
    if type(value) is int and value.bit_length() > 64:
        return "a number of more than 64 bits"
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)

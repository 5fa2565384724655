"""
Settings from TOML into frozen records: every key known, every value of its type, one line that says what is wrong.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from synth.records import UserError

Record = TypeVar("Record")
NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's table. Raises UserError, naming the file, if it is missing or broken."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: these settings cannot be read: {error}") from None


def record_of(kind: type[Record], table: object, where: str) -> Record:
    """
    A record made from a table. Keys with a default may be left out; whole numbers pass as numbers.

    Raises UserError that names `where` and the key: unknown (and what was meant), missing, or of the wrong type.
    """
    if not isinstance(table, dict):
        raise UserError(f"{where}: must be a table of settings, not {table!r}")
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(hints)}"
            raise UserError(f"{where}: unknown key {key}: {remedy}")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    required = [field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING]
    if missing := [key for key in required if key not in table]:
        raise UserError(f"{where}: missing {', '.join(missing)}")
    return kind(**{key: _typed(value, hints[key], f"{where}: {key}") for key, value in table.items()})


def _typed(value: object, wanted: Any, where: str) -> object:
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (typing.get_origin(wanted) or wanted,)
    if typing.get_origin(wanted) is typing.Literal:
        if value in typing.get_args(wanted):
            return value
        raise UserError(f"{where} must be one of {', '.join(map(str, typing.get_args(wanted)))}, not {value!r}")
    if float in options and type(value) is int:
        return float(value)
    if type(value) not in options:
        expected = " or ".join(NAMES.get(option, str(option)) for option in options if option is not type(None))
        raise UserError(f"{where} must be {expected}, not {value!r}")
    return value

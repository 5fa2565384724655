"""A reviewer's own keys: which actions there are (the table in keys.js says so), and which keys they may have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from synth.records import UserError
from synth.store.connection import Store
from synth.store.reviewer_settings import reviewer_setting, set_reviewer_setting

SETTING = "keys"  # in the table reviewer_setting
SPACE = "Space"
ENTRY = re.compile(r'\{ action: "(?P<action>\w+)", key: "(?P<key>.)", label: "(?P<label>[^"]+)"')
# Streamlit reruns the app and clears its cache with r and c; the digits choose negatives, scores, labels and reasons.
RESERVED = frozenset("rc123456789")


@dataclass(frozen=True, slots=True)
class Action:
    """What a key does: its name in the map, the key unless a reviewer has another, and what its button says."""

    name: str
    key: str
    label: str


@cache
def actions() -> tuple[Action, ...]:
    """Every action of the card that has a key, in the card's order."""
    table = files("review_app").joinpath("keys.js").read_text(encoding="utf-8")
    return tuple(Action(found["action"], found["key"], found["label"]) for found in ENTRY.finditer(table))


def own_keys(store: Store, reviewer: str) -> dict[str, str]:
    """The keys that a reviewer has otherwise than everybody else, by action."""
    found = reviewer_setting(store, reviewer, SETTING)
    return {str(name): str(key) for name, key in found.items()} if isinstance(found, dict) else {}


def keep_keys(store: Store, reviewer: str, wanted: Mapping[str, str]) -> None:
    """Keep a reviewer's keys, one for every action. Raises UserError if one cannot be, or two actions have the same."""
    checked = {action: as_key(wanted.get(action.name, action.key), action) for action in actions()}
    users: dict[str, list[str]] = {}
    for action, key in checked.items():
        users.setdefault(key, []).append(action.label)
    for key, labels in users.items():
        if len(labels) > 1:
            raise UserError(f"{shown(key)} cannot be for both {' and '.join(labels)}; choose another for one of them")
    changed = {action.name: key for action, key in checked.items() if key != action.key}
    set_reviewer_setting(store, reviewer, SETTING, changed)


def as_key(written: str, action: Action) -> str:
    """The key as the browser names it. Raises UserError if it is none that the action can have."""
    key = " " if written == " " or written.strip().casefold() == SPACE.casefold() else written.strip().lower()
    if len(key) != 1 or not key.isprintable():
        raise UserError(f"{action.label}: {written!r:.40} is no single key; write a letter, a sign or {SPACE}")
    if key in RESERVED:
        raise UserError(f"{action.label}: {key.upper()} is taken (R and C by Streamlit, digits by the card)")
    return key


def shown(key: str) -> str:
    """A key as people call it."""
    return SPACE if key == " " else key.upper()

"""The settings of mine runs in words: what differs from the defaults, or between two runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synth.store.mined_before import Change

UNTOLD = {"encoder", "api_key_env"}  # the encoder has a line of its own, and a key is nobody's result


def settings_line(config: Mapping[str, Any]) -> str:
    """Which settings of a run are not the default."""
    told = unusual(config)
    return f"settings that are not the default: {told}" if told else "settings: the defaults"


def unusual(config: Mapping[str, Any]) -> str:
    """The settings of a run that are not the default, shortly; "" if all are."""
    from synth.stages.mine.settings import not_default

    told = {name: value for name, value in not_default(config).items() if name not in UNTOLD}
    return ", ".join(f"{spaced(name)} {_value(value)}" for name, value in told.items() if value is not None)


def changes_line(changes: "Sequence[Change]") -> str:
    """What differs between the settings of an earlier run and those of a later one."""
    told = [
        f"{spaced(each.name)} {_value(each.before)} before, {_value(each.now)} now"
        for each in changes
        if each.name != "api_key_env"
    ]
    if told:
        return f"settings that differ: {'; '.join(told)}"
    return "no setting differs: a model has other weights than before, or another precision"


def spaced(name: str) -> str:
    """A name in words."""
    return name.replace("_", " ")


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " and ".join(map(str, value)) or "none"
    if value is None or value == "":
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

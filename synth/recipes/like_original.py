"""What is looked at in a text that is written after an original, as recipes whose seeds are samples ask for it."""

from collections.abc import Iterator

from synth.checks import leaked, wrong_language
from synth.likeness import overlong, wrong_size
from synth.recipes.findings import unreadable

REASONS = ("empty", "length", "characters", "leakage", "language")


def of_form(text: str, original: str, *, most_longer: float) -> Iterator[tuple[str, str | None]]:
    """Length, characters and language, by reason; what is far too long is found first, and nothing else looks at it."""
    yield "empty", None if text else "empty"
    yield "length", overlong(text, original) or wrong_size(text, original, most=most_longer)
    yield "characters", unreadable(text, original)
    yield "leakage", leaked(text, original)
    yield "language", wrong_language(text, original)

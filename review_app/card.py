"""
The review card: a component that runs in the browser, and what Python sends it.

The card holds the next cards, shows the following one without waiting for Python, and keeps every event until Python
says that it is stored. Texts go as segments and are drawn as text, never as HTML or Markdown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import streamlit as st

from review_app.outbox import Receipt
from review_app.segments import visible
from synth.records import Verdict
from synth.store.queues import ReviewProgress
from synth.store.verdicts import REASONS

# One module: a component's script cannot import another.
SCRIPTS = (
    "outbox.js",
    "keys.js",
    "drawing.js",
    "contents.js",
    "judgement.js",
    "editor.js",
    "view.js",
    "controls.js",
    "card.js",
)


def _asset(name: str) -> str:
    return files("review_app").joinpath(name).read_text(encoding="utf-8")


_mount = st.components.v2.component(
    "skiff_review_card",
    html=_asset("card.html"),
    css=_asset("card.css"),
    js="\n".join(_asset(name) for name in SCRIPTS),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What Python has to say to the card.

    Attributes:
        receipt: what it stored.
        cards: new cards, as `card_payload` makes them; None if the card shall keep what it has.
        scores: what a blind card does not show, by revision id; empty unless the reviewer asked for it.
        differing: where a judge differs from an approval that was given blind, by its review id.
        held_for: seconds from now that nobody else is shown the card's samples; None: as before.
        trouble: why the store cannot be reached, if it cannot.
    """

    receipt: Receipt = field(default_factory=Receipt)
    cards: Sequence[Mapping[str, Any]] | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    differing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    progress: ReviewProgress | None = None
    held_for: float | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a reviewer's card is: `keys` of their own by action, and whether what they say settles the sample."""

    keys: Mapping[str, str] = field(default_factory=dict)
    adjudicates: bool = False


def review_card(*, key: str, outbox_name: str, answer: Answer, setting: Setting) -> None:
    """
    Mount the card. What it sends is in `st.session_state[key]["outbox"]`: `events` (see outbox.receive), `holding`, the
    ids of the samples that it has and need not be sent again, and, if the reviewer asked for scores, `reveal` with the
    samples among them whose scores it lacks, `unscored`.

    `outbox_name` says where the browser keeps events: one place for each store and reviewer.
    """
    _mount(
        key=key,
        data={
            "outbox_name": outbox_name,
            "cards": None if answer.cards is None else list(answer.cards),
            "scores": dict(answer.scores),
            "differing": {review_id: list(places) for review_id, places in answer.differing.items()},
            "progress": None if answer.progress is None else progress_payload(answer.progress),
            "stored": list(answer.receipt.stored),
            "refused": dict(answer.receipt.refused),
            "trouble": visible(answer.trouble),
            "held_for": answer.held_for,
            "reasons": list(REASONS[Verdict.REJECT]),
            "keys": dict(setting.keys),
            "adjudicates": setting.adjudicates,
        },
        on_outbox_change=lambda: None,  # the page reads the outbox itself, before it asks for cards
    )


def progress_payload(progress: ReviewProgress) -> dict[str, int]:
    """How far the reviewer is: verdicts given, cards left in the queue, and those that others have meanwhile."""
    done = progress.approved + progress.rejected + progress.skipped
    return {"done": done, "left": progress.left, "claimed": progress.claimed}

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
from review_app.segments import query_terms, segments, titled, visible
from synth.records import Verdict
from synth.store.reviews import Card, CardNegative, ReviewProgress
from synth.store.verdicts import REASONS

SCRIPTS = ("outbox.js", "drawing.js", "card.js")  # one module: a component's script cannot import another


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
    """What Python has to say to the card: what it stored, and new cards, or None if the card shall keep what it has."""

    receipt: Receipt = field(default_factory=Receipt)
    cards: Sequence[Card] | None = None
    progress: ReviewProgress | None = None
    held_for: float | None = None  # seconds from now that nobody else is shown the card's samples; None: as before
    trouble: str = ""  # why the store cannot be reached, if it cannot


def review_card(*, key: str, outbox_name: str, answer: Answer) -> None:
    """
    Mount the card. What it sends is in `st.session_state[key]["outbox"]`: `events` (see outbox.receive) and `holding`,
    the ids of the samples that it has and need not be sent again.

    `outbox_name` says where the browser keeps events: one place for each store and reviewer.
    """
    _mount(
        key=key,
        data={
            "outbox_name": outbox_name,
            "cards": None if answer.cards is None else [card_payload(card) for card in answer.cards],
            "progress": None if answer.progress is None else progress_payload(answer.progress),
            "stored": list(answer.receipt.stored),
            "refused": dict(answer.receipt.refused),
            "trouble": visible(answer.trouble),
            "held_for": answer.held_for,
            "reasons": list(REASONS[Verdict.REJECT]),
        },
        on_outbox_change=lambda: None,  # the page reads the outbox itself, before it asks for cards
    )


def progress_payload(progress: ReviewProgress) -> dict[str, int]:
    """How far the reviewer is: verdicts given, cards left in the queue, and those that others have meanwhile."""
    done = progress.approved + progress.rejected + progress.skipped
    return {"done": done, "left": progress.left, "claimed": progress.claimed}


def card_payload(card: Card) -> dict[str, Any]:
    """A card as the browser gets it: ids, scores, and every text as segments."""
    terms = query_terms(card.query)
    return {
        "sample_id": str(card.sample_id),
        "revision_id": str(card.revision_id),
        "source": visible(card.source),
        "operation": visible(card.operation),
        "method": visible(card.method or ""),
        "status": card.status,
        "decided_by": visible(card.decided_by or ""),
        "query": segments(card.query),
        "positives": [_passage(text, terms) for text in card.positives],
        "negatives": [_negative(negative, terms) for negative in card.negatives],
    }


def _passage(text: str, terms: frozenset[str]) -> dict[str, Any]:
    title, body = titled(text)
    return {"title": segments(title, terms), "body": segments(body, terms)}


def _negative(negative: CardNegative, terms: frozenset[str]) -> Mapping[str, Any]:
    return {
        "negative_id": str(negative.negative_id),
        "origin": visible(negative.origin),
        "rank": negative.rank,
        "score": negative.score,
        "positive_score": negative.positive_score,
        **_passage(negative.text, terms),
    }

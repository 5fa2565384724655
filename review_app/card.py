"""
The review card: a component that runs in the browser, and what Python sends it.

The card holds the next cards, shows the following one without waiting for Python, and keeps every event until Python
says that it is stored. Texts go as segments and are drawn as text, never as HTML or Markdown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from uuid import UUID

import streamlit as st

from review_app.outbox import Receipt
from review_app.segments import query_terms, segments, titled, visible
from synth.records import NegativeFlag, Verdict, text_id
from synth.store.reviews import Card, CardNegative, ReviewProgress
from synth.store.suggestions import Suggestion
from synth.store.verdicts import REASONS

# What a judge suggests of a passage, as the card says it.
SUGGESTED = {
    "drop_sample": "does not answer the query",
    "promote": "answers the query, no less well than the positive",
    "drop_negative": "answers the query in part, or less well than the positive",
    "not_worse": "was to be worse than the positive, and is not",
}
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
    suggestions: Mapping[UUID, Sequence[Suggestion]] = field(default_factory=dict)  # of judges, by revision
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
            "cards": None
            if answer.cards is None
            else [card_payload(card, answer.suggestions.get(card.revision_id, ())) for card in answer.cards],
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


def card_payload(card: Card, suggestions: Sequence[Suggestion] = ()) -> dict[str, Any]:
    """A card as the browser gets it: ids, scores, every text as segments, and what judges suggest of each passage."""
    terms = query_terms(card.query)

    def suggested(text: str) -> dict[str, list[str]]:
        return {"suggested": [_suggestion(each) for each in suggestions if each.text_id == text_id(text)]}

    return {
        "sample_id": str(card.sample_id),
        "revision_id": str(card.revision_id),
        "source": visible(card.source),
        "operation": visible(card.operation),
        "method": visible(card.method or ""),
        "status": card.status,
        "decided_by": visible(card.decided_by or ""),
        "query": segments(card.query),
        "positives": [_passage(text, terms) | suggested(text) for text in card.positives],
        "negatives": [_negative(negative, terms, card) | suggested(negative.text) for negative in card.negatives],
    }


def _suggestion(each: Suggestion) -> str:
    grade = f"grade {each.grade}" if each.relevance is None else f"grade {each.grade}, relevance {each.relevance:.2f}"
    return visible(f"{each.judge}: {SUGGESTED[each.suggestion]} ({grade}). {each.reason}".strip())


def _passage(text: str, terms: frozenset[str]) -> dict[str, Any]:
    title, body = titled(text)
    return {"title": segments(title, terms), "body": segments(body, terms)}


def _negative(negative: CardNegative, terms: frozenset[str], card: Card) -> dict[str, Any]:
    positive = "the positive" if len(card.positives) == 1 else "a positive"
    miners = {each.miner for other in card.negatives for each in other.miners}
    return {
        "negative_id": str(negative.negative_id),
        "origin": visible(negative.origin),
        "rank": negative.rank,
        "score": negative.score,
        "positive_score": negative.positive_score,
        "flagged": [_flag(flag, negative, positive) for flag in negative.flags],
        "found": _found(negative, is_one_of_several=len(miners) > 1),
        **_passage(negative.text, terms),
    }


def _flag(flag: NegativeFlag, negative: CardNegative, positive: str) -> str:
    """Why a negative is flagged, with the figure that says so."""
    if flag == "near_positive" and negative.positive_similarity is not None:
        return f"cosine {negative.positive_similarity:.2f} with {positive}"
    if flag == "near_duplicate" and negative.overlap is not None:
        return f"{100 * negative.overlap:.0f} % of words in common with {positive}"
    if flag == "above_reranker" and negative.relevance is not None and negative.positive_relevance is not None:
        return f"reranker {negative.relevance:.2f}, positive {negative.positive_relevance:.2f}"
    return visible(flag.replace("_", " "))


def _found(negative: CardNegative, *, is_one_of_several: bool) -> list[str]:
    """By which miners, unless the card has one alone and its rank is told already; and what was given up for it."""
    is_told = not is_one_of_several and [each.rank for each in negative.miners] == [negative.rank]
    miners = ", ".join(visible(f"{each.miner} rank {each.rank}") for each in negative.miners)
    relaxed = visible(f"relaxed: {', '.join(negative.relaxed)}") if negative.relaxed else ""
    return [each for each in ("" if is_told else miners, relaxed) if each]

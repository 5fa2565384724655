"""What the browser gets of a card once the reviewer asks for it: scores, flags, suggestions, and who decided it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from review_app.segments import visible
from synth.records import Content, NegativeFlag, Retrieval, text_id
from synth.store.cards import Card, CardNegative, TriagePart
from synth.store.suggestions import Suggestion

# What a judge suggests of a passage, as the card says it.
SUGGESTED = {
    "drop_sample": "does not answer the query",
    "promote": "answers the query, no less well than the positive",
    "drop_negative": "answers the query in part, or less well than the positive",
    "not_worse": "was to be worse than the positive, and is not",
}


def scores_payload(card: Card, suggestions: Sequence[Suggestion] = ()) -> dict[str, Any]:
    """All that a blind card does not show; of passages in the order of the card, of negatives by their id."""

    def suggested(text: str) -> dict[str, list[str]]:
        return {"suggested": [_suggestion(each) for each in suggestions if each.text_id == text_id(text)]}

    return {
        "status": card.status,
        "decided_by": visible(card.decided_by or ""),
        "parts": [_part(part) for part in card.parts if part.score > 0],
        "positives": [suggested(text) for text in _positives(card.content)],
        "negatives": {
            str(negative.negative_id): _negative(negative, card) | suggested(negative.text)
            for negative in card.negatives
        },
    }


def differing(card: Card, suggestions: Sequence[Suggestion], dropped: frozenset[UUID] = frozenset()) -> list[str]:
    """Where a judge suggests otherwise than somebody who approves the sample without the dropped negatives."""
    doubted = {each.text_id for each in suggestions}
    places = ["the positive"] if any(text_id(text) in doubted for text in _positives(card.content)) else []
    return places + [
        f"negative {place}"
        for place, negative in enumerate(card.negatives, start=1)
        if negative.text_id in doubted and negative.negative_id not in dropped
    ]


def approved_blind(events: object, stored: Sequence[str]) -> dict[str, UUID]:
    """The samples that the events approve without their scores having been seen, by review id."""
    return {
        each["review_id"]: UUID(each["sample_id"])
        for each in _stored(events, stored)
        if each["verdict"] == "approve" and not each.get("saw_scores") and not each.get("undoes")
    }


def dropped_by(events: object, stored: Sequence[str]) -> frozenset[UUID]:
    """The negatives that the events take out of their samples."""
    said = [each for each in _stored(events, stored) if each.get("negative_id") and not each.get("undoes")]
    return frozenset(UUID(each["negative_id"]) for each in said if each["verdict"] != "keep")


def _stored(events: object, stored: Sequence[str]) -> list[Mapping[str, Any]]:
    """Of what the browser sent the events that were stored, which are therefore well formed."""
    sent = events if isinstance(events, list) else []
    return [each for each in sent if isinstance(each, dict) and each.get("review_id") in stored]


def _positives(content: Content) -> tuple[str, ...]:
    return content.positives if isinstance(content, Retrieval) else ()


def _part(part: TriagePart) -> str:
    return visible(f"{part.name.replace('_', ' ')} {part.value:.2f} ({part.score:+.1f} sd)")


def _suggestion(each: Suggestion) -> str:
    grade = f"grade {each.grade}" if each.relevance is None else f"grade {each.grade}, relevance {each.relevance:.2f}"
    return visible(f"{each.judge}: {SUGGESTED[each.suggestion]} ({grade}). {each.reason}".strip())


def _negative(negative: CardNegative, card: Card) -> dict[str, Any]:
    positive = "the positive" if len(_positives(card.content)) == 1 else "a positive"
    miners = {each.miner for other in card.negatives for each in other.miners}
    return {
        "origin": visible(negative.origin),
        "rank": negative.rank,
        "score": negative.score,
        "positive_score": negative.positive_score,
        "flagged": [_flag(flag, negative, positive) for flag in negative.flags],
        "found": _found(negative, is_one_of_several=len(miners) > 1),
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

"""
What the browser gets of a card before the reviewer asks for more: its texts as segments, and nothing that would say how
to judge them: no score, cosine, rank, flag or suggestion, and not who decided it. The one score that goes with it is
the one under review, of a scored pair: the card keeps it covered until the reviewer has given their own.
"""

from typing import Any

from review_app.differences import difference, length_ratio
from review_app.segments import Segments, query_terms, segments, titled, visible
from synth.records import Classification, Content, Retrieval, Sts
from synth.store.cards import Card, Word

SCALE = (0.0, 5.0)  # of a source of which all scores are alike


def card_payload(card: Card, guideline: int | None = None) -> dict[str, Any]:
    """A card as the browser gets it; `guideline` is the number of the one in force."""
    shared = {
        "sample_id": str(card.sample_id),
        "revision_id": str(card.revision_id),
        "task": card.task.value,
        "source": visible(card.source),
        "operation": visible(card.operation),
        "method": visible(card.method or ""),
        "is_repeat": card.is_repeat,
        "guideline": guideline,
        "instruction": segments(card.content.instruction),
        "words": [_word(word, card) for word in card.words],
    }
    origin, rewritten = _origin(card)
    match card.content:
        case Retrieval():
            own = _retrieval(card, card.content, rewritten)
        case Sts():
            own = _pair(card, card.content)
        case Classification():
            own = _labelled(card, card.content, rewritten)
    return shared | own | ({"origin": origin} if origin else {})


def _retrieval(card: Card, content: Retrieval, rewritten: Segments | None) -> dict[str, Any]:
    terms = query_terms(content.query)
    positives = [_passage(text, terms) for text in content.positives]
    is_query = rewritten is not None and _rewritten_field(card) == "Query"
    if rewritten is not None and not is_query:
        positives[0] = {"title": [], "body": rewritten}
    return {
        "query": rewritten if is_query else segments(content.query),
        "positives": positives,
        "negatives": [
            {"negative_id": str(each.negative_id), "is_contested": each.is_contested, **_passage(each.text, terms)}
            for each in card.negatives
        ],
    }


def _pair(card: Card, content: Sts) -> dict[str, Any]:
    least, greatest = card.score_range or SCALE
    if least == greatest:
        least, greatest = (min(SCALE[0], least), max(SCALE[1], greatest))
    return {
        "texts": list(difference(content.text1, content.text2)),
        "stored": content.score,
        "range": [least, greatest],
    }


def _labelled(card: Card, content: Classification, rewritten: Segments | None) -> dict[str, Any]:
    labels = card.labels if content.label in card.labels else (*card.labels[:4], content.label)
    return {
        "text": rewritten if rewritten is not None else segments(content.text),
        "labels": [segments(label) for label in labels],
        "given": labels.index(content.label),
    }


def _origin(card: Card) -> tuple[dict[str, Any] | None, Segments | None]:
    """What a rewrite was made from, and the text that was rewritten with what changed marked."""
    before = card.made_from
    what = _rewritten_field(card)
    if before is None or what is None:
        return None, None
    old, new = _text_of(before, what), _text_of(card.content, what)
    gone, came = difference(old, new)
    return {"what": what, "text": gone, "ratio": round(length_ratio(old, new), 2)}, came


def _rewritten_field(card: Card) -> str | None:
    """Which text of a sample was rewritten: the query if it changed, else the positive; None if it is no rewrite."""
    if card.made_from is None or type(card.made_from) is not type(card.content) or isinstance(card.content, Sts):
        return None
    if isinstance(card.content, Classification):
        return "Text"
    same_query = _text_of(card.made_from, "Query") == _text_of(card.content, "Query")
    return "Positive" if same_query else "Query"


def _text_of(content: Content, what: str) -> str:
    match content:
        case Retrieval():
            return content.query if what == "Query" else content.positives[0]
        case Classification():
            return content.text
        case Sts():
            return content.text1


def _passage(text: str, terms: frozenset[str]) -> dict[str, Segments]:
    title, body = titled(text)
    return {"title": segments(title, terms), "body": segments(body, terms)}


def _word(word: Word, card: Card) -> dict[str, Any]:
    """What somebody else said; a grade goes with the place of its negative on the card."""
    places = {negative.text_id: place for place, negative in enumerate(card.negatives)}
    return {
        "reviewer": visible(word.reviewer),
        "verdict": word.verdict,
        "reasons": [visible(reason) for reason in word.reasons],
        "note": visible(word.note),
        "difficulty": word.difficulty,
        "own_score": word.own_score,
        "grades": [[places[text_id], grade] for text_id, grade in word.grades if text_id in places],
    }

"""One sample whole, on the Explore page: every text of it as text, whatever it holds."""

from collections.abc import Callable
from uuid import UUID

import streamlit as st

from review_app.segments import visible
from synth.records import Classification, Content, Retrieval, Sts, UserError
from synth.store.cards import Card, CardNegative
from synth.store.connection import Store
from synth.store.exploring import Origin, Said, Whole, whole

Go = Callable[[UUID | None], None]


def show_sample(store: Store, sample_id: UUID | None, go_like: Go) -> None:
    """The sample of this id, or how to choose one."""
    if sample_id is None:
        st.caption("Click a row of the list, or a point of the map, to see the whole sample.")
        return
    try:
        found = whole(store, sample_id)
    except UserError as error:
        st.text(visible(str(error)))
        return
    _head(found, go_like)
    _content(found.card.content)
    if found.card.made_from is not None:
        st.caption("REWRITES")
        st.text(visible(_first_text(found.card.made_from)))
    _suspicion(found.card)
    _negatives(found.card)
    _reviews(found.said)
    _origin(found, go_like)


def _head(found: Whole, go_like: Go) -> None:
    card = found.card
    with st.container(horizontal=True, vertical_alignment="center"):
        decided = f", {card.decided_by}" if card.decided_by else ""
        st.text(
            visible(f"{card.task} · {card.source} · {card.operation} {card.method} · {card.status}{decided}"),
            width="stretch",
        )
        st.button("More like this", on_click=go_like, args=(card.sample_id,), width="content")


def _content(content: Content) -> None:
    for name, text in _fields(content):
        st.caption(name)
        st.text(visible(text))


def _fields(content: Content) -> list[tuple[str, str]]:
    match content:
        case Retrieval():
            fields = [("QUERY", content.query), *(("POSITIVE", each) for each in content.positives)]
        case Sts():
            fields = [("TEXT 1", content.text1), ("TEXT 2", content.text2), ("SCORE", f"{content.score:g}")]
        case Classification():
            fields = [("TEXT", content.text), ("LABEL", content.label)]
    return [("INSTRUCTION", content.instruction), *fields] if content.instruction else fields


def _first_text(content: Content) -> str:
    return next(text for name, text in _fields(content) if name != "INSTRUCTION")


def _suspicion(card: Card) -> None:
    parts = [each for each in card.parts if each.score > 0]
    if parts:
        st.caption("WHY IT IS SUSPICIOUS (standard deviations above the mean)")
        st.text("\n".join(f"{each.score:+.1f}  {visible(each.name)} {each.value:.3g}" for each in parts))


def _negatives(card: Card) -> None:
    for number, each in enumerate(card.negatives, start=1):
        st.caption(f"NEGATIVE {number}: {_facts(each)}")
        st.text(visible(each.text))


def _facts(negative: CardNegative) -> str:
    """In our own words and numbers alone: they are drawn as Markdown."""
    said = [negative.origin if negative.origin.isalpha() else ""]
    if negative.rank is not None:
        said.append(f"rank {negative.rank}")
    if negative.score is not None and negative.positive_score is not None:
        said.append(f"cosine {negative.score:.3f} (positive {negative.positive_score:.3f})")
    if negative.positive_similarity is not None:
        said.append(f"to the positive {negative.positive_similarity:.3f}")
    said += [flag.replace("_", " ") for flag in negative.flags]
    return ", ".join(each for each in said if each)


def _reviews(said: tuple[Said, ...]) -> None:
    if said:
        st.caption("REVIEWS")
    for each in said:
        what = f"{each.verdict}{' of a negative' if each.is_of_negative else ''}"
        marks = [*each.reasons, *(["of an earlier revision"] if not each.is_of_latest else [])]
        marks += ["undone"] if each.is_undone else []
        note = f"\n{each.note}" if each.note else ""
        st.text(
            visible(
                f"{each.created_at:%Y-%m-%d %H:%M}  {each.reviewer}: {what}"
                f"{f' ({chr(44).join(marks)})' if marks else ''}{note}"
            )
        )


def _origin(found: Whole, go_like: Go) -> None:
    origin: Origin = found.origin
    st.caption("WHERE IT CAME FROM")
    lines = [f"revision {origin.number}, {origin.created_at:%Y-%m-%d %H:%M} UTC"]
    lines += [f"made by {origin.model or 'no model'}, prompt {origin.prompt_version}"] if origin.prompt_version else []
    lines += [f"licence {origin.licence}"] if origin.licence else []
    lines += [f"in the releases {', '.join(origin.releases)}"] if origin.releases else []
    st.text(visible("\n".join(lines)))
    if origin.seed_text:
        with st.expander("The passage that it was made from"):
            st.text(visible(origin.seed_text))
    if origin.made_from is not None:
        st.button("The sample that it was made from", on_click=go_like, args=(origin.made_from,), type="tertiary")
    st.caption("Its whole life, at a terminal:")
    st.code(f"synth show {found.card.sample_id}", language=None)

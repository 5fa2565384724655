"""The blind vote of the Compare page: one pair at a time, and the tally for whoever asks for it. docs/compare.md."""

import time
from dataclasses import dataclass
from uuid import UUID

import streamlit as st

from review_app.agreement import FEW, FEWEST
from review_app.dashboard_tables import table
from review_app.pair_view import show_blind
from review_app.segments import visible
from synth.records import SkiffError, new_id
from synth.store.comparing import Pair, Side
from synth.store.connection import Store
from synth.store.votes import Ballot, Choice, Tally, Vote, add_vote, next_ballot, tally

BUTTONS = {
    Choice.LEFT: "Left is better",
    Choice.RIGHT: "Right is better",
    Choice.EQUAL: "Equally good",
    Choice.CANNOT_TELL: "Cannot tell",
}
SHOWN, TROUBLE = "ballot shown", "vote refused"


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair that somebody is asked about; `vote_id` is of the vote that they may give, `since` of a steady clock."""

    vote_id: UUID
    asked: tuple[str, Side, Side]
    ballot: Ballot
    pair: Pair
    num_left: int
    since: float


def show_vote(store: Store, reviewer: str, a: Side, b: Side) -> None:
    """The pair that is asked about, its buttons, and the tally behind a switch."""
    if not reviewer:
        st.caption("Votes are stored with a name: say yours on the page Review, then come back.")
    else:
        _ask(store, (reviewer, a, b))
    if st.toggle("Show the tally", key=f"tally of {a.address} and {b.address}"):
        _tally(tally(store, a, b))


def _ask(store: Store, asked: tuple[str, Side, Side]) -> None:
    if trouble := st.session_state.pop(TROUBLE, ""):
        st.error("The vote was not stored.")
        st.text(visible(trouble))
    shown = _shown(store, asked)
    if shown is None:
        st.caption("There is no pair left to ask you about: the sides share none, or you have voted on each.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text("Which one would you rather train on?", width="content")
        for choice, label in BUTTONS.items():
            # A click that comes after the pair has changed is of a button that is no longer there.
            st.button(label, key=f"{choice} {shown.vote_id}", on_click=_cast, args=(store, shown, choice))
        st.space("stretch")
        st.text(f"{shown.num_left:,} left", width="content")
    show_blind(shown.pair, key=f"ballot {shown.vote_id}")


def _shown(store: Store, asked: tuple[str, Side, Side]) -> Shown | None:
    """The pair that is on the screen until there is a vote on it, else the next one."""
    shown: Shown | None = st.session_state.get(SHOWN)
    if shown is None or shown.asked != asked:
        found = next_ballot(store, *asked)
        shown = Shown(new_id(), asked, *found, time.monotonic()) if found else None
        st.session_state[SHOWN] = shown
    return shown


def _cast(store: Store, shown: Shown, choice: Choice) -> None:
    """Store a vote; whoever presses twice before the page has changed stores one."""
    reviewer = shown.asked[0]
    seconds = round(time.monotonic() - shown.since, 1)
    try:
        add_vote(store, Vote(shown.vote_id, reviewer, shown.ballot, choice, seconds))
    except SkiffError as error:
        st.session_state[TROUBLE] = str(error)  # the pair stays, and can be voted on again
    else:
        if st.session_state.get(SHOWN) == shown:
            st.session_state[SHOWN] = None


def _tally(found: Tally) -> None:
    rows = [
        ("A is better", found.votes_a, f"{found.pairs_a:,}"),
        ("B is better", found.votes_b, f"{found.pairs_b:,}"),
        ("equally good", found.votes_equal, f"{found.pairs_even:,}"),
        ("cannot tell", found.votes_cannot_tell, ""),  # says nothing of the pair
    ]
    table([dict(zip(("", "votes", "pairs"), row, strict=True)) for row in rows], "Tally", width="content")
    decided = found.pairs_a + found.pairs_b
    few = f", {FEW}" if decided < FEWEST else ""
    p = "has no value yet" if found.p is None else f"p = {found.p:.3f}"
    st.text(f"Sign test, two-sided: {p}; decided pairs: {decided:,}{few}")

"""What the Explore page asks for, kept from one run of the page to the next where that saves time."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import streamlit as st

from synth.records import Verdict
from synth.stages.nearest import Space, nearest, open_space
from synth.store.connection import Store
from synth.store.exploring import (
    PAGE_SIZE,
    Choices,
    Filter,
    Listed,
    Page,
    Sorting,
    choices,
    heads_in,
    heads_of,
    latest_change,
    listed,
    page_of,
)
from synth.store.review_batches import Decision, decide
from synth.workspace import Workspace

FRESH = 60.0  # seconds that the values to filter by are kept


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody looks at: which samples, in which order, or those that one of them is like."""

    kept: Filter
    sorting: Sorting = Sorting.SUSPICION
    like: UUID | None = None

    def in_words(self) -> str:
        """For the note of a batch of verdicts."""
        return f"like {self.like}, {self.kept.in_words()}" if self.like else self.kept.in_words()


@st.cache_data(ttl=FRESH, show_spinner=False)
def known_choices(path: Path, _store: Store) -> Choices:
    """What can be filtered by."""
    return choices(_store)


def known_space(store: Store, turn: int) -> Space:
    """
    The vectors of the store's samples, read again when samples came or were edited; with a new `turn` more of those
    that have none are encoded. Raises what `open_space` raises.
    """
    return _space(store.path, latest_change(store), turn, store)


@st.cache_resource(max_entries=1, show_spinner="Reading vectors …")
def _space(path: Path, change: tuple[int, str], turn: int, _store: Store) -> Space:
    workspace = Workspace.open(path.parent)
    return open_space(_store, workspace.config.mine, workspace.embeddings)


def look_at(store: Store, look: Look, number: int, space: Space | None) -> Page:
    """The page of what is looked at; of what a sample is like there is one, which needs the `space`."""
    if look.like is None:
        return page_of(store, look.kept, look.sorting, number)
    if space is None:
        return Page(0, ())
    kept = space.kept(heads_of(store, look.kept)["revision_id"].combine_chunks())
    rows = listed(store, nearest(store, space, look.like, kept, PAGE_SIZE))
    return Page(len(rows), tuple(rows))


@dataclass(frozen=True, slots=True)
class Wish:
    """A verdict on many samples, as it was typed: `rows` alone if there are any, else all that is looked at."""

    verdict: Verdict
    reason: str | None
    typed_number: str
    rows: tuple[Listed, ...] = ()


def carry_out(store: Store, reviewer: str, look: Look, page: Page, wish: Wish) -> str:
    """Store the verdicts if the number is right; returns "" or what is wrong. Raises UserError and StoreError."""
    if wish.rows or look.like:
        heads = [each.head for each in wish.rows or page.listed]
        num, each_head = len(heads), iter(heads)
    else:
        found = heads_of(store, look.kept)
        num, each_head = found.num_rows, heads_in(found)
    typed = wish.typed_number.replace(",", "").strip()
    if typed != str(num):
        return f"Nothing was stored: these are {num:,} samples now. Type that number to go on."
    words = f"{num:,} chosen of {look.in_words()}" if wish.rows else look.in_words()
    reasons = (wish.reason,) if wish.reason and wish.verdict is Verdict.REJECT else ()
    patient = Store.open(store.path)  # the app's own gives up after two seconds, which a long batch must not
    decide(patient, Decision(reviewer, wish.verdict, words, reasons), each_head)
    return ""

"""The Review page: what the browser sent is stored, then the card gets what it lacks."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import streamlit as st

from review_app.card import Answer, review_card
from review_app.figures import num_samples_by_task
from review_app.outbox import receive
from synth.records import StoreError, Task, key_of
from synth.store.connection import Store
from synth.store.reviews import Card, Queue, cards, review_progress
from synth.store.suggestions import suggestions_of

PREFETCH = 25  # cards in the browser: a burst of keys never outruns them
REFILL = 15  # so many or fewer left in the browser, and it gets more
CLAIM = timedelta(minutes=15)  # nobody else is shown a card for so long after its reviewer was last heard of
LEEWAY = timedelta(minutes=1)  # the browser lets go before the claim ends, not after
RENEWAL = timedelta(minutes=3)  # claims are not written anew with every verdict
HOW_TO_BEGIN = """\
synth ingest FOLDER    # passages of yours, or a labelled data set
synth generate         # ask for queries that the passages answer
synth mine             # find hard negatives
synth review           # come back here"""


def choose_queue() -> Queue:
    """The queue picker; the choice is kept in the page's address."""
    chosen = st.segmented_control(
        "Queue",
        [each.value for each in Queue],
        key="queue",
        default=Queue.UNREVIEWED.value,
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    return Queue(chosen or Queue.UNREVIEWED)


def show(store: Store, reviewer: str, queue: Queue) -> None:
    """The card of the queue, or what to do if there is none to show."""
    key = f"card {queue} {reviewer}"
    sent = _sent(key)
    left_elsewhere: dict[Queue, int] = {}
    num_samples = None
    try:
        answer = _answer(store, reviewer, queue, sent, f"{key} claimed at")
        if answer.progress and answer.progress.left == 0:
            others = {other: review_progress(store, reviewer=reviewer, queue=other).left for other in Queue}
            left_elsewhere = {other: left for other, left in others.items() if left}
            num_samples = num_samples_by_task(store)
    except StoreError as error:  # busy, or its disk is full: the browser keeps its events and sends them again
        answer = Answer(trouble=str(error))
    if num_samples is not None and not num_samples.get(Task.RETRIEVAL):
        _explain_why_empty(num_samples)
        return
    outbox_name = f"skiff-review/{key_of(str(store.path.resolve()), reviewer)}"
    review_card(key=key, outbox_name=outbox_name, answer=answer)
    for other, left in left_elsewhere.items():
        st.button(
            f"Go on with the {other} queue: {left:,} left",
            type="primary",
            on_click=_choose,
            args=(other,),
        )


def _choose(queue: Queue) -> None:
    st.session_state["queue"] = queue.value


def _answer(store: Store, reviewer: str, queue: Queue, sent: Mapping[str, Any], claimed_at: str) -> Answer:
    """Store what the card sent, then look for cards that it lacks, and claim all it has. Raises StoreError."""
    holding = _holding(sent)
    receipt = receive(store, reviewer, sent.get("events"))
    limit = PREFETCH - len(holding) if len(holding) <= REFILL else 0
    found: list[Card] | None = None
    held_for = None
    last: datetime = st.session_state.get(claimed_at, datetime.min)
    if limit or datetime.now() - last > RENEWAL or _brings_back(sent.get("events")):
        st.session_state[claimed_at] = datetime.now()
        found = cards(store, reviewer=reviewer, queue=queue, limit=limit, except_for=holding, claim_for=CLAIM)
        held_for = (CLAIM - LEEWAY).total_seconds()
    suggestions = suggestions_of(store, [card.sample_id for card in found]) if found else {}
    return Answer(receipt, found, suggestions, review_progress(store, reviewer=reviewer, queue=queue), held_for)


def _brings_back(events: object) -> bool:
    """Whether an undo put a card before the reviewer that may be theirs no longer."""
    return isinstance(events, list) and any(isinstance(each, dict) and each.get("undoes") for each in events)


def _explain_why_empty(num_samples: Mapping[str, int]) -> None:
    others = [f"{num:,} {task}" for task, num in sorted(num_samples.items())]
    if others:
        st.subheader("No retrieval samples to review")
        st.text(
            f"This workspace has {' and '.join(others)} samples. Only retrieval samples have a card in this version;"
            " a policy can decide the others (synth review --policy)."
        )
    else:
        st.subheader("No samples yet")
        st.text("Make some in this workspace, then reload this page:")
    st.code(HOW_TO_BEGIN, language="bash")


def _sent(key: str) -> Mapping[str, Any]:
    """What the card sent last; read before it is mounted, so that what it sent is stored before more is asked for."""
    sent = st.session_state.get(key, {}).get("outbox")
    return sent if isinstance(sent, dict) else {}


def _holding(sent: Mapping[str, Any]) -> list[UUID]:
    try:
        return [UUID(each) for each in sent.get("holding") or ()]
    except (AttributeError, TypeError, ValueError):  # not of our making; without it the browser gets cards twice
        return []

"""The Review page: what the browser sent is stored, then the card gets what it lacks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import streamlit as st

from review_app.card import Answer, Setting, review_card
from review_app.card_content import card_payload
from review_app.card_scores import approved_blind, differing, dropped_by, scores_payload
from review_app.figures import num_samples_by_task
from review_app.key_map import own_keys
from review_app.outbox import Receipt, receive
from synth.records import StoreError, Task, key_of
from synth.store.cards import Card
from synth.store.connection import Store
from synth.store.guidelines import guidelines
from synth.store.queues import Queue, ReviewProgress, cards, review_progress
from synth.store.roles import Role, role_of
from synth.store.suggestions import Suggestion, suggestions_of

ALL_TASKS = "all"
REMEMBERED = 100  # cards of a session, whose scores can be asked for
PREFETCH = 25  # cards in the browser: a burst of keys never outruns them
MOST_HELD = 4 * PREFETCH  # that a browser may say it holds: undone cards come on top of those that it was sent
REFILL = 15  # so many or fewer left in the browser, and it gets more
CLAIM = timedelta(minutes=15)  # nobody else is shown a card for so long after its reviewer was last heard of
LEEWAY = timedelta(minutes=1)  # the browser lets go before the claim ends, not after
RENEWAL = timedelta(minutes=3)  # claims are not written anew with every verdict
FILLED_BY = {  # in our own words: captions are Markdown
    Queue.UNREVIEWED: "What nobody has decided comes here, and what wants a second opinion.",
    Queue.AUDIT: "What a policy alone approved comes here: `synth review --policy audited`.",
    Queue.DISPUTED: "What as many people approve as reject comes here.",
    Queue.SUGGESTED: "What a judge would decide otherwise comes here: `synth judge`.",
    Queue.FLAGGED: "What has a negative that mining flagged, and nobody has judged since, comes here: `synth mine`.",
    Queue.ADJUDICATION: "What people disagree on, or leave to an adjudicator with F, comes here.",
}
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


def choose_task() -> Task | None:
    """The task picker; None is all of them. The choice is kept in the page's address."""
    chosen = st.segmented_control(
        "Task",
        [ALL_TASKS, *(each.value for each in Task)],
        key="task",
        default=ALL_TASKS,
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    return Task(chosen) if chosen in set(Task) else None


def show(store: Store, reviewer: str, queue: Queue, task: Task | None = None) -> None:
    """The card of the queue, or what to do if there is none to show."""
    asked = Asked(store, reviewer, queue, task)
    sent = _sent(asked.key)
    left_elsewhere: dict[Queue, int] = {}
    num_samples = None
    try:
        if queue is Queue.ADJUDICATION and not _may_settle(store, reviewer):
            _explain_who_settles()
            return
        answer = _answer(asked, sent)
        if answer.progress and answer.progress.left == 0:
            left_elsewhere = asked.left_elsewhere()
            num_samples = num_samples_by_task(store)
    except StoreError as error:  # busy, or its disk is full: the browser keeps its events and sends them again
        answer = Answer(trouble=str(error))
    if num_samples is not None and not (num_samples.get(task) if task else num_samples):
        _explain_why_empty(num_samples, task)
        return
    outbox_name = f"skiff-review/{key_of(str(store.path.resolve()), reviewer)}"
    review_card(key=asked.key, outbox_name=outbox_name, answer=answer, setting=asked.memory.setting)
    if answer.progress and answer.progress.left == 0:
        st.caption(FILLED_BY[queue])
    for other, left in left_elsewhere.items():
        st.button(
            f"Go on with the {other} queue: {left:,} left",
            type="primary",
            on_click=_choose,
            args=(other,),
        )


@dataclass(slots=True)
class Memory:
    """What a session knows of a card that is mounted: what the browser was sent last, so that it can be told more."""

    setting: Setting = field(default_factory=Setting)
    guideline: int | None = None
    claimed_at: datetime = datetime.min
    shown: dict[UUID, Card] = field(default_factory=dict)  # by sample, the oldest first
    suggestions: dict[UUID, Sequence[Suggestion]] = field(default_factory=dict)  # of these, by revision

    def keep(self, found: Sequence[Card], suggestions: Mapping[UUID, Sequence[Suggestion]]) -> None:
        """Remember cards; forget the oldest."""
        for card in found:
            self.shown.pop(card.sample_id, None)
            self.shown[card.sample_id] = card
            self.suggestions[card.revision_id] = suggestions.get(card.revision_id, ())
        for sample_id in list(self.shown)[:-REMEMBERED]:
            self.suggestions.pop(self.shown.pop(sample_id).revision_id, None)

    def scores(self, sample_ids: Iterable[UUID]) -> dict[str, dict[str, Any]]:
        """What the reviewer asked to see of cards, by revision id."""
        found = [self.shown[each] for each in sample_ids if each in self.shown]
        return {
            str(card.revision_id): scores_payload(card, self.suggestions.get(card.revision_id, ())) for card in found
        }

    def differing(self, events: object, receipt: Receipt) -> dict[str, list[str]]:
        """Where a judge differs from what was approved blind and is stored now, by review id."""
        said: dict[str, list[str]] = {}
        dropped = dropped_by(events, receipt.stored)
        for review_id, sample_id in approved_blind(events, receipt.stored).items():
            card = self.shown.get(sample_id)
            places = differing(card, self.suggestions.get(card.revision_id, ()), dropped) if card else []
            if places:
                said[review_id] = places
        return said


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose cards of which queue and task a page shows."""

    store: Store
    reviewer: str
    queue: Queue
    task: Task | None

    @property
    def key(self) -> str:
        """The name of the mounted card in the session."""
        return f"card {self.queue} {self.reviewer}" + (f" {self.task}" if self.task else "")

    @property
    def memory(self) -> Memory:
        """What the session remembers of that card."""
        found: Memory = st.session_state.setdefault(f"{self.key} memory", Memory())
        return found

    def progress(self) -> ReviewProgress:
        """How far the reviewer is."""
        return review_progress(self.store, reviewer=self.reviewer, queue=self.queue, task=self.task)

    def left_elsewhere(self) -> dict[Queue, int]:
        """How many cards the queues have that have any."""
        found = {
            other: review_progress(self.store, reviewer=self.reviewer, queue=other, task=self.task).left
            for other in Queue
        }
        return {other: left for other, left in found.items() if left}


def _choose(queue: Queue) -> None:
    st.session_state["queue"] = queue.value


def _answer(asked: Asked, sent: Mapping[str, Any]) -> Answer:
    """Store what the card sent, then look for cards that it lacks, and claim all it has. Raises StoreError."""
    memory = asked.memory
    holding = _ids(sent.get("holding"))
    receipt = receive(asked.store, asked.reviewer, sent.get("events"))
    limit = PREFETCH - len(holding) if len(holding) <= REFILL else 0
    found: list[Card] | None = None
    if limit or datetime.now() - memory.claimed_at > RENEWAL or _brings_back(sent.get("events")):
        memory.claimed_at = datetime.now()
        found = cards(
            asked.store,
            reviewer=asked.reviewer,
            queue=asked.queue,
            task=asked.task,
            limit=limit,
            except_for=holding,
            claim_for=CLAIM,
        )
        _learn(asked, found)
    wanted = [*_ids(sent.get("unscored", sent.get("holding"))), *(card.sample_id for card in found or ())]
    return Answer(
        receipt,
        None if found is None else [card_payload(card, memory.guideline) for card in found],
        memory.scores(wanted) if sent.get("reveal") is True else {},
        memory.differing(sent.get("events"), receipt),
        asked.progress(),
        None if found is None else (CLAIM - LEEWAY).total_seconds(),
    )


def _learn(asked: Asked, found: Sequence[Card]) -> None:
    """Remember the cards with what judges suggest, and what else goes with them."""
    memory = asked.memory
    memory.keep(found, suggestions_of(asked.store, [card.sample_id for card in found]) if found else {})
    versions = guidelines(asked.store)
    memory.guideline = versions[0].number if versions else None
    memory.setting = Setting(own_keys(asked.store, asked.reviewer), asked.queue is Queue.ADJUDICATION)


def _may_settle(store: Store, reviewer: str) -> bool:
    with store.read() as cursor:
        return role_of(cursor, reviewer) is not Role.REVIEWER


def _explain_who_settles() -> None:
    st.subheader("For adjudicators")
    st.text(
        "Here people settle what others disagree on or leave to them. An admin can make you an adjudicator on the page"
        " Guidelines."
    )


def _brings_back(events: object) -> bool:
    """Whether an undo put a card before the reviewer that may be theirs no longer."""
    return isinstance(events, list) and any(isinstance(each, dict) and each.get("undoes") for each in events)


def _explain_why_empty(num_samples: Mapping[str, int], task: Task | None) -> None:
    others = [f"{num:,} {task}" for task, num in sorted(num_samples.items())]
    if others:
        st.subheader(f"No {task} samples to review")
        st.text(f"This workspace has {' and '.join(others)} samples: choose another task above, or make some:")
    else:
        st.subheader("No samples yet")
        st.text("Make some in this workspace, then reload this page:")
    st.code(HOW_TO_BEGIN, language="bash")


def _sent(key: str) -> Mapping[str, Any]:
    """What the card sent last; read before it is mounted, so that what it sent is stored before more is asked for."""
    sent = st.session_state.get(key, {}).get("outbox")
    return sent if isinstance(sent, dict) else {}


def _ids(sent: object) -> list[UUID]:
    """Ids as the browser sent them."""
    try:
        return [UUID(each) for each in sent[:MOST_HELD]] if isinstance(sent, list) else []
    except (AttributeError, TypeError, ValueError):  # not of our making; without it the browser gets cards twice
        return []

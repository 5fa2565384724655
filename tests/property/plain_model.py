"""The store's rules for samples, reviews, edits and negatives in dictionaries and loops, written without its SQL."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from synth.records import Retrieval, ReviewEvent, Verdict, normalise

DROPPING = (Verdict.REJECT, Verdict.FALSE_NEGATIVE, Verdict.PARTIAL, Verdict.PROMOTE)


class Refused(Exception):
    """The rules of docs/reviews.md do not allow this event."""


@dataclass
class Mined:
    """One row of a negative; `turn` says which mining it came from."""

    text: str
    rank: int
    score: float
    positive_score: float
    turn: int


@dataclass
class Revision:
    revision_id: UUID
    content: Retrieval
    negatives: list[Mined] = field(default_factory=list)
    mined_by: set[UUID] = field(default_factory=set)
    last_turn: int = 0  # of mining, also of one that found nothing

    def latest(self) -> list[Mined]:
        """What the latest mining found."""
        turn = max([each.turn for each in self.negatives], default=0)
        return [each for each in self.negatives if each.turn == max(turn, self.last_turn)]


@dataclass
class Word:
    """An event as it was stored: `text` is the negative's, `made` the revision that it made."""

    event: ReviewEvent
    text: str | None
    made: UUID | None


@dataclass
class Sample:
    sample_id: UUID
    revisions: list[Revision]
    words: list[Word] = field(default_factory=list)

    def undone(self) -> set[UUID]:
        return {word.event.undoes for word in self.words if word.event.undoes}

    def standing(self) -> list[Word]:
        undone = self.undone()
        return [word for word in self.words if word.event.undoes is None and word.event.review_id not in undone]

    def head(self) -> Revision:
        undone = self.undone()
        gone = {word.made for word in self.words if word.made and word.event.review_id in undone}
        return [each for each in self.revisions if each.revision_id not in gone][-1]

    def dropped(self) -> set[str]:
        last: dict[tuple[str, str, str], Verdict] = {}
        for word in self.standing():
            if word.text is not None:
                last[word.event.reviewer, word.event.reviewer_kind, word.text] = word.event.verdict
        return {text for (_, _, text), verdict in last.items() if verdict in DROPPING}

    def kept_negatives(self) -> list[Mined]:
        """What the latest mining found, without what is dropped or became a positive."""
        gone = self.dropped() | set(self.head().content.positives)
        return [each for each in self.head().latest() if each.text not in gone]

    def judged_by(self, reviewer: str) -> bool:
        head = self.head().revision_id
        return any(
            (word.made or word.event.revision_id) == head and word.event.reviewer == reviewer and word.text is None
            for word in self.standing()
        )

    def state(self) -> dict[str, object]:
        """What sample_state says of the sample."""
        head = self.head()
        people: dict[str, ReviewEvent] = {}
        policy: ReviewEvent | None = None
        num_reviews = 0
        for word in self.standing():
            if word.text is not None:
                continue
            num_reviews += 1
            event = word.event
            if (word.made or event.revision_id) == head.revision_id and event.verdict is not Verdict.SKIP:
                if event.reviewer_kind == "policy":
                    policy = event
                else:
                    people[event.reviewer] = event
        approvals = [event for event in people.values() if event.verdict is Verdict.APPROVE]
        rejections = [event for event in people.values() if event.verdict is Verdict.REJECT]
        agree, status = [], "pending"
        if len(approvals) > len(rejections):
            agree, status = approvals, "approved"
        elif len(rejections) > len(approvals):
            agree, status = rejections, "rejected"
        elif approvals:
            agree, status = approvals + rejections, "disputed"
        elif policy is not None:
            agree, status = [policy], "approved" if policy.verdict is Verdict.APPROVE else "rejected"
        difficulties = [event.difficulty for event in agree if event.difficulty is not None]
        margins = [n.score - n.positive_score for n in head.negatives if n.text not in self.dropped()]
        return {
            "revision_id": head.revision_id,
            "query": head.content.query,
            "positives": list(head.content.positives),
            "status": status,
            "decided_by": ", ".join(sorted(event.reviewer for event in agree)) or None,
            "decided_kind": ("human" if people else "policy") if agree else None,
            "difficulty": int(sum(difficulties) / len(difficulties) + 0.5) if difficulties else None,
            "num_reviews": num_reviews,
            "num_negatives": len({n.text for n in head.negatives} - self.dropped()),
            "hardness": max(margins, default=None),
            "num_approvals": len(approvals),
            "num_rejections": len(rejections),
        }


def same(one: Retrieval, other: Retrieval) -> bool:
    return (normalise(one.query), one.positives) == (normalise(other.query), other.positives)


@dataclass
class Model:
    samples: dict[UUID, Sample] = field(default_factory=dict)
    claims: dict[UUID, str] = field(default_factory=dict)

    def says(self, content: Retrieval, but: UUID | None = None) -> bool:
        """Whether any revision of another sample says this."""
        return any(
            same(revision.content, content)
            for sample in self.samples.values()
            for revision in sample.revisions
            if sample.sample_id != but
        )

    def known(self, review_id: UUID) -> bool:
        return any(word.event.review_id == review_id for sample in self.samples.values() for word in sample.words)

    def store(self, event: ReviewEvent, text: str | None) -> bool:
        """Take one event in; `text` is its negative's. False if it is there already, or a policy's old word again."""
        if self.known(event.review_id) or self._is_repeated(event):
            return False
        sample = self.samples[event.sample_id]
        if event.revision_id not in [each.revision_id for each in sample.revisions]:
            raise Refused
        if event.undoes is not None:
            self._check_undo(sample, event)
        made = self._edit(sample, event, text) if event.edited_id is not None else None
        sample.words.append(Word(event, text, made))
        return True

    def _is_repeated(self, event: ReviewEvent) -> bool:
        said = [
            word.event.verdict
            for word in self.samples[event.sample_id].standing()
            if word.event.reviewer_kind == "policy" and word.event.revision_id == event.revision_id
        ]
        return event.reviewer_kind == "policy" and said[-1:] == [event.verdict]

    def _check_undo(self, sample: Sample, event: ReviewEvent) -> None:
        for word in sample.words:
            if word.event.review_id == event.undoes:
                if word.event.reviewer != event.reviewer or word.event.undoes is not None:
                    raise Refused
                return
        raise Refused

    def _edit(self, sample: Sample, event: ReviewEvent, text: str | None) -> UUID | None:
        head = sample.head()
        if event.revision_id != head.revision_id:
            raise Refused
        before, content = head.content, event.edit
        if text is not None:
            more = () if text in before.positives else (text,)
            content = replace(before, positives=(*before.positives, *more))
        assert isinstance(content, Retrieval) and event.edited_id is not None
        if same(before, content):
            return None
        if self.says(content, but=sample.sample_id):
            raise Refused
        made = Revision(event.edited_id, content)
        if normalise(before.query) == normalise(content.query):
            latest = {each.text: each for each in sorted(head.negatives, key=lambda mined: mined.turn)}
            made.negatives = [replace(each) for text, each in latest.items() if text not in content.positives]
        sample.revisions.append(made)
        return event.edited_id

    def unmined(self, stage: UUID) -> set[UUID]:
        """The revisions that mining has to do."""
        heads = [sample.head() for sample in self.samples.values()]
        return {head.revision_id for head in heads if stage not in head.mined_by}

    def cards(self, queue: str, reviewer: str, limit: int, held: Sequence[UUID]) -> list[UUID]:
        """The samples that a reviewer is given, in order, and from then on holds with those that they had."""
        found = []
        for sample in self.samples.values():
            state = sample.state()
            is_there = {
                "unreviewed": state["status"] == "pending",
                "audit": state["status"] == "approved" and state["decided_kind"] == "policy",
                "disputed": state["status"] == "disputed",
                "suggested": False,  # there is no judge here
                "flagged": False,  # nor what flags a negative
            }[queue]
            free = self.claims.get(sample.sample_id, reviewer) == reviewer and sample.sample_id not in held
            if is_there and free and not sample.judged_by(reviewer):
                hardness = state["hardness"]
                found.append((hardness is None, -hardness if isinstance(hardness, float) else 0.0, sample.sample_id))
        chosen = [sample_id for _, _, sample_id in sorted(found)][:limit]
        for sample_id in (*held, *chosen):
            self.claims.setdefault(sample_id, reviewer)
        return chosen

    def release(self, most: int) -> dict[UUID, tuple[Retrieval, list[str]]]:
        """What is approved, by revision, with the best-ranked negatives."""
        found = {}
        for sample in self.samples.values():
            if sample.state()["status"] == "approved":
                negatives = sorted(sample.kept_negatives(), key=lambda each: each.rank)
                found[sample.head().revision_id] = (sample.head().content, [each.text for each in negatives[:most]])
        return found

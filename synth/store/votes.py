"""Blind votes: which of two samples is better, asked without saying which side each is from. docs/compare.md."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from synth.records import UserError
from synth.store.comparing import Ids, Pair, Side, paired, read_pairs
from synth.store.connection import Store
from synth.store.rows import first, insert, now


class Choice(StrEnum):
    """What somebody says of a pair."""

    LEFT = "left"
    RIGHT = "right"
    EQUAL = "equal"
    CANNOT_TELL = "cannot_tell"


DECIDED = (Choice.LEFT, Choice.RIGHT)


@dataclass(frozen=True, slots=True)
class Ballot:
    """A pair as a reviewer is asked: which revision stands left and right, and the sides that they are from."""

    left_id: UUID
    right_id: UUID
    left_side: Side
    right_side: Side


@dataclass(frozen=True, slots=True)
class Vote:
    """
    What a reviewer says of a pair. `vote_id` is made once for each time that a pair is shown, so that what is sent
    twice is stored once.
    """

    vote_id: UUID
    reviewer: str
    ballot: Ballot
    choice: Choice
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """
    What votes say of two sides: in votes, and in pairs, each for the side that more of its votes found better, or even.

    `p` is of the two-sided sign test on the pairs that are not even; None if there is none.
    """

    votes_a: int
    votes_b: int
    votes_equal: int
    votes_cannot_tell: int
    pairs_a: int
    pairs_b: int
    pairs_even: int

    @property
    def num_votes(self) -> int:
        """All votes."""
        return self.votes_a + self.votes_b + self.votes_equal + self.votes_cannot_tell

    @property
    def p(self) -> float | None:
        """How often equally good sides would give so uneven a result, or a more uneven one."""
        from scipy.stats import binomtest

        decided = self.pairs_a + self.pairs_b
        return float(binomtest(self.pairs_a, decided, 0.5).pvalue) if decided else None


OF_THE_SAME = "least(v.left_id, v.right_id) = least({a}, {b}) AND greatest(v.left_id, v.right_id) = greatest({a}, {b})"
UNASKED = f"""
FROM pair p WHERE NOT EXISTS (
    FROM vote v WHERE v.reviewer = $reviewer AND {OF_THE_SAME.format(a="p.a_id", b="p.b_id")}
)"""
NEXT = f"SELECT p.a_id, p.b_id {UNASKED} ORDER BY md5($reviewer || p.a_id || p.b_id), p.a_id LIMIT 1"
SAID = f"""
SELECT p.a_id, p.b_id, v.choice, v.left_id = p.a_id AS left_is_a
FROM vote v JOIN pair p ON {OF_THE_SAME.format(a="p.a_id", b="p.b_id")}
"""
THERE = f"""
SELECT count(*) FROM vote v WHERE v.vote_id = $vote_id OR
(v.reviewer = $reviewer AND {OF_THE_SAME.format(a="$left_id::UUID", b="$right_id::UUID")})
"""


def next_ballot(store: Store, reviewer: str, a: Side, b: Side) -> tuple[Ballot, Pair, int] | None:
    """
    The next pair of two sides that a reviewer was not asked yet, by a chance of the reviewer's own: what stands in it,
    left first, and how many are left with it. None if there is no more.
    """
    with paired(store, a, b) as cursor:
        row = first(cursor.execute(NEXT, {"reviewer": reviewer}))
        if row is None:
            return None
        count = first(cursor.execute(f"SELECT count(*) {UNASKED}", {"reviewer": reviewer}))
        [pair] = read_pairs(cursor, [Ids(*row)])
    ballot = Ballot(pair.a.revision_id, pair.b.revision_id, a, b)
    if a_stands_right(reviewer, Ids(*row)):
        pair = Pair(pair.b, pair.a)
        ballot = Ballot(pair.a.revision_id, pair.b.revision_id, b, a)
    return ballot, pair, count[0] if count else 0


def a_stands_right(reviewer: str, ids: Ids) -> bool:
    """Whether the sides change places, half of the time; of a reviewer and a pair the same, whichever side is a."""
    first_id, last_id = sorted(ids)
    digest = hashlib.sha256(f"{reviewer}\n{first_id}\n{last_id}".encode(errors="replace")).digest()
    return (digest[0] % 2 == 0) == (ids.a == first_id)


def add_vote(store: Store, vote: Vote) -> bool:
    """
    Store a vote. False, storing nothing, if it is there already, or its reviewer said something of the pair before.

    Raises UserError if it names no reviewer, or one revision twice.
    """
    ballot = vote.ballot
    if not vote.reviewer:
        raise UserError("nobody votes; say who you are on the page Review, then vote again")
    if ballot.left_id == ballot.right_id:
        raise UserError(f"revision {ballot.left_id} stands on both sides; load the page anew, then vote again")
    row = {
        "vote_id": vote.vote_id,
        "created_at": now(),
        "reviewer": vote.reviewer,
        "left_id": ballot.left_id,
        "right_id": ballot.right_id,
        "choice": vote.choice.value,
        "left_side": ballot.left_side.address,
        "right_side": ballot.right_side.address,
        "seconds": vote.seconds,
    }
    with store.write() as cursor:
        asked = {name: str(row[name]) for name in ("vote_id", "reviewer", "left_id", "right_id")}
        [number] = first(cursor.execute(THERE, asked)) or (0,)
        if number:
            return False
        insert(cursor, "vote", [row])
    return True


def tally(store: Store, a: Side, b: Side) -> Tally:
    """What everybody's votes on the pairs of two sides say, under whichever names of sides they were given."""
    with paired(store, a, b) as cursor:
        rows = cursor.execute(SAID).fetchall()
    said: Counter[str] = Counter()
    lead: Counter[Ids] = Counter()  # by how many votes a is ahead
    for a_id, b_id, choice, left_is_a in rows:
        better = ("a" if (choice == Choice.LEFT) == left_is_a else "b") if choice in DECIDED else choice
        said[better] += 1
        if choice != Choice.CANNOT_TELL:
            lead[Ids(a_id, b_id)] += (better == "a") - (better == "b")
    ahead = lead.values()
    return Tally(
        said["a"],
        said["b"],
        said[Choice.EQUAL],
        said[Choice.CANNOT_TELL],
        sum(each > 0 for each in ahead),
        sum(each < 0 for each in ahead),
        sum(each == 0 for each in ahead),
    )

"""
The queues of cards that reviewers judge: what is in them, in which order, and who has what before them. docs/reviews.md
states the rules.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import duckdb

from synth.records import Task
from synth.store.cards import Card, Chosen, read_cards
from synth.store.connection import Store
from synth.store.guidelines import ReviewSettings, settings_in_force
from synth.store.minings import LATEST_MINING
from synth.store.rows import first, now


class Queue(StrEnum):
    """
    What a reviewer is shown: what nobody decided yet, or what wants a second opinion; what only a policy approved; what
    people disagree on; what a judge has a suggestion about and no person decided; what has a flagged negative that no
    person has judged; or what an adjudicator is asked to settle.
    """

    UNREVIEWED = "unreviewed"
    AUDIT = "audit"
    DISPUTED = "disputed"
    SUGGESTED = "suggested"
    FLAGGED = "flagged"
    ADJUDICATION = "adjudication"


class Part(StrEnum):
    """Where a card of a mixed queue comes from."""

    TRIAGED = "triaged"  # most suspicious first
    RANDOM = "random"  # in the order of `draw`: what error rates are computed from
    SECOND = "second"  # a second opinion, blind
    GOLD = "gold"  # its verdict is known
    REPEAT = "repeat"  # judged by the same reviewer long before


# Revisions with a negative that mining flagged when it found it last, and that no person has judged: with a verdict of
# its own, or by approving the revision after it was found.
FLAGGED = f"""
WITH latest AS ({LATEST_MINING}),
flagged AS (
    SELECT DISTINCT n.sample_id, n.text_id FROM negative n JOIN latest USING (revision_id, run_id)
    WHERE len(n.flags) > 0
),
found AS (
    SELECT n.sample_id, n.revision_id, n.text_id, n.flags,
           min(n.created_at) OVER (PARTITION BY n.sample_id, n.text_id) AS first_at
    FROM negative n SEMI JOIN flagged USING (sample_id, text_id)
    QUALIFY row_number() OVER (
        PARTITION BY n.revision_id, n.text_id ORDER BY n.origin = 'labelled' DESC, n.negative_id DESC
    ) = 1
),
approval AS (
    SELECT coalesce(edited_id, revision_id) AS revision_id, max(created_at) AS last_at FROM reviews
    WHERE verdict = 'approve' AND reviewer_kind = 'human' AND negative_id IS NULL AND NOT is_undo AND NOT is_undone
    GROUP BY 1
)
SELECT f.revision_id FROM found f LEFT JOIN approval a ON a.revision_id = f.revision_id
ANTI JOIN (SELECT sample_id, text_id FROM negative_verdicts WHERE reviewer_kind = 'human') v
ON v.sample_id = f.sample_id AND v.text_id = f.text_id
WHERE len(f.flags) > 0 AND NOT coalesce(f.first_at <= a.last_at, false)
"""
PENDING = "st.status = 'pending' AND st.adjudication IS NULL"
QUEUE_CONDITION = {
    Queue.AUDIT: "st.status = 'approved' AND st.decided_kind = 'policy'",
    Queue.DISPUTED: "st.status = 'disputed'",
    Queue.SUGGESTED: "st.decided_kind IS DISTINCT FROM 'human'"
    " AND st.sample_id IN (SELECT g.sample_id FROM suggestions g WHERE NOT g.is_overruled)",
    Queue.FLAGGED: f"st.status <> 'rejected' AND st.revision_id IN ({FLAGGED})",
    Queue.ADJUDICATION: "st.adjudication IS NOT NULL",
}
# After which of a reviewer's own words a sample that is in the queue is not shown to them: an approval from before a
# flagged negative was found is no reason. Whoever was a party to a disagreement may settle it as an adjudicator.
QUEUE_WORDS = {
    Queue.UNREVIEWED: "true",
    Queue.AUDIT: "verdict IN ('skip', 'flag')",
    Queue.DISPUTED: "sample_id IN (SELECT st.sample_id FROM sample_state st WHERE st.status = 'disputed')",
    Queue.SUGGESTED: "verdict IN ('skip', 'flag')",
    Queue.FLAGGED: "verdict IN ('skip', 'flag')",
    Queue.ADJUDICATION: "verdict = 'skip'",
}
# Of which one person has decided and another shall, without knowing it: those that people judged first of each task, a
# share by chance, and the very suspicious.
VERY_SUSPICIOUS = 3.0  # standard deviations of a triage
SECOND = """
st.decided_kind = 'human' AND st.num_approvals + st.num_rejections = 1 AND st.adjudication IS NULL AND (
    (1000 * st.draw) % 1 < {overlap_share} OR st.priority >= {very_suspicious}{judged_first}
)"""
# What a reviewer said of samples and did not undo, by the revision it counts for. $reviewer is bound by the caller.
STANDING = (
    "SELECT v.sample_id, coalesce(v.edited_id, v.revision_id) AS revision_id, v.verdict, v.created_at, v.review_id"
    " FROM review v"
    " ANTI JOIN (SELECT u.undoes AS review_id FROM review u WHERE u.reviewer = $reviewer AND u.undoes IS NOT NULL) u"
    " USING (review_id) WHERE v.reviewer = $reviewer AND v.undoes IS NULL AND v.negative_id IS NULL"
)
LONG_AGO = 50  # a reviewer's own words since: what they said is forgotten
REPEATABLE = f"""
SELECT revision_id FROM (
    SELECT revision_id, row_number() OVER (ORDER BY created_at DESC, review_id DESC) AS age,
           count(*) OVER (PARTITION BY revision_id) AS times FROM ({STANDING}) WHERE verdict IN ('approve', 'reject')
) WHERE age > {LONG_AGO} AND times = 1"""
SUSPICIOUS_FIRST = "coalesce(st.priority, 0) DESC, st.hardness DESC NULLS LAST, st.sample_id"
RANDOM_SHARE = 0.2  # of all samples: the views say the same
PHASES = {Part.REPEAT: 0.5, Part.GOLD: 0.4, Part.SECOND: 0.3, Part.RANDOM: 0.2}  # in which order cards fall due
LOOKED_AT = 8  # times as many as are wanted: most reviewers have skipped, and others hold, only a few of the hardest
# What somebody else has before them. $reviewer and $now are bound by the caller.
TAKEN = "SELECT sample_id FROM claim WHERE reviewer <> $reviewer AND expires_at > $now"


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How far one reviewer is in one queue: `left` for them to judge, and `claimed` by others meanwhile."""

    approved: int
    rejected: int
    skipped: int
    left: int
    claimed: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of which queue and task a reviewer wants cards."""

    cursor: duckdb.DuckDBPyConnection
    queue: Queue
    task: Task | None
    asked: Mapping[str, Any]  # reviewer, now
    settings: ReviewSettings

    @property
    def scope(self) -> str:
        """The condition on `sample_state` for what has cards at all."""
        task = f" AND st.task = '{self.task}'" if self.task else ""
        return f"st.declared_use = 'train'{task}"

    @property
    def second(self) -> str:
        """The condition for what wants a second opinion."""
        return SECOND.format(
            overlap_share=float(self.settings.overlap_share),
            very_suspicious=VERY_SUSPICIOUS,
            judged_first="".join(self._judged_first(task) for task in Task),
        )

    def _judged_first(self, task: Task) -> str:
        """The condition for those of a task that people judged first, by the last of them: cheaper than a join."""
        ordered = (
            "SELECT judged_at, sample_id FROM sample_state WHERE task = $task AND judged_at IS NOT NULL ORDER BY ALL"
        )
        row = first(
            self.cursor.execute(
                f"FROM ({ordered} LIMIT {int(self.settings.overlap_first)}) ORDER BY ALL DESC LIMIT 1",
                {"task": task.value},
            )
        )
        if row is None:
            return ""
        at = f"'{row[0].isoformat()}'::TIMESTAMP"
        return (
            f" OR st.task = '{task}'"
            f" AND (st.judged_at < {at} OR st.judged_at = {at} AND st.sample_id <= '{row[1]}'::UUID)"
        )

    @property
    def condition(self) -> str:
        """The condition for what is in the queue."""
        return QUEUE_CONDITION.get(self.queue, f"(({PENDING}) OR ({self.second}))")


def cards(
    store: Store,
    *,
    reviewer: str,
    queue: Queue = Queue.UNREVIEWED,
    task: Task | None = None,
    limit: int = 25,
    except_for: Sequence[UUID] = (),
    claim_for: timedelta | None = None,
) -> list[Card]:
    """
    The next samples for a reviewer to judge, of one task or of all, the most suspicious first (by the latest triage,
    then by the negative that comes nearest to the positive), ties by id. None that this reviewer judged already, none
    that somebody else has claimed, none of `except_for`.

    Of the queues `unreviewed` and `audit` a fifth comes from the random part instead, in the order of `draw`; with the
    former some are second opinions, samples whose verdict is known, and repeats.

    With `claim_for` they, and those of `except_for`, are the reviewer's for so long: nobody else is given them.
    """
    asked = {"reviewer": reviewer, "now": now()}

    def choose(cursor: duckdb.DuckDBPyConnection) -> list[Chosen]:
        return _choose(Wanted(cursor, queue, task, asked, settings_in_force(cursor)), limit, except_for)

    if claim_for is None:
        with store.read() as cursor:
            return read_cards(cursor, choose(cursor), with_words=queue is Queue.ADJUDICATION)
    with store.write() as cursor:
        chosen = choose(cursor)
        _claim(cursor, [*except_for, *(each.sample_id for each in chosen)], reviewer, now() + claim_for)
        return read_cards(cursor, chosen, with_words=queue is Queue.ADJUDICATION)


def _choose(wanted: Wanted, limit: int, except_for: Sequence[UUID]) -> list[Chosen]:
    """The next cards, those of a task together."""
    if wanted.queue not in (Queue.UNREVIEWED, Queue.AUDIT):
        chosen = _top(wanted, wanted.condition, SUSPICIOUS_FIRST, QUEUE_WORDS[wanted.queue], limit, except_for)
    else:
        chosen = _mixed(wanted, limit, except_for)
    tasks = list(dict.fromkeys(each.task for each in chosen))
    return sorted(chosen, key=lambda each: tasks.index(each.task))


def _mixed(wanted: Wanted, limit: int, except_for: Sequence[UUID]) -> list[Chosen]:
    """Cards of several parts, each in its share; where one has none left, suspicious ones, then whatever there is."""
    row = first(wanted.cursor.execute(f"SELECT count(*) FROM ({STANDING})", {"reviewer": wanted.asked["reviewer"]}))
    start = (row[0] if row else 0) + len(except_for)
    parts = [_part_due(wanted, place) for place in range(start, start + limit)]
    usual = {part: parts.count(part) for part in (*PHASES, Part.TRIAGED) if part in parts}
    found_first = _tops(wanted, usual | {Part.TRIAGED: limit}, except_for)
    taken: dict[UUID, Chosen] = {}

    def take(part: Part, most: int, *, again: bool) -> list[Chosen]:
        """Of what was looked at first; `again`: of all there is, where that does not suffice."""
        found = [each for each in found_first.get(part, ()) if each.sample_id not in taken][: max(most, 0)]
        if again and len(found) < most:
            found = _part(wanted, part, most, [*except_for, *taken])
        taken.update((each.sample_id, each) for each in found)
        return found

    of_part = {part: take(part, parts.count(part), again=part is Part.REPEAT) for part in PHASES if part in parts}
    rest: list[Chosen] = []
    fallbacks = [Part.TRIAGED, Part.RANDOM, *([Part.SECOND] if wanted.queue is Queue.UNREVIEWED else [])]
    for part in fallbacks:
        rest += take(part, limit - len(taken), again=True)
    queue: list[Chosen] = []
    for part in parts:
        found = of_part.get(part) or rest
        if found:
            queue.append(found.pop(0))
    return queue + rest + [each for left in of_part.values() for each in left]


def _part_due(wanted: Wanted, place: int) -> Part:
    """Where a reviewer's card comes from, by how many came before it."""
    if wanted.queue is Queue.AUDIT:
        shares = {Part.RANDOM: RANDOM_SHARE}
    else:
        settings = wanted.settings
        shares = {Part.REPEAT: settings.repeat_share, Part.GOLD: settings.gold_share}
        shares |= {Part.SECOND: settings.overlap_share, Part.RANDOM: RANDOM_SHARE}
    for part, share in shares.items():
        if int((place + 1) * share + PHASES[part]) > int(place * share + PHASES[part]):
            return part
    return Part.TRIAGED


def _part(wanted: Wanted, part: Part, limit: int, except_for: Sequence[UUID]) -> list[Chosen]:
    if part is not Part.REPEAT:
        condition, order = _where(wanted, part)
        return _top(wanted, condition, order, QUEUE_WORDS[wanted.queue], limit, except_for)
    row = wanted.cursor.execute(REPEATABLE, {"reviewer": wanted.asked["reviewer"]}).fetchall()
    again = ", ".join(f"'{revision_id}'::UUID" for (revision_id,) in row)
    if not again:
        return []
    found = _top(wanted, f"st.revision_id IN ({again})", "(31 * st.draw) % 1, st.sample_id", "false", limit, except_for)
    return [each._replace(is_repeat=True) for each in found]


def _where(wanted: Wanted, part: Part) -> tuple[str, str]:
    """What a part has, and in which order."""
    queue = PENDING if wanted.queue is Queue.UNREVIEWED else wanted.condition
    if part is Part.TRIAGED:
        return f"{queue} AND st.draw >= {RANDOM_SHARE}", SUSPICIOUS_FIRST
    if part is Part.RANDOM:
        return f"{queue} AND st.draw < {RANDOM_SHARE}", "st.draw, st.sample_id"
    if part is Part.SECOND:
        return wanted.second, "(7919 * st.draw) % 1, st.sample_id"
    return "st.revision_id IN (SELECT g.revision_id FROM gold_samples g)", "(104729 * st.draw) % 1, st.sample_id"


def _tops(wanted: Wanted, limits: Mapping[Part, int], except_for: Sequence[UUID]) -> dict[Part, list[Chosen]]:
    """
    Of several parts what is among a few times as many as are wanted and not passed over: in two statements, since each
    takes DuckDB several milliseconds to plan. Repeats are looked for by themselves.
    """
    parts = [part for part in limits if part is not Part.REPEAT]
    ordered = [_top_of(wanted, *_where(wanted, part), LOOKED_AT * limits[part]) for part in parts]
    rows = wanted.cursor.execute(
        " UNION ALL ".join(
            f"SELECT '{part}' AS part, row_number() OVER () AS place, * FROM ({sql})"
            for part, sql in zip(parts, ordered, strict=True)
        )
    ).fetchall()
    passed_over = _passed_over(wanted, QUEUE_WORDS[wanted.queue], {row[2] for row in rows}, except_for)
    found: dict[Part, list[Chosen]] = {part: [] for part in parts}
    for part, _, *fields in sorted(rows, key=lambda row: row[1]):
        chosen = Chosen(*fields)
        if _is_free(chosen, passed_over):
            found[Part(part)].append(chosen)
    return found


def _top(
    wanted: Wanted, condition: str, order: str, words: str, limit: int, except_for: Sequence[UUID]
) -> list[Chosen]:
    """
    The top of a part, from the narrow table alone; what is passed over is looked for only among a few more than are
    wanted, and among more of them where those do not suffice. Joined to the whole queue, it takes DuckDB several times
    as long at a million samples.
    """
    chosen: list[Chosen] = []
    most = limit
    while len(chosen) < limit:
        most *= LOOKED_AT
        top = [Chosen(*row) for row in wanted.cursor.execute(_top_of(wanted, condition, order, most)).fetchall()]
        passed_over = _passed_over(wanted, words, {each.sample_id for each in top}, except_for)
        chosen = [each for each in top if _is_free(each, passed_over)][:limit]
        if len(top) < most:
            break
    return chosen


def _top_of(wanted: Wanted, condition: str, order: str, most: int) -> str:
    return (
        "SELECT st.sample_id, st.revision_id, st.task, st.operation, st.status, st.decided_by FROM sample_state st"
        f" WHERE {wanted.scope} AND {condition} ORDER BY {order} LIMIT {most}"
    )


def _passed_over(
    wanted: Wanted, words: str, looked_at: Collection[UUID], except_for: Sequence[UUID]
) -> set[tuple[UUID, UUID | None]]:
    """Of these samples those that this reviewer judged (with the revision), or that somebody has, and `except_for`."""
    among = "sample_id IN (SELECT unnest($looked_at::UUID[]))"
    return set(
        wanted.cursor.execute(
            f"SELECT sample_id, revision_id FROM ({STANDING}) WHERE {words} AND {among}"
            f" UNION ALL SELECT sample_id, NULL FROM ({TAKEN}) WHERE {among}"
            " UNION ALL SELECT unnest($except_for::UUID[]), NULL",
            {
                **wanted.asked,
                "looked_at": [str(each) for each in looked_at],
                "except_for": [str(each) for each in except_for],
            },
        ).fetchall()
    )


def _is_free(chosen: Chosen, passed_over: Set[tuple[UUID, UUID | None]]) -> bool:
    return passed_over.isdisjoint([(chosen.sample_id, chosen.revision_id), (chosen.sample_id, None)])


def _claim(cursor: duckdb.DuckDBPyConnection, ids: Sequence[UUID], reviewer: str, until: datetime) -> None:
    """Renew or begin claims on the samples that nobody else holds; forget all that ran out."""
    asked = {"reviewer": reviewer, "now": now(), "until": until, "ids": [str(each) for each in ids]}
    free = "SELECT sample_id FROM sample_state WHERE sample_id IN (SELECT unnest($ids::UUID[]))"
    cursor.execute(
        "DELETE FROM claim WHERE expires_at <= $now OR (reviewer = $reviewer AND sample_id IN"
        " (SELECT unnest($ids::UUID[])))",
        {key: asked[key] for key in ("reviewer", "now", "ids")},
    )
    cursor.execute(
        "INSERT INTO claim BY NAME SELECT DISTINCT sample_id, $reviewer AS reviewer, $until::TIMESTAMP AS expires_at"
        f" FROM ({free}) ANTI JOIN claim USING (sample_id)",
        {key: asked[key] for key in ("reviewer", "until", "ids")},
    )


def review_progress(store: Store, *, reviewer: str, queue: Queue, task: Task | None = None) -> ReviewProgress:
    """How many samples this reviewer approved, rejected and skipped, and how many the queue still has."""
    asked = {"reviewer": reviewer, "now": now()}
    with store.read() as cursor:
        wanted = Wanted(cursor, queue, task, asked, settings_in_force(cursor))
        verdicts = dict(
            cursor.execute(f"SELECT verdict, count(*) FROM ({STANDING}) GROUP BY 1", {"reviewer": reviewer}).fetchall()
        )
        # Counted apart, so that only what is small is joined.
        queued = f"{wanted.scope} AND {wanted.condition}"
        mine = f"(SELECT sample_id, revision_id FROM ({STANDING}) WHERE {QUEUE_WORDS[queue]})"
        [(total, judged, claimed)] = cursor.execute(
            f"SELECT (SELECT count(*) FROM sample_state st WHERE {queued}),"
            f" (SELECT count(*) FROM sample_state st SEMI JOIN {mine} m USING (sample_id, revision_id) WHERE {queued}),"
            f" (SELECT count(*) FROM (SELECT st.* FROM sample_state st SEMI JOIN ({TAKEN}) t USING (sample_id)"
            f" WHERE {queued}) ANTI JOIN {mine} m USING (sample_id, revision_id))",
            asked,
        ).fetchall()
    return ReviewProgress(
        approved=verdicts.get("approve", 0),
        rejected=verdicts.get("reject", 0),
        skipped=verdicts.get("skip", 0),
        left=total - judged - claimed,
        claimed=claimed,
    )

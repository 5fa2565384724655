"""
How far people agree: with each other, with what is known, with themselves, and with what was measured.

docs/dashboard.md states the rules. An adjudicator's word is none here: it was given with the others' in view.
"""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from synth.store.connection import Store
from synth.store.review_figures import ACCEPTANCE_GROUPS, READ, STANDING

FAST = 1.5  # seconds: too short to read a card
WORDS = f"""
WITH standing AS MATERIALIZED ({STANDING}),
word AS MATERIALIZED (
    SELECT * FROM standing
    WHERE reviewer_kind = 'human' AND verdict IN ('approve', 'reject') AND NOT adjudicates
)
"""
# The two who judged a revision first, with their last words: a third is asked where two disagree.
IN_COMMON = f"""
{WORDS},
last_word AS (
    SELECT head_id, reviewer, arg_max(verdict, (created_at, review_id)) = 'approve' AS approves,
           min(created_at) AS first_at
    FROM word GROUP BY head_id, reviewer
)
SELECT head_id, reviewer, approves FROM last_word
QUALIFY count(*) OVER (PARTITION BY head_id) > 1
AND row_number() OVER (PARTITION BY head_id ORDER BY first_at, reviewer) <= 2
ORDER BY head_id, reviewer
"""
GRADES_IN_COMMON = """
WITH graded AS (
    SELECT n.sample_id, n.text_id, v.reviewer, arg_max(v.grade, (v.created_at, v.review_id)) AS grade,
           min(v.created_at) AS first_at
    FROM review v JOIN negative n USING (negative_id)
    ANTI JOIN (SELECT u.undoes AS review_id FROM review u WHERE u.undoes IS NOT NULL) w ON w.review_id = v.review_id
    WHERE v.undoes IS NULL AND v.grade IS NOT NULL AND v.reviewer_kind = 'human' AND NOT coalesce(v.adjudicates, false)
    GROUP BY ALL
)
SELECT sample_id, text_id, grade FROM graded
QUALIFY count(*) OVER (PARTITION BY sample_id, text_id) > 1
AND row_number() OVER (PARTITION BY sample_id, text_id ORDER BY first_at, reviewer) <= 2
ORDER BY sample_id, text_id, grade
"""
# Whoever judged a sample before its verdict was known was not tested by it, and its author knows it.
ON_GOLD = """
on_gold AS (
    SELECT w.reviewer, w.created_at::DATE AS day, w.verdict = g.verdict AS is_right
    FROM word w JOIN gold_samples g
    ON g.revision_id = w.head_id AND g.created_at < w.created_at AND g.author <> w.reviewer
    QUALIFY row_number() OVER (PARTITION BY w.reviewer, w.head_id ORDER BY w.created_at, w.review_id) = 1
)
"""
TRUST = f"""
{WORDS}, {ON_GOLD},
again AS (
    SELECT reviewer, verdict,
           lag(verdict) OVER (PARTITION BY reviewer, head_id ORDER BY created_at, review_id) AS before
    FROM word
),
tested AS (
    SELECT reviewer, count(*) AS num_gold, count(*) FILTER (is_right) AS num_right FROM on_gold GROUP BY reviewer
),
repeated AS (
    SELECT reviewer, count(*) AS num_repeats, count(*) FILTER (verdict = before) AS num_same FROM again
    WHERE before IS NOT NULL GROUP BY reviewer
)
SELECT reviewer, coalesce(num_gold, 0), coalesce(num_right, 0), coalesce(num_repeats, 0), coalesce(num_same, 0)
FROM tested FULL JOIN repeated USING (reviewer) ORDER BY reviewer
"""
DAYS = f"""
{READ.format(groups=ACCEPTANCE_GROUPS)},
word AS (
    SELECT * FROM standing
    WHERE reviewer_kind = 'human' AND verdict IN ('approve', 'reject') AND NOT adjudicates
),
{ON_GOLD},
gold_of_day AS (
    SELECT day, reviewer, count(*) AS num_gold, count(*) FILTER (is_right) AS num_right FROM on_gold GROUP BY ALL
)
SELECT day, reviewer, num_decisions, num_random, num_approved, median_seconds, num_timed, num_fast,
       coalesce(num_gold, 0), coalesce(num_right, 0)
FROM (
    SELECT w.created_at::DATE AS day, w.reviewer, count(*) AS num_decisions, count(t.sample_id) AS num_random,
           count(t.sample_id) FILTER (w.verdict = 'approve') AS num_approved, median(w.seconds) AS median_seconds,
           count(w.seconds) AS num_timed, count(*) FILTER (w.seconds < {FAST}) AS num_fast
    FROM word w LEFT JOIN (SELECT sample_id FROM turn WHERE in_turn) t ON t.sample_id = w.sample_id GROUP BY ALL
) LEFT JOIN gold_of_day USING (day, reviewer) ORDER BY day, reviewer
"""
DIFFICULTIES = """
SELECT st.difficulty, st.hardness, max(n.score / n.positive_score) FROM sample_state st
LEFT JOIN negative n ON n.revision_id = st.revision_id AND n.positive_score > 0
WHERE st.difficulty IS NOT NULL AND st.decided_kind = 'human' GROUP BY st.sample_id, st.difficulty, st.hardness
"""


@dataclass(frozen=True, slots=True)
class Opinions:
    """
    What two people said of the same: `verdicts` as (revision, reviewer, whether they approved), `grades` of negatives
    as ((sample, text), grade).
    """

    verdicts: list[tuple[UUID, str, bool]]
    grades: list[tuple[tuple[UUID, UUID], int]]


@dataclass(frozen=True, slots=True)
class Trust:
    """A reviewer's words on samples whose verdict was known, and on samples that they had judged before."""

    reviewer: str
    num_gold: int
    num_right: int
    num_repeats: int
    num_same: int


@dataclass(frozen=True, slots=True)
class Day:
    """A reviewer's decisions of a day (UTC); `num_random` of them were of the random part, read in turn."""

    day: date
    reviewer: str
    num_decisions: int
    num_random: int
    num_approved: int  # of num_random
    median_seconds: float | None
    num_timed: int
    num_fast: int  # of num_timed
    num_gold: int
    num_right: int  # of num_gold


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What people found, 1 to 4, beside what was measured; None where it was not."""

    difficulty: int
    hardness: float | None
    relative_score: float | None


def opinions(store: Store) -> Opinions:
    """What the first two people said of whatever two judged."""
    with store.read() as cursor:
        verdicts = cursor.execute(IN_COMMON).fetchall()
        grades = cursor.execute(GRADES_IN_COMMON).fetchall()
    return Opinions(verdicts, [((sample_id, text_id), grade) for sample_id, text_id, grade in grades])


def trusts(store: Store) -> list[Trust]:
    """Of every reviewer who was tested by gold or judged something twice, by name."""
    with store.read() as cursor:
        return [Trust(*row) for row in cursor.execute(TRUST).fetchall()]


def days(store: Store) -> list[Day]:
    """Every reviewer on every day on which they decided something, oldest first."""
    with store.read() as cursor:
        return [Day(*row) for row in cursor.execute(DAYS).fetchall()]


def difficulties(store: Store) -> list[Difficulty]:
    """Every sample that people decided and gave a difficulty."""
    with store.read() as cursor:
        return [Difficulty(*row) for row in cursor.execute(DIFFICULTIES).fetchall()]

"""What judges said of samples and negatives that people decided: the view `judge_vs_people`, counted."""

from dataclasses import dataclass
from typing import Literal

from synth.store.connection import Store

Things = Literal["samples", "negatives"]
# By whether the judge, and whether people would leave the thing out.
Counts = dict[tuple[bool, bool], int]
COMPARED = """
WITH compared AS (
    SELECT *, CASE WHEN negative_id IS NULL THEN 'samples' ELSE 'negatives' END AS things FROM judge_vs_people
)
"""
COUNTS = f"""
{COMPARED} SELECT judge, things, judge_leaves_out, people_leave_out, count(*), count(*) FILTER (people_first)
FROM compared GROUP BY judge, things, judge_leaves_out, people_leave_out ORDER BY judge, things DESC
"""
# Why people left out what the judge would keep.
MISSED = f"""
{COMPARED} SELECT judge, things, why, count(*)
FROM (SELECT judge, things, unnest(if(reasons = [], ['no reason'], reasons)) AS why FROM compared
      WHERE people_leave_out AND NOT judge_leaves_out)
GROUP BY judge, things, why ORDER BY count(*) DESC, why
"""
# The distance is that of a grade from what people decided: 3 speaks for a positive and against a negative. Ties by the
# id of the text, which is as good as a draw, and the same everywhere.
FARTHEST = f"""
{COMPARED},
apart AS (
    SELECT *, CASE WHEN people_leave_out = (things = 'samples') THEN grade ELSE 3 - grade END AS distance
    FROM compared WHERE judge_leaves_out <> people_leave_out
)
SELECT judge, things, query, text, grade, reason, decided_by, people_leave_out, reasons, coalesce(notes, '')
FROM apart QUALIFY row_number() OVER (
    PARTITION BY judge, things ORDER BY distance DESC, text_id, revision_id
) <= $most ORDER BY judge, things, distance DESC, text_id, revision_id
"""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A sample (its worst positive in the judge's eyes) or a negative that a judge or people would leave out alone."""

    query: str
    text: str
    grade: int
    reason: str
    decided_by: str
    people_leave_out: bool
    people_reasons: list[str]
    people_notes: str


@dataclass(frozen=True, slots=True)
class JudgePeople:
    """
    A judge beside people, on samples or on negatives: `counts`, how many of these people decided before any judge had
    graded them, people's reasons for what the judge would keep, and the cases that are farthest apart.
    """

    judge: str
    things: Things
    counts: Counts
    num_people_first: int
    missed: dict[str, int]
    differences: list[Contradiction]


def judge_people(store: Store, *, num_differences: int) -> list[JudgePeople]:
    """Every judge that graded what people decided, by name; samples before negatives."""
    counts: dict[tuple[str, Things], Counts] = {}
    before: dict[tuple[str, Things], int] = {}
    missed: dict[tuple[str, Things], dict[str, int]] = {}
    differences: dict[tuple[str, Things], list[Contradiction]] = {}
    with store.read() as cursor:
        for judge, things, by_judge, by_people, number, first in cursor.execute(COUNTS).fetchall():
            counts.setdefault((judge, things), {})[by_judge, by_people] = number
            before[judge, things] = before.get((judge, things), 0) + first
        for judge, things, why, number in cursor.execute(MISSED).fetchall():
            missed.setdefault((judge, things), {})[why] = number
        for judge, things, *fields in cursor.execute(FARTHEST, {"most": num_differences}).fetchall():
            differences.setdefault((judge, things), []).append(Contradiction(*fields))
    return [
        JudgePeople(*key, found, before[key], missed.get(key, {}), differences.get(key, []))
        for key, found in counts.items()
    ]

"""What two judges said of the same passages of latest revisions."""

from dataclasses import dataclass

from synth.store.connection import Store

BOTH = """
WITH said AS (SELECT j.* FROM judgements j SEMI JOIN sample_state st USING (sample_id, revision_id)),
pair AS (
    SELECT a.judge AS judge, b.judge AS other, a.grade AS grade, b.grade AS other_grade, a.reason AS reason,
           b.reason AS other_reason, a.query, a.text, a.is_positive, a.revision_id, a.text_id,
           (a.suggestion IS NULL) <> (b.suggestion IS NULL) AS is_split
    FROM said a JOIN said b ON b.revision_id = a.revision_id AND b.text_id = a.text_id WHERE a.judge < b.judge
)
"""
COUNTS = f"""
{BOTH} SELECT judge, other, grade, other_grade, count(*), count(*) FILTER (is_split) FROM pair
GROUP BY judge, other, grade, other_grade ORDER BY ALL
"""
# Ties by the id of the text, which is as good as a draw, and the same everywhere.
FARTHEST = f"""
{BOTH}
SELECT judge, other, query, text, is_positive, grade, other_grade, reason, other_reason FROM pair
WHERE grade <> other_grade QUALIFY row_number() OVER (
    PARTITION BY judge, other ORDER BY abs(grade - other_grade) DESC, text_id, revision_id
) <= $most ORDER BY judge, other, abs(grade - other_grade) DESC, text_id, revision_id
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A passage that two judges graded differently."""

    query: str
    text: str
    is_positive: bool
    grade: int
    other_grade: int
    reason: str
    other_reason: str


@dataclass(frozen=True, slots=True)
class JudgePair:
    """
    Two judges: how often they gave which two grades to the same passage (`counts`), how many passages exactly one of
    them would leave out, and those on which they differ most.
    """

    judge: str
    other: str
    counts: dict[tuple[int, int], int]
    num_split: int
    differences: list[Difference]


def judge_pairs(store: Store, *, num_differences: int) -> list[JudgePair]:
    """Every two judges that judged the same passage, by name."""
    counts: dict[tuple[str, str], dict[tuple[int, int], int]] = {}
    split: dict[tuple[str, str], int] = {}
    differences: dict[tuple[str, str], list[Difference]] = {}
    with store.read() as cursor:
        for judge, other, grade, other_grade, number, num_split in cursor.execute(COUNTS).fetchall():
            counts.setdefault((judge, other), {})[grade, other_grade] = number
            split[judge, other] = split.get((judge, other), 0) + num_split
        for judge, other, *fields in cursor.execute(FARTHEST, {"most": num_differences}).fetchall():
            differences.setdefault((judge, other), []).append(Difference(*fields))
    return [JudgePair(*names, found, split[names], differences.get(names, [])) for names, found in counts.items()]

"""
What people said of negatives in the random part, and what judges said of the same. docs/dashboard.md states the rules.
"""

from dataclasses import dataclass

from synth.store.connection import Store
from synth.store.minings import LATEST_MINING
from synth.store.review_figures import ACCEPTANCE_GROUPS, READ

RANKS = (10, 20, 50, 100)  # the last of each band of ranks; what is beyond is a band of its own
# From 0 to 9; null for null, which `least` and `greatest` pass over.
TENTH = "CASE WHEN {0} IS NOT NULL THEN least(greatest(floor(10 * {0}), 0), 9)::INTEGER END"
FALSE = "('partial', 'false_negative', 'promote')"
# Negatives that people spoke of, or that they saw when they approved a sample: of a card with fewer than all the first
# `num_shown` in the order of cards. UNSEEN is where words that were given with scores in view are left out.
COUNTED = f"""
{READ.format(groups=ACCEPTANCE_GROUPS)},
approval AS (
    SELECT s.sample_id, s.head_id AS revision_id, s.created_at AS last_at, s.num_shown FROM standing s
    JOIN sample_state st ON st.sample_id = s.sample_id AND st.revision_id = s.head_id
    SEMI JOIN (SELECT sample_id FROM turn WHERE in_turn) t ON t.sample_id = s.sample_id
    WHERE st.status = 'approved' AND s.reviewer_kind = 'human' AND s.verdict = 'approve' UNSEEN
    QUALIFY row_number() OVER (PARTITION BY s.head_id ORDER BY s.created_at DESC, s.review_id DESC) = 1
),
of_card AS (
    SELECT a.sample_id, a.revision_id, a.num_shown, a.last_at, n.text_id, n.negative_id, len(n.flags) > 0 AS is_flagged,
           greatest(n.relevance - n.positive_relevance, 0) AS above, n.positive_similarity, n.score
    FROM approval a JOIN negative n ON n.revision_id = a.revision_id AND n.created_at <= a.last_at
    LEFT JOIN ({LATEST_MINING}) l ON l.revision_id = n.revision_id
    WHERE n.origin <> 'mined' OR n.run_id = l.run_id
    QUALIFY row_number() OVER (
        PARTITION BY n.revision_id, n.text_id ORDER BY n.origin = 'labelled' DESC, n.negative_id DESC
    ) = 1
),
doubted AS (
    SELECT DISTINCT c.revision_id, c.text_id FROM judgement j
    JOIN of_card c ON c.revision_id = j.revision_id AND c.text_id = j.text_id AND j.created_at <= c.last_at
    WHERE NOT j.is_positive AND j.grade >= 2
),
placed AS (
    SELECT c.*, count(*) OVER (PARTITION BY c.revision_id) AS num_on_card, row_number() OVER (
        PARTITION BY c.revision_id ORDER BY coalesce(c.is_flagged, false) OR d.text_id IS NOT NULL DESC,
        c.above DESC NULLS LAST, c.positive_similarity DESC NULLS LAST, c.score DESC NULLS LAST, c.text_id
    ) AS place FROM of_card c LEFT JOIN doubted d ON d.revision_id = c.revision_id AND d.text_id = c.text_id
),
spoken AS (
    SELECT v.sample_id, v.text_id, max(v.negative_id) AS negative_id, bool_or(v.verdict IN {FALSE}) AS is_false
    FROM negative_verdicts v JOIN review s ON s.review_id = v.review_id
    SEMI JOIN (SELECT sample_id FROM turn WHERE in_turn) t ON t.sample_id = v.sample_id
    WHERE v.reviewer_kind = 'human' UNSEEN GROUP BY ALL
),
whole AS (
    SELECT sample_id, bool_and(coalesce(num_shown >= num_on_card, true)) AS is_whole FROM placed GROUP BY sample_id
),
counted AS (
    SELECT sample_id, text_id, coalesce(s.negative_id, p.negative_id) AS negative_id,
           coalesce(s.is_false, false) AS is_false
    FROM (SELECT * FROM placed WHERE coalesce(place <= num_shown, true)) p FULL JOIN spoken s USING (sample_id, text_id)
)
"""
BINS = f"""
{COUNTED.replace("UNSEEN", "")},
binned AS (
    SELECT coalesce(w.is_whole, false) AS is_whole, c.is_false,
           CASE WHEN n.origin = 'mined' THEN {" + ".join(f"(n.rank > {rank})::INTEGER" for rank in RANKS)} END AS band,
           {TENTH.format("n.positive_similarity")} AS tenth
    FROM counted c JOIN negative n ON n.negative_id = c.negative_id LEFT JOIN whole w ON w.sample_id = c.sample_id
)
SELECT kind, is_whole, bin, count(*), count(*) FILTER (is_false) FROM (
    SELECT 'rank' AS kind, is_whole, band AS bin, is_false FROM binned UNION ALL
    SELECT 'similarity', is_whole, tenth, is_false FROM binned
) WHERE bin IS NOT NULL GROUP BY kind, is_whole, bin ORDER BY kind, is_whole DESC, bin
"""
JUDGED = f"""
{COUNTED.replace("UNSEEN", "AND s.saw_scores IS NOT TRUE")},
vote AS (
    SELECT head_id, count(*) FILTER (verdict = 'approve') AS approvals,
           count(*) FILTER (verdict = 'reject') AS rejections
    FROM (
        SELECT s.* FROM standing s SEMI JOIN (SELECT sample_id FROM turn WHERE in_turn) t ON t.sample_id = s.sample_id
        WHERE s.reviewer_kind = 'human' AND s.verdict IN ('approve', 'reject') AND s.saw_scores IS NOT TRUE
        QUALIFY row_number() OVER (PARTITION BY s.head_id, s.reviewer ORDER BY s.created_at DESC, s.review_id DESC) = 1
    ) GROUP BY head_id
),
of_both AS (
    SELECT j.judge, true AS is_positive, min(j.grade) AS grade, min(j.relevance) AS relevance,
           v.approvals > v.rejections AS answers
    FROM judgements j JOIN vote v ON v.head_id = j.revision_id AND v.approvals <> v.rejections
    WHERE j.is_positive GROUP BY j.judge, j.revision_id, v.approvals, v.rejections
    UNION ALL
    SELECT j.judge, false, j.grade, j.relevance, c.is_false
    FROM counted c JOIN negative n ON n.negative_id = c.negative_id
    LEFT JOIN negative o ON o.negative_id = n.original_id  -- a copy of what the judge saw
    JOIN judgements j ON j.text_id = c.text_id AND j.revision_id = coalesce(o.revision_id, n.revision_id)
    WHERE NOT j.is_positive
)
SELECT judge, is_positive, grade, {TENTH.format("relevance")} AS tenth, answers, count(*)
FROM of_both GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class Falses:
    """
    How many negatives of a bin are false, by people's word. `kind` is rank (the place in RANKS) or similarity (the
    tenths of the highest cosine with a positive). `is_whole`: all negatives of approved samples, not the suspicious.
    """

    kind: str
    is_whole: bool
    bin: int
    num_counted: int
    num_false: int


@dataclass(frozen=True, slots=True)
class Judged:
    """
    How many passages a judge gave a grade (and a relevance in such a tenth) and people found to answer, or not. Of a
    positive `answers` is that they approved the sample.
    """

    judge: str
    is_positive: bool
    grade: int
    tenth: int | None
    answers: bool
    number: int


def falses(store: Store) -> list[Falses]:
    """False negatives of the random part, by rank and by similarity."""
    with store.read() as cursor:
        return [Falses(*row) for row in cursor.execute(BINS).fetchall()]


def judged(store: Store) -> list[Judged]:
    """What judges said beside what people said of the random part without having looked at scores."""
    with store.read() as cursor:
        return [Judged(*row) for row in cursor.execute(JUDGED).fetchall()]

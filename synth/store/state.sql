-- sample_state, derived from the logs, for the samples in {ids}. docs/reviews.md states the rules. Every scan is narrow
-- and limited to those samples: for one of them this runs at every decision.
WITH chosen AS (SELECT sample_id FROM {ids}),
said AS MATERIALIZED (
    SELECT v.review_id, v.created_at, v.reviewer, v.reviewer_kind = 'policy' AS by_policy, v.sample_id,
           coalesce(v.edited_id, v.revision_id) AS revision_id, v.edited_id, v.negative_id, v.verdict, v.difficulty, v.undoes,
           v.grade, coalesce(v.adjudicates, false) AS adjudicates
    FROM review v SEMI JOIN chosen USING (sample_id)
),
undone AS (SELECT sample_id, undoes AS review_id FROM said WHERE undoes IS NOT NULL),
standing AS MATERIALIZED (SELECT * FROM said ANTI JOIN undone USING (sample_id, review_id) WHERE undoes IS NULL),
mined AS MATERIALIZED (
    SELECT n.negative_id, n.sample_id, n.revision_id, n.text_id, n.score - n.positive_score AS margin
    FROM negative n SEMI JOIN chosen USING (sample_id)
),
-- A negative is dropped if the last word of anybody on its text says so; `keep` is a word too, a skip is none.
dropped AS (
    SELECT sample_id, text_id FROM (
        SELECT w.sample_id, m.text_id, w.verdict FROM standing w JOIN mined m USING (sample_id, negative_id)
        WHERE w.verdict <> 'skip'
        QUALIFY row_number() OVER (
            PARTITION BY w.sample_id, m.text_id, w.reviewer, w.by_policy ORDER BY w.created_at DESC, w.review_id DESC
        ) = 1
    ) WHERE verdict <> 'keep' GROUP BY ALL
),
-- (DROPPED of reviews.py is all of the above.)
head AS MATERIALIZED (
    SELECT r.sample_id, r.revision_id, r.task, r.operation, r.source_id FROM revision r SEMI JOIN chosen USING (sample_id)
    ANTI JOIN (
        SELECT sample_id, edited_id AS revision_id FROM said SEMI JOIN undone USING (sample_id, review_id)
        WHERE edited_id IS NOT NULL
    ) withdrawn USING (sample_id, revision_id)
    QUALIFY row_number() OVER (PARTITION BY r.sample_id ORDER BY r.number DESC, r.created_at DESC, r.revision_id DESC) = 1
),
word AS MATERIALIZED (
    SELECT v.sample_id, v.reviewer, v.by_policy, v.verdict, v.difficulty, v.adjudicates, v.created_at, v.review_id
    FROM standing v SEMI JOIN head USING (sample_id, revision_id)
    WHERE v.negative_id IS NULL AND v.verdict IN ('approve', 'reject')
    QUALIFY row_number() OVER (
        PARTITION BY v.sample_id, v.by_policy, CASE WHEN NOT v.by_policy THEN v.reviewer END
        ORDER BY v.created_at DESC, v.review_id DESC
    ) = 1
),
-- An adjudicator's word decides, whatever others said; of several the last one.
decision AS (
    SELECT sample_id, by_policy, approvals, rejections, settled IS NOT NULL AS is_settled,
           CASE WHEN settled IS NULL AND approvals > 0 AND approvals = rejections THEN 'disputed'
                WHEN any_value(verdict) = 'approve' THEN 'approved' ELSE 'rejected' END AS status,
           string_agg(reviewer, ', ' ORDER BY reviewer) AS reviewers, round(avg(difficulty))::INTEGER AS difficulty
    FROM (
        SELECT *, count(*) FILTER (NOT by_policy AND verdict = 'approve') OVER of_sample AS approvals,
               count(*) FILTER (NOT by_policy AND verdict = 'reject') OVER of_sample AS rejections,
               arg_max(verdict, (created_at, review_id)) FILTER (adjudicates) OVER of_sample AS settled
        FROM word WINDOW of_sample AS (PARTITION BY sample_id)
    )
    WHERE by_policy = (approvals + rejections = 0) AND CASE WHEN settled IS NOT NULL THEN verdict = settled
          WHEN verdict = 'approve' THEN approvals >= rejections ELSE rejections >= approvals END
    GROUP BY sample_id, by_policy, approvals, rejections, settled
),
flagged AS (
    SELECT DISTINCT v.sample_id FROM standing v SEMI JOIN head USING (sample_id, revision_id)
    WHERE v.verdict = 'flag' AND v.negative_id IS NULL AND NOT v.by_policy
),
-- People whose last grades of a negative are two or more apart.
graded AS (
    SELECT DISTINCT sample_id FROM (
        SELECT g.sample_id FROM (
            SELECT w.sample_id, m.text_id, w.reviewer, arg_max(w.grade, (w.created_at, w.review_id)) AS grade
            FROM standing w JOIN mined m USING (sample_id, negative_id) WHERE w.grade IS NOT NULL AND NOT w.by_policy GROUP BY ALL
        ) g GROUP BY g.sample_id, g.text_id HAVING max(g.grade) - min(g.grade) >= 2
    )
),
counted AS (
    SELECT sample_id, count(*) AS num_reviews,
           min(created_at) FILTER (NOT by_policy AND verdict IN ('approve', 'reject')) AS judged_at
    FROM standing WHERE negative_id IS NULL GROUP BY sample_id
),
hard AS (
    SELECT m.sample_id, count(DISTINCT m.text_id) AS num_negatives, max(m.margin) AS hardness
    FROM mined m SEMI JOIN head USING (sample_id, revision_id)
    ANTI JOIN dropped d ON d.sample_id = m.sample_id AND d.text_id = m.text_id GROUP BY m.sample_id
),
suspicion AS (
    SELECT t.revision_id, arg_max(t.priority, (t.created_at, t.run_id)) AS priority
    FROM triage t SEMI JOIN chosen USING (sample_id) GROUP BY t.revision_id
)
SELECT h.sample_id, h.revision_id, h.task, h.operation, s.declared_use, h.source_id,
       coalesce(d.status, 'pending') AS status, d.reviewers AS decided_by,
       CASE WHEN d.by_policy THEN 'policy' WHEN d.status IS NOT NULL THEN 'human' END AS decided_kind,
       d.difficulty,
       coalesce(c.num_reviews, 0)::INTEGER AS num_reviews, coalesce(n.num_negatives, 0)::INTEGER AS num_negatives,
       n.hardness, coalesce(d.approvals, 0)::INTEGER AS num_approvals, coalesce(d.rejections, 0)::INTEGER AS num_rejections,
       md5_number_lower(h.sample_id::VARCHAR) / 18446744073709551616.0 AS draw, t.priority,
       CASE WHEN coalesce(d.is_settled, false) THEN NULL WHEN f.sample_id IS NOT NULL THEN 'flag'
            WHEN d.status = 'disputed' THEN 'tie' WHEN g.sample_id IS NOT NULL THEN 'grades' END AS adjudication,
       c.judged_at
FROM head h JOIN source s ON s.source_id = h.source_id
LEFT JOIN decision d ON d.sample_id = h.sample_id
LEFT JOIN counted c ON c.sample_id = h.sample_id
LEFT JOIN hard n ON n.sample_id = h.sample_id
LEFT JOIN flagged f ON f.sample_id = h.sample_id
LEFT JOIN graded g ON g.sample_id = h.sample_id
LEFT JOIN suspicion t ON t.revision_id = h.revision_id

-- sample_state, derived from the logs, for the samples in {ids}. The latest revision counts, but for those whose edit
-- was undone. Of each person the last word on it counts, and a skip is no word: more approvals than rejections approve,
-- more rejections reject, as many of both are `disputed`. Where no person spoke, a policy's last word counts.
WITH chosen AS (SELECT sample_id FROM {ids}),
undone AS (SELECT undoes AS review_id FROM review SEMI JOIN chosen USING (sample_id) WHERE undoes IS NOT NULL),
said AS (SELECT v.* FROM review v SEMI JOIN chosen USING (sample_id) WHERE v.undoes IS NULL),
standing AS (SELECT v.* FROM said v ANTI JOIN undone u USING (review_id)),
withdrawn AS (SELECT v.edited_id AS revision_id FROM said v SEMI JOIN undone u USING (review_id) WHERE v.edited_id IS NOT NULL),
head AS (
    SELECT r.* FROM revision r SEMI JOIN chosen USING (sample_id) ANTI JOIN withdrawn w ON w.revision_id = r.revision_id
    QUALIFY row_number() OVER (PARTITION BY r.sample_id ORDER BY r.number DESC, r.created_at DESC, r.revision_id DESC) = 1
),
word AS (
    SELECT v.* FROM standing v JOIN head h ON h.revision_id = coalesce(v.edited_id, v.revision_id)
    WHERE v.negative_id IS NULL AND v.verdict IN ('approve', 'reject')
    QUALIFY row_number() OVER (
        PARTITION BY v.sample_id, v.reviewer_kind = 'policy', CASE WHEN v.reviewer_kind <> 'policy' THEN v.reviewer END
        ORDER BY v.created_at DESC, v.review_id DESC
    ) = 1
),
votes AS (
    SELECT sample_id,
           count(*) FILTER (verdict = 'approve' AND reviewer_kind <> 'policy') AS approvals,
           count(*) FILTER (verdict = 'reject' AND reviewer_kind <> 'policy') AS rejections,
           max(verdict) FILTER (reviewer_kind = 'policy') AS policy_verdict
    FROM word GROUP BY sample_id
),
settled AS (
    SELECT *, CASE WHEN approvals > rejections THEN 'approve' WHEN rejections > approvals THEN 'reject'
                   WHEN approvals > 0 THEN 'dispute' ELSE policy_verdict END AS verdict,
           CASE WHEN approvals + rejections > 0 THEN 'human' ELSE 'policy' END AS kind
    FROM votes
),
decision AS (
    SELECT s.sample_id, s.verdict, s.kind, s.approvals, s.rejections,
           string_agg(w.reviewer, ', ' ORDER BY w.reviewer) AS reviewers, round(avg(w.difficulty))::INTEGER AS difficulty
    FROM settled s JOIN word w ON w.sample_id = s.sample_id AND (w.reviewer_kind = 'policy') = (s.kind = 'policy')
        AND w.verdict = CASE WHEN s.verdict = 'dispute' THEN w.verdict ELSE s.verdict END
    GROUP BY ALL
),
counted AS (SELECT sample_id, count(*) AS num_reviews FROM standing WHERE negative_id IS NULL GROUP BY sample_id),
hard AS (
    SELECT n.sample_id, count(DISTINCT n.text_id) AS num_negatives, max(n.score - n.positive_score) AS hardness
    FROM negative n JOIN head h ON h.revision_id = n.revision_id GROUP BY n.sample_id
)
SELECT h.sample_id, h.revision_id, h.task, h.operation, s.declared_use, h.source_id,
       CASE d.verdict WHEN 'approve' THEN 'approved' WHEN 'reject' THEN 'rejected' WHEN 'dispute' THEN 'disputed'
                      ELSE 'pending' END AS status,
       d.reviewers AS decided_by, d.kind AS decided_kind, d.difficulty,
       coalesce(c.num_reviews, 0)::INTEGER AS num_reviews, coalesce(n.num_negatives, 0)::INTEGER AS num_negatives,
       n.hardness, coalesce(d.approvals, 0)::INTEGER AS num_approvals, coalesce(d.rejections, 0)::INTEGER AS num_rejections
FROM head h JOIN source s ON s.source_id = h.source_id
LEFT JOIN decision d ON d.sample_id = h.sample_id
LEFT JOIN counted c ON c.sample_id = h.sample_id
LEFT JOIN hard n ON n.sample_id = h.sample_id

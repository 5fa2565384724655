-- sample_state, derived from the logs, for the samples in {ids}. The latest revision counts; so does, for each sample,
-- the latest verdict that was not undone, a person's before a policy's. A skip decides nothing.
WITH chosen AS (SELECT sample_id FROM {ids}),
head AS (
    SELECT r.* FROM revision r SEMI JOIN chosen USING (sample_id)
    QUALIFY row_number() OVER (PARTITION BY r.sample_id ORDER BY r.number DESC, r.revision_id DESC) = 1
),
standing AS (
    SELECT v.* FROM review v SEMI JOIN chosen USING (sample_id)
    WHERE v.undoes IS NULL AND v.review_id NOT IN (SELECT undoes FROM review WHERE undoes IS NOT NULL)
),
decision AS (
    SELECT v.* FROM standing v JOIN head h ON h.revision_id = v.revision_id
    WHERE v.negative_id IS NULL AND v.verdict <> 'skip'
    QUALIFY row_number() OVER (
        PARTITION BY v.sample_id ORDER BY v.reviewer_kind = 'human' DESC, v.created_at DESC, v.review_id DESC
    ) = 1
),
counted AS (SELECT sample_id, count(*) AS num_reviews FROM standing WHERE negative_id IS NULL GROUP BY sample_id),
hard AS (
    SELECT n.sample_id, count(DISTINCT n.text_id) AS num_negatives, max(n.score - n.positive_score) AS hardness
    FROM negative n JOIN head h ON h.revision_id = n.revision_id GROUP BY n.sample_id
)
SELECT h.sample_id, h.revision_id, h.task, h.operation, s.declared_use, h.source_id,
       CASE d.verdict WHEN 'approve' THEN 'approved' WHEN 'reject' THEN 'rejected' ELSE 'pending' END AS status,
       d.reviewer AS decided_by, d.reviewer_kind AS decided_kind, d.difficulty,
       coalesce(c.num_reviews, 0)::INTEGER AS num_reviews, coalesce(n.num_negatives, 0)::INTEGER AS num_negatives, n.hardness
FROM head h JOIN source s ON s.source_id = h.source_id
LEFT JOIN decision d ON d.sample_id = h.sample_id
LEFT JOIN counted c ON c.sample_id = h.sample_id
LEFT JOIN hard n ON n.sample_id = h.sample_id

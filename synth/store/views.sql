-- The documented interface of `synth sql`: plain names, one row per thing. docs/sql.md describes every column.

CREATE OR REPLACE VIEW sources AS
SELECT s.source_id, s.name, s.split, s.declared_use, s.kind, s.origin, s.licence, s.version, s.created_at,
       coalesce(p.num_passages, 0) AS num_passages, coalesce(r.num_samples, 0) AS num_samples
FROM source s
LEFT JOIN (SELECT source_id, count(*) AS num_passages FROM passage GROUP BY ALL) p USING (source_id)
LEFT JOIN (SELECT source_id, count(*) AS num_samples FROM sample_state GROUP BY ALL) r USING (source_id);

CREATE OR REPLACE VIEW passages AS
SELECT p.text_id, s.name AS source, p.title, t.text, p.external_id
FROM passage p JOIN source s USING (source_id) JOIN text t USING (text_id);

CREATE OR REPLACE VIEW samples AS
SELECT st.sample_id, st.revision_id, r.task, r.operation, r.method, s.name AS source, s.split, st.declared_use,
       st.status, st.decided_by, st.num_approvals, st.num_rejections, st.difficulty, st.num_reviews, st.num_negatives,
       st.hardness,
       r.instruction, r.query, r.positives, r.text1, r.text2, r.score, r.text, r.label,
       r.model, r.prompt_version, r.created_at
FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id;

CREATE OR REPLACE VIEW negatives AS
SELECT n.negative_id, n.sample_id, r.query, t.text, n.origin, n.rank, n.score, n.positive_score,
       CASE WHEN n.positive_score > 0 THEN n.score / n.positive_score END AS relative_score, u.model AS miner, n.created_at
FROM negative n JOIN revision r USING (revision_id) JOIN text t USING (text_id) LEFT JOIN run u ON u.run_id = n.run_id;

CREATE OR REPLACE VIEW reviews AS
SELECT v.review_id, v.created_at, v.reviewer, v.reviewer_kind, v.verdict, v.reasons, v.difficulty, v.seconds,
       v.note, v.sample_id, v.revision_id, v.edited_id, v.negative_id, v.undoes IS NOT NULL AS is_undo,
       v.review_id IN (SELECT undoes FROM review WHERE undoes IS NOT NULL) AS is_undone
FROM review v;

CREATE OR REPLACE VIEW runs AS
SELECT r.run_id, r.kind, r.started_at, e.ended_at, coalesce(e.status, 'unfinished') AS status, e.seconds, e.counts,
       r.model, r.prompt_version, r.seed, r.device, e.tokens_in, e.tokens_out, e.cost, r.code_version, r.config
FROM run r LEFT JOIN run_end e USING (run_id);

CREATE OR REPLACE VIEW releases AS
SELECT l.name, l.created_at, l.digest, coalesce(i.num_samples, 0) AS num_samples, coalesce(i.num_negatives, 0) AS num_negatives,
       l.policy, l.counts, l.path, l.release_id
FROM release l LEFT JOIN (
    SELECT release_id, count(*) AS num_samples, sum(len(negative_ids))::BIGINT AS num_negatives FROM release_item GROUP BY ALL
) i USING (release_id);

CREATE OR REPLACE VIEW lineage AS
SELECT r.sample_id, r.revision_id, r.parent_id, r.number, r.operation, r.method, r.actor, r.created_at, s.name AS source,
       s.licence, p.text AS seed_text, r.run_id, u.kind AS run_kind, r.model, r.prompt_version, r.call_id,
       (SELECT list(l.name ORDER BY l.created_at) FROM release_item i JOIN release l USING (release_id)
        WHERE i.revision_id = r.revision_id) AS releases
FROM revision r JOIN source s USING (source_id) LEFT JOIN text p ON p.text_id = r.seed_id LEFT JOIN run u ON u.run_id = r.run_id;

CREATE OR REPLACE VIEW calls AS
SELECT c.call_id, c.created_at, c.model, c.prompt_version, c.sampling, c.attempt, c.outcome, c.tokens_in, c.tokens_out,
       c.cost, c.seconds, c.seed_id, c.run_id
FROM llm_call c;

CREATE OR REPLACE VIEW eval_overlaps AS
SELECT o.sample_id, o.revision_id, s.name AS source, o.field, e.name AS eval_source, e.split AS eval_split, o.eval_id,
       o.kind, o.value, o.run_id, o.created_at
FROM overlap o JOIN revision r USING (revision_id) JOIN source s ON s.source_id = r.source_id
JOIN source e ON e.source_id = o.eval_source_id;

CREATE OR REPLACE VIEW near_duplicates AS
SELECT n.sample_id, n.revision_id, n.kept_id, n.similarity, n.run_id, n.created_at FROM near_duplicate n;

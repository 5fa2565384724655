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

-- What is counted and grouped by, without a look at the contents: a third of the time of `samples`.
CREATE OR REPLACE VIEW statuses AS
SELECT st.sample_id, st.revision_id, st.task, st.operation, s.name AS source, s.split, st.declared_use,
       st.status, st.decided_by, st.num_approvals, st.num_rejections, st.difficulty, st.num_reviews, st.num_negatives,
       st.hardness, st.priority, st.adjudication, st.draw < 0.2 AS is_random
FROM sample_state st JOIN source s USING (source_id);

CREATE OR REPLACE VIEW samples AS
SELECT st.sample_id, st.revision_id, st.task, st.operation, r.method, s.name AS source, s.split, st.declared_use,
       st.status, st.decided_by, st.num_approvals, st.num_rejections, st.difficulty, st.num_reviews, st.num_negatives,
       st.hardness, st.priority, st.adjudication, st.draw < 0.2 AS is_random,
       r.instruction, r.query, r.positives, r.text1, r.text2, r.score, r.text, r.label,
       r.model, r.prompt_version, r.seed_id, r.run_id, r.call_id, r.created_at
FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id;

CREATE OR REPLACE VIEW revisions AS
SELECT r.sample_id, r.revision_id, r.parent_id, r.number, r.task, r.operation, r.method, r.actor,
       r.instruction, r.query, r.positives, r.text1, r.text2, r.score, r.text, r.label,
       r.model, r.prompt_version, r.seed_id, r.run_id, r.call_id, r.created_at
FROM revision r;

CREATE OR REPLACE VIEW negatives AS
SELECT n.negative_id, n.sample_id, n.revision_id, r.query, n.text_id, t.text, n.origin, n.rank, n.score,
       n.positive_score, CASE WHEN n.positive_score > 0 THEN n.score / n.positive_score END AS relative_score,
       n.miners, nullif(len(n.miners), 0) AS num_votes, n.relevance, n.positive_relevance, n.positive_similarity, n.overlap,
       n.flags, n.relaxed, n.kind, n.requirement, u.model AS miner, n.call_id, n.run_id, n.original_id, n.created_at
FROM negative n JOIN revision r USING (revision_id) JOIN text t USING (text_id) LEFT JOIN run u ON u.run_id = n.run_id;

-- What each reviewer said last of a text as a negative of a sample; one reviewer's word is enough to drop it. The rule is
-- state.sql's, which cannot read a view for one sample as fast as a decision needs it.
CREATE OR REPLACE VIEW negative_verdicts AS
SELECT v.sample_id, n.text_id, v.negative_id, v.reviewer, v.reviewer_kind, v.verdict,
       v.verdict <> 'keep' AS drops, v.reasons, v.review_id, v.created_at
FROM review v JOIN negative n USING (negative_id)
ANTI JOIN (SELECT undoes AS review_id FROM review WHERE undoes IS NOT NULL) u ON u.review_id = v.review_id
WHERE v.undoes IS NULL AND v.verdict <> 'skip'
QUALIFY row_number() OVER (
    PARTITION BY v.sample_id, n.text_id, v.reviewer, v.reviewer_kind ORDER BY v.created_at DESC, v.review_id DESC
) = 1;

CREATE OR REPLACE VIEW reviews AS
SELECT v.review_id, v.created_at, v.reviewer, v.reviewer_kind, v.verdict, v.reasons, v.difficulty, v.seconds,
       v.note, v.sample_id, v.revision_id, v.edited_id, v.negative_id, v.undoes, v.undoes IS NOT NULL AS is_undo,
       v.review_id IN (SELECT undoes FROM review WHERE undoes IS NOT NULL) AS is_undone,
       v.grade, v.own_score, v.saw_scores, v.num_shown, coalesce(v.adjudicates, false) AS adjudicates, v.guideline
FROM review v;

-- The latest triage of a revision, whichever revision of the sample that is.
CREATE OR REPLACE VIEW triages AS
SELECT t.sample_id, t.revision_id, t.priority, t.parts, t.labels, t.run_id, t.created_at
FROM triage t QUALIFY row_number() OVER (PARTITION BY t.revision_id ORDER BY t.created_at DESC, t.run_id DESC) = 1;

-- Samples whose verdict is known: what an adjudicator settled last, or what was stated to be.
CREATE OR REPLACE VIEW gold_samples AS
SELECT k.sample_id, k.revision_id, k.verdict, k.author, k.created_at FROM (
    FROM gold UNION ALL BY NAME
    SELECT v.sample_id, coalesce(v.edited_id, v.revision_id) AS revision_id, v.verdict, v.reviewer AS author, v.created_at
    FROM review v WHERE v.adjudicates AND v.negative_id IS NULL AND v.verdict IN ('approve', 'reject') AND v.undoes IS NULL
    AND v.review_id NOT IN (SELECT u.undoes FROM review u WHERE u.undoes IS NOT NULL)
) k QUALIFY row_number() OVER (PARTITION BY k.revision_id ORDER BY k.created_at DESC) = 1 AND k.verdict IS NOT NULL;

CREATE OR REPLACE VIEW guidelines AS
SELECT g.number, g.text, g.settings, g.author, g.created_at FROM guideline g;

CREATE OR REPLACE VIEW roles AS
SELECT r.reviewer, r.role, r.granted_by, r.created_at FROM role r
QUALIFY row_number() OVER (PARTITION BY r.reviewer ORDER BY r.created_at DESC) = 1;

CREATE OR REPLACE VIEW votes AS
SELECT v.vote_id, v.created_at, v.reviewer, v.left_id, v.right_id, v.choice, v.left_side, v.right_side, v.seconds FROM vote v;

CREATE OR REPLACE VIEW runs AS
SELECT r.run_id, r.kind, r.started_at, e.ended_at, coalesce(e.status, 'unfinished') AS status, e.reason, e.seconds,
       e.counts, r.model, r.prompt_version, r.seed, r.device, e.requests, e.tokens_in, e.tokens_out, e.cost,
       e.lost_tokens, e.lost_cost, r.code_version, r.config
FROM run r LEFT JOIN run_end e USING (run_id);

CREATE OR REPLACE VIEW run_steps AS
SELECT p.run_id, u.kind AS run_kind, p.step, p.seconds, p.number, p.detail, p.created_at
FROM run_step p LEFT JOIN run u USING (run_id);

-- One row for each sample of each step that a training run took.
CREATE OR REPLACE VIEW training_steps AS
SELECT t.run_id, t.step, t.stage, t.task, t.dataset, t.loss, unnest(t.sample_ids) AS sample_id FROM train_step t;

CREATE OR REPLACE VIEW generations AS
SELECT g.seed_id, g.num_samples, g.rejections, g.run_id, g.created_at FROM generated g;

CREATE OR REPLACE VIEW minings AS
SELECT m.sample_id, m.revision_id, r.query, m.status, m.reason, m.positive_rank, m.positive_score, m.num_negatives,
       m.num_candidates, m.num_capped, m.fallen, m.run_id, m.created_at
FROM mined m JOIN revision r USING (revision_id);

CREATE OR REPLACE VIEW mining_candidates AS
SELECT m.sample_id, m.revision_id, r.query, m.found.text_id AS text_id, t.text, m.found.rank AS rank, m.found.score AS score,
       m.found.reason AS reason, m.run_id, m.created_at
FROM (SELECT sample_id, revision_id, unnest(candidates) AS found, run_id, created_at FROM mined) m
JOIN revision r USING (revision_id) JOIN text t ON t.text_id = m.found.text_id;

-- Scored pairs beside the decision boundary of their source, by encoder: the latest revision of every pair that nobody
-- rejected. run_id and created_at are of the run that encoded the pair.
CREATE OR REPLACE VIEW pair_boundaries AS
WITH latest AS (
    FROM pair_boundary
    QUALIFY row_number() OVER (PARTITION BY stage_key, source ORDER BY created_at DESC, run_id DESC) = 1
)
SELECT c.sample_id, c.revision_id, b.source, r.text1, r.text2, r.score, c.cosine, b.boundary,
       abs(c.cosine - b.boundary) AS distance, (r.score >= b.least_score) <> (c.cosine >= b.boundary) AS is_wrong_side,
       u.model AS encoder, c.run_id, c.created_at
FROM pair_cosine c JOIN sample_state st ON st.revision_id = c.revision_id AND st.status <> 'rejected'
JOIN revision r ON r.revision_id = c.revision_id JOIN source s ON s.source_id = st.source_id
JOIN latest b ON b.stage_key = c.stage_key AND b.source = s.name LEFT JOIN run u ON u.run_id = c.run_id;

CREATE OR REPLACE VIEW releases AS
SELECT l.name, l.created_at, l.digest, coalesce(i.num_samples, 0) AS num_samples, coalesce(i.num_negatives, 0) AS num_negatives,
       l.policy, l.counts, l.path, l.release_id
FROM release l LEFT JOIN (
    SELECT release_id, count(*) AS num_samples, sum(len(negative_ids))::BIGINT AS num_negatives FROM release_item GROUP BY ALL
) i USING (release_id);

CREATE OR REPLACE VIEW release_samples AS
SELECT l.name AS release, i.sample_id, i.revision_id, i.negative_ids
FROM release_item i JOIN release l USING (release_id);

CREATE OR REPLACE VIEW lineage AS
SELECT r.sample_id, r.revision_id, r.parent_id, CASE WHEN q.sample_id <> r.sample_id THEN q.sample_id END AS made_from,
       r.number, r.operation, r.method, r.actor, r.created_at, s.name AS source,
       s.licence, p.text AS seed_text, r.run_id, u.kind AS run_kind, r.model, r.prompt_version, r.call_id, m.releases
FROM revision r JOIN source s USING (source_id) LEFT JOIN text p ON p.text_id = r.seed_id LEFT JOIN run u ON u.run_id = r.run_id
LEFT JOIN revision q ON q.revision_id = r.parent_id
LEFT JOIN (  -- by both ids, so that a condition on either reaches the table before anything is grouped
    SELECT i.sample_id, i.revision_id, list(l.name ORDER BY l.created_at, l.name) AS releases
    FROM release_item i JOIN release l USING (release_id) GROUP BY ALL
) m ON m.sample_id = r.sample_id AND m.revision_id = r.revision_id;

CREATE OR REPLACE VIEW calls AS
SELECT c.call_id, c.created_at, c.model, c.asked, c.server, c.prompt_version, c.sampling, c.attempt, c.turn, c.outcome, c.reason,
       c.repaired, c.tokens_in, c.tokens_out, c.cost, c.seconds, c.batch, c.seed_id, c.run_id
FROM llm_call c;

CREATE OR REPLACE VIEW rejections AS
SELECT j.rejection_id, j.created_at, j.reason, j.found, j.text, j.seed_id, j.call_id, j.run_id FROM rejection j;

-- A judge finishes no seed: what it left it has graded since, if its last word on that revision came after the failures.
CREATE OR REPLACE VIEW failures AS
WITH judged AS (
    SELECT l.stage_key, l.seed_id FROM llm_failure l
    JOIN judgement j ON j.stage_key = l.stage_key AND j.revision_id = l.seed_id
    GROUP BY ALL HAVING max(j.created_at) > max(l.created_at)
)
SELECT f.failure_id, f.created_at, f.kind, f.reason, f.permanent, f.attempts, f.asked, f.server, f.prompt_version, f.attempt,
       g.seed_id IS NOT NULL OR j.seed_id IS NOT NULL AS is_finished, f.seed_id, f.request_key, f.run_id
FROM llm_failure f LEFT JOIN generated g ON g.stage_key = f.stage_key AND g.seed_id = f.seed_id
LEFT JOIN judged j ON j.stage_key = f.stage_key AND j.seed_id = f.seed_id;

CREATE OR REPLACE VIEW eval_overlaps AS
SELECT o.sample_id, o.revision_id, s.name AS source, o.field, e.name AS eval_source, e.split AS eval_split, o.eval_id,
       o.kind, o.value, o.run_id, o.created_at
FROM overlap o JOIN revision r USING (revision_id) JOIN source s ON s.source_id = r.source_id
JOIN source e ON e.source_id = o.eval_source_id;

CREATE OR REPLACE VIEW near_duplicates AS
SELECT n.sample_id, n.revision_id, n.kept_id, n.similarity, n.run_id, n.created_at FROM near_duplicate n;

-- What each judge said last of a passage as an answer to a sample's query, and what follows from it whatever people say
-- (null: nothing); docs/judge.md has the rules. It is a suggestion to people, and no verdict.
CREATE OR REPLACE VIEW judgements AS
WITH said AS (
    SELECT * FROM judgement
    QUALIFY row_number() OVER (PARTITION BY judge, revision_id, text_id ORDER BY created_at DESC, judgement_id DESC) = 1
),
positive AS (
    SELECT judge, revision_id, min(grade) AS grade, min(relevance) AS relevance FROM said WHERE is_positive GROUP BY ALL
),
found AS (
    SELECT revision_id, text_id, max(negative_id) AS negative_id, bool_and(origin = 'generated') AS is_generated
    FROM negative GROUP BY ALL
),
compared AS (
    SELECT s.*, f.negative_id, f.is_generated, p.grade AS positive_grade, p.relevance AS positive_relevance,
           -- as good as the worst of the positives
           s.grade >= coalesce(p.grade, 0) AND coalesce(s.relevance >= p.relevance, true) AS as_good
    FROM said s LEFT JOIN positive p ON p.judge = s.judge AND p.revision_id = s.revision_id
    LEFT JOIN found f ON NOT s.is_positive AND f.revision_id = s.revision_id AND f.text_id = s.text_id
)
SELECT c.sample_id, c.revision_id, r.query, c.text_id,
       CASE WHEN c.is_positive THEN list_filter(r.positives, lambda p: text_id_of(p) = c.text_id)[1] ELSE t.text END AS text,
       c.is_positive, c.negative_id, c.judge, c.judge_kind, c.grade, c.positive_grade, c.relevance, c.positive_relevance,
       CASE WHEN c.is_positive THEN CASE WHEN c.grade <= 1 THEN 'drop_sample' END
            WHEN c.grade < 2 THEN NULL
            WHEN c.is_generated AND c.as_good THEN 'not_worse'
            WHEN c.grade = 3 AND c.as_good THEN 'promote'
            WHEN c.grade = 3 OR NOT c.is_generated THEN 'drop_negative' END AS suggestion,
       c.reason, c.place, c.version, c.call_id, c.run_id, c.judgement_id, c.created_at
FROM compared c JOIN revision r ON r.revision_id = c.revision_id LEFT JOIN text t ON t.text_id = c.text_id;

-- What of that is still to be decided or was decided otherwise, for the latest revision of a sample that nobody rejected. A
-- person's approval overrules it, for the negatives that the sample had by then as well, and so does a `keep`.
CREATE OR REPLACE VIEW suggestions AS
WITH since AS (SELECT sample_id, text_id, min(created_at) AS first_at FROM negative GROUP BY ALL),
approval AS (
    SELECT coalesce(edited_id, revision_id) AS revision_id, max(created_at) AS last_at FROM reviews
    WHERE verdict = 'approve' AND reviewer_kind = 'human' AND negative_id IS NULL AND NOT is_undo AND NOT is_undone GROUP BY 1
),
word AS (
    SELECT sample_id, text_id, bool_or(drops) AS is_dropped, bool_or(NOT drops AND reviewer_kind = 'human') AS is_kept
    FROM negative_verdicts GROUP BY ALL
)
SELECT j.suggestion, j.sample_id, j.revision_id, j.query, j.text_id, j.text, j.negative_id, j.judge, j.grade,
       j.positive_grade, j.relevance, j.positive_relevance, j.reason, st.status,
       st.status = 'approved' AND st.decided_kind = 'human'
       AND (j.is_positive OR coalesce(b.first_at <= a.last_at, false))
       OR coalesce(w.is_kept, false) AS is_overruled,
       j.judgement_id, j.call_id, j.run_id, j.created_at
FROM judgements j JOIN sample_state st ON st.sample_id = j.sample_id AND st.revision_id = j.revision_id
LEFT JOIN since b ON b.sample_id = j.sample_id AND b.text_id = j.text_id
LEFT JOIN approval a ON a.revision_id = j.revision_id
LEFT JOIN word w ON NOT j.is_positive AND w.sample_id = j.sample_id AND w.text_id = j.text_id
WHERE j.suggestion IS NOT NULL AND st.status <> 'rejected' AND NOT coalesce(w.is_dropped, false);

-- A judge's last word beside what people decided of the same thing: of a sample (negative_id is null; the judge's word on
-- the worst of its positives), or of a negative. One person's word drops a negative; an approval keeps those that the sample
-- had by then. A tie decides nothing, and neither does a policy.
CREATE OR REPLACE VIEW judge_vs_people AS
WITH word AS (
    SELECT sample_id, coalesce(edited_id, revision_id) AS head_id, reviewer, verdict, reasons, note, created_at FROM reviews
    WHERE reviewer_kind = 'human' AND negative_id IS NULL AND NOT is_undo AND NOT is_undone AND verdict IN ('approve', 'reject')
    QUALIFY row_number() OVER (PARTITION BY sample_id, head_id, reviewer ORDER BY created_at DESC, review_id DESC) = 1
),
of_sample AS (
    SELECT w.sample_id, w.head_id AS revision_id, NULL::UUID AS text_id, w.verdict = 'reject' AS leaves_out, w.reviewer,
           w.reasons, w.note, w.created_at
    FROM word w JOIN sample_state st ON st.sample_id = w.sample_id AND st.revision_id = w.head_id
    WHERE w.verdict = CASE st.status WHEN 'approved' THEN 'approve' WHEN 'rejected' THEN 'reject' END
),
of_negative AS (
    SELECT n.sample_id, v.revision_id, n.text_id, n.drops AS leaves_out, n.reviewer,
           CASE WHEN n.verdict IN ('reject', 'keep') THEN n.reasons ELSE [n.verdict] END AS reasons, v.note, n.created_at
    FROM negative_verdicts n JOIN reviews v USING (review_id) WHERE n.reviewer_kind = 'human'
    QUALIFY n.drops = bool_or(n.drops) OVER (PARTITION BY n.sample_id, n.text_id)
),
kept AS (
    SELECT DISTINCT s.sample_id, s.revision_id, n.text_id, false AS leaves_out, s.reviewer, NULL::VARCHAR[] AS reasons,
           NULL::VARCHAR AS note, s.created_at
    FROM of_sample s JOIN negative n ON n.sample_id = s.sample_id AND n.created_at <= s.created_at
    ANTI JOIN (FROM negative_verdicts WHERE drops) v ON v.sample_id = n.sample_id AND v.text_id = n.text_id
    WHERE NOT s.leaves_out
),
decision AS (
    SELECT sample_id, revision_id, text_id, leaves_out, string_agg(DISTINCT reviewer, ', ' ORDER BY reviewer) AS decided_by,
           list_sort(list_distinct(flatten(list(coalesce(reasons, []))))) AS reasons,
           string_agg(nullif(note, ''), ' / ' ORDER BY reviewer) AS notes, max(created_at) AS decided_at
    FROM (FROM of_sample UNION ALL FROM of_negative UNION ALL FROM kept) GROUP BY ALL
),
said AS (
    SELECT j.*, CASE WHEN NOT j.is_positive THEN j.text_id END AS of_text
    FROM judgements j SEMI JOIN decision USING (revision_id)
    QUALIFY NOT j.is_positive OR row_number() OVER (
        PARTITION BY j.judge, j.revision_id, j.is_positive ORDER BY j.grade, j.relevance NULLS LAST, j.text_id
    ) = 1
),
begun AS (
    SELECT sample_id, CASE WHEN NOT is_positive THEN text_id END AS of_text, min(created_at) AS first_at
    FROM judgement GROUP BY ALL
)
SELECT d.sample_id, d.revision_id, j.query, j.text_id, j.text, j.negative_id, j.judge, j.grade, j.suggestion,
       j.suggestion IS NOT NULL AS judge_leaves_out, d.leaves_out AS people_leave_out, j.reason, d.decided_by, d.reasons,
       d.notes, d.decided_at, d.decided_at < b.first_at AS people_first, j.judgement_id
FROM decision d
JOIN said j ON j.revision_id = d.revision_id AND j.of_text IS NOT DISTINCT FROM d.text_id
JOIN begun b ON b.sample_id = d.sample_id AND b.of_text IS NOT DISTINCT FROM d.text_id;

CREATE OR REPLACE VIEW relabellings AS
SELECT b.sample_id, b.revision_id, r.query, b.outcome, b.moved_to IS NOT NULL AS moved, b.moved_to, b.passage_from,
       b.passage_to, b.candidates, b.num_negatives, b.call_id, b.run_id, b.created_at
FROM relabelled b JOIN revision r USING (revision_id);

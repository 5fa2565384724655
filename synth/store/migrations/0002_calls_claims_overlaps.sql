-- What the LLM was asked and what it cost; who holds which card; edits and notes of reviewers; what overlaps what.

-- One reply that was paid for; a revision made of it names it. cost is in US dollars, null where no price is stated.
CREATE TABLE llm_call (
    call_id UUID, run_id UUID, seed_id UUID, model VARCHAR, prompt_version VARCHAR, sampling JSON, attempt INTEGER,
    outcome VARCHAR, tokens_in BIGINT, tokens_out BIGINT, cost DOUBLE, seconds DOUBLE, created_at TIMESTAMP
);
ALTER TABLE revision ADD COLUMN call_id UUID;
ALTER TABLE run_end ADD COLUMN cost DOUBLE;

-- edited_id: the revision that this event made; its verdict counts for that one.
ALTER TABLE review ADD COLUMN edited_id UUID;
ALTER TABLE review ADD COLUMN note VARCHAR;

-- A card that a reviewer has before them; nobody else is shown it before expires_at.
CREATE TABLE claim (sample_id UUID, reviewer VARCHAR, expires_at TIMESTAMP);

-- What `synth check` and releases found: a sample's field that repeats an evaluation set's text (eval_id: the held-out
-- sample or passage), and a sample that says nearly what another one (kept_id) says. A later run's rows do not replace
-- an earlier's.
CREATE TABLE overlap (
    run_id UUID, sample_id UUID, revision_id UUID, field VARCHAR, eval_source_id UUID, eval_id UUID, kind VARCHAR,
    value DOUBLE, created_at TIMESTAMP
);
CREATE TABLE near_duplicate (
    run_id UUID, sample_id UUID, revision_id UUID, kept_id UUID, similarity DOUBLE, created_at TIMESTAMP
);

-- People's last words on the latest revision.
ALTER TABLE sample_state ADD COLUMN num_approvals INTEGER DEFAULT 0;
ALTER TABLE sample_state ADD COLUMN num_rejections INTEGER DEFAULT 0;
UPDATE sample_state SET num_approvals = 1 WHERE status = 'approved' AND decided_kind = 'human';
UPDATE sample_state SET num_rejections = 1 WHERE status = 'rejected' AND decided_kind = 'human';

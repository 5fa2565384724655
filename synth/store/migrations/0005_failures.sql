-- Requests that got no reply, what is asked of which server, and why a run or a reply ended as it did.

-- One request that got no usable reply. permanent: the same request would fail again. attempt is the number that the
-- request was made with, as in llm_call; attempts is how often it was sent.
CREATE TABLE llm_failure (
    failure_id UUID, run_id UUID, stage_key UUID, seed_id UUID, request_key UUID, asked VARCHAR, server VARCHAR,
    prompt_version VARCHAR, attempt INTEGER, kind VARCHAR, reason VARCHAR, permanent BOOLEAN, attempts INTEGER,
    created_at TIMESTAMP
);

-- asked is the model as it is configured, model as the server names it. Null in rows that were stored before.
ALTER TABLE llm_call ADD COLUMN server VARCHAR;
ALTER TABLE llm_call ADD COLUMN asked VARCHAR;
ALTER TABLE llm_call ADD COLUMN reason VARCHAR;
ALTER TABLE llm_call ADD COLUMN repaired VARCHAR;
ALTER TABLE llm_call ADD COLUMN batch VARCHAR;

-- requests counts what was sent; lost is the most that replies which never arrived can have cost.
ALTER TABLE run_end ADD COLUMN reason VARCHAR;
ALTER TABLE run_end ADD COLUMN requests BIGINT;
ALTER TABLE run_end ADD COLUMN lost_cost DOUBLE;
ALTER TABLE run_end ADD COLUMN lost_tokens BIGINT;

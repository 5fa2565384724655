-- Append-only logs, and one narrow projection (sample_state) that can be rebuilt from them.
-- No keys, indexes, enums or sequences: uniqueness is an anti-join on ids inside the write lease, and the same tables
-- must work on DuckLake, which refuses them. Times are UTC.

-- Everything that was done: ingest, generate, mine, review (by a policy), release, train, evaluate.
CREATE TABLE run (
    run_id UUID, kind VARCHAR, started_at TIMESTAMP, config JSON, code_version VARCHAR,
    model VARCHAR, prompt_version VARCHAR, seed BIGINT, device VARCHAR
);
CREATE TABLE run_end (
    run_id UUID, ended_at TIMESTAMP, status VARCHAR, counts JSON,
    tokens_in BIGINT, tokens_out BIGINT, seconds DOUBLE
);

-- One split of one imported data set or folder. declared_use is train or eval.
CREATE TABLE source (
    source_id UUID, name VARCHAR, split VARCHAR, declared_use VARCHAR, kind VARCHAR,
    origin VARCHAR, licence VARCHAR, version VARCHAR, run_id UUID, created_at TIMESTAMP
);

-- Every passage text once; passage says which corpus it belongs to.
CREATE TABLE text (text_id UUID, text VARCHAR, created_at TIMESTAMP);
CREATE TABLE passage (source_id UUID, text_id UUID, title VARCHAR, external_id VARCHAR);

-- One row per revision of a sample; never changed. A sample's first revision has its sample_id as revision_id.
CREATE TABLE revision (
    revision_id UUID, sample_id UUID, parent_id UUID, number INTEGER, content_hash UUID,
    task VARCHAR, operation VARCHAR, method VARCHAR, source_id UUID, seed_id UUID, external_id VARCHAR,
    instruction VARCHAR, query VARCHAR, positives VARCHAR[], text1 VARCHAR, text2 VARCHAR, score DOUBLE,
    text VARCHAR, label VARCHAR,
    actor VARCHAR, model VARCHAR, prompt_version VARCHAR, run_id UUID, created_at TIMESTAMP
);

-- Mining a sample again adds rows. kind and requirement are for negatives that were written to be worse.
CREATE TABLE negative (
    negative_id UUID, sample_id UUID, revision_id UUID, text_id UUID, origin VARCHAR, rank INTEGER,
    score DOUBLE, positive_score DOUBLE, kind VARCHAR, requirement VARCHAR, run_id UUID, created_at TIMESTAMP
);

-- What the stages have finished: the same configuration (stage_key) does no seed and no revision twice.
CREATE TABLE generated (
    stage_key UUID, text_id UUID, run_id UUID, num_samples INTEGER, rejections JSON, created_at TIMESTAMP
);
CREATE TABLE mined (
    stage_key UUID, revision_id UUID, sample_id UUID, run_id UUID, status VARCHAR, reason VARCHAR,
    positive_rank INTEGER, num_negatives INTEGER, created_at TIMESTAMP
);

-- Judgements, of a revision or (negative_id) of one of its negatives. reviewer_kind is human or policy.
CREATE TABLE review (
    review_id UUID, created_at TIMESTAMP, reviewer VARCHAR, reviewer_kind VARCHAR, sample_id UUID, revision_id UUID,
    negative_id UUID, verdict VARCHAR, reasons VARCHAR[], difficulty INTEGER, seconds DOUBLE, undoes UUID, run_id UUID
);

-- Frozen lists; the files are in the release's directory.
CREATE TABLE release (
    release_id UUID, name VARCHAR, digest VARCHAR, policy JSON, counts JSON, path VARCHAR, run_id UUID, created_at TIMESTAMP
);
CREATE TABLE release_item (release_id UUID, sample_id UUID, revision_id UUID, negative_ids UUID[]);

-- The projection: one narrow row per sample.
CREATE TABLE sample_state (
    sample_id UUID, revision_id UUID, task VARCHAR, operation VARCHAR, declared_use VARCHAR, source_id UUID,
    status VARCHAR, decided_by VARCHAR, decided_kind VARCHAR, difficulty INTEGER, num_reviews INTEGER,
    num_negatives INTEGER, hardness DOUBLE
);

-- What mining knows of the negatives that it found and of those that it did not take, and what a run did in which time.

-- miners: who found it, at which rank of its own list, with which score. relevance and positive_relevance: a
-- cross-encoder's, from 0 to 1, of the negative and of the positive that it finds least relevant. positive_similarity: the
-- highest cosine with one of the positives. overlap: the highest share of words in common with one of them (Jaccard).
-- flags: why a judge and people should look at it (near_positive, near_duplicate, above_reranker). relaxed: the rules that
-- were given up for it (window, cap).
ALTER TABLE negative ADD COLUMN miners STRUCT(miner VARCHAR, rank INTEGER, score DOUBLE)[];
ALTER TABLE negative ADD COLUMN relevance DOUBLE;
ALTER TABLE negative ADD COLUMN positive_relevance DOUBLE;
ALTER TABLE negative ADD COLUMN positive_similarity DOUBLE;
ALTER TABLE negative ADD COLUMN overlap DOUBLE;
ALTER TABLE negative ADD COLUMN flags VARCHAR[];
ALTER TABLE negative ADD COLUMN relaxed VARCHAR[];

-- num_capped: candidates that score at or above the cap. positive_score: the lowest cosine of the query and a positive.
-- fallen: how many candidates fell for which reason. candidates: the best of them, where negatives are wanting.
ALTER TABLE mined ADD COLUMN num_candidates INTEGER;
ALTER TABLE mined ADD COLUMN num_capped BIGINT;
ALTER TABLE mined ADD COLUMN positive_score DOUBLE;
ALTER TABLE mined ADD COLUMN fallen JSON;
ALTER TABLE mined ADD COLUMN candidates STRUCT(text_id UUID, rank INTEGER, score DOUBLE, reason VARCHAR)[];

-- number: of what the step did (texts, queries, pairs). detail: the device, the precision, the memory that it took.
CREATE TABLE run_step (
    run_id UUID, step VARCHAR, seconds DOUBLE, number BIGINT, detail VARCHAR, created_at TIMESTAMP
);

-- What an encoder says of scored pairs, and the cosine that best parts a source's upper half of scores from its lower half.

-- Once for each pair, with the same encoder (stage_key).
CREATE TABLE pair_cosine (
    stage_key UUID, revision_id UUID, sample_id UUID, run_id UUID, cosine DOUBLE, created_at TIMESTAMP
);
-- Drawn over all pairs of a source whenever pairs were added: the latest holds. least_score: the least of the upper half.
-- num_correct: pairs of the upper half at or above the boundary, and of the lower half below it.
CREATE TABLE pair_boundary (
    stage_key UUID, source VARCHAR, run_id UUID, boundary DOUBLE, least_score DOUBLE, num_pairs BIGINT,
    num_correct BIGINT, created_at TIMESTAMP
);

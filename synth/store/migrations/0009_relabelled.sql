-- What relabelling made of a sample: outcome is moved, stayed, unanswered or duplicate.

-- passage_from is the positive before, passage_to the one after, moved_to the revision that was made of revision_id (null
-- unless it moved). candidates: of each its text_id, rank and score, place by likelihood, grade, and place by both.
CREATE TABLE relabelled (
    stage_key UUID, sample_id UUID, revision_id UUID, outcome VARCHAR, moved_to UUID, passage_from UUID, passage_to UUID,
    candidates STRUCT(text_id UUID, rank INTEGER, score DOUBLE, likelihood INTEGER, grade INTEGER, place INTEGER)[],
    num_negatives INTEGER, call_id UUID, run_id UUID, created_at TIMESTAMP
);

-- What judges (an LLM, a cross-encoder) said of passages as answers to a query; never changed, and decides nothing.
-- grade is 0 to 3, relevance a cross-encoder's score from 0 to 1, place where the passage stood in an LLM's request, from
-- 1. version is an LLM's prompt, or what determines an encoder's scores. Of each judge the last word counts.
CREATE TABLE judgement (
    judgement_id UUID, run_id UUID, stage_key UUID, sample_id UUID, revision_id UUID, text_id UUID, is_positive BOOLEAN,
    judge VARCHAR, judge_kind VARCHAR, version VARCHAR, grade INTEGER, relevance DOUBLE, reason VARCHAR, place INTEGER,
    call_id UUID, created_at TIMESTAMP
);

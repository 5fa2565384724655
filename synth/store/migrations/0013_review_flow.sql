-- What reviewers say and see beyond a verdict, who settles what they disagree on, and in which order samples are shown.

-- grade: of a negative, 0 irrelevant, 1 topical, 2 partial, 3 answers. own_score: a reviewer's own score of a scored pair,
-- given before the pair's was shown. saw_scores: scores and what judges suggest were on the card. num_shown: negatives that
-- were on the card. adjudicates: said by an adjudicator, whose word decides. guideline: the number of the one in force.
ALTER TABLE review ADD COLUMN grade INTEGER;
ALTER TABLE review ADD COLUMN own_score DOUBLE;
ALTER TABLE review ADD COLUMN saw_scores BOOLEAN;
ALTER TABLE review ADD COLUMN num_shown INTEGER;
ALTER TABLE review ADD COLUMN adjudicates BOOLEAN;
ALTER TABLE review ADD COLUMN guideline INTEGER;

-- draw: from 0 to 1, by the id alone; those below 0.2 are shown in its order, which makes them a random sample. priority:
-- how suspicious the latest triage found the revision; null where none has looked at it. adjudication: why an adjudicator is
-- asked (tie, flag, grades), or null. judged_at: when a person first approved or rejected the sample and did not undo it:
-- of each task those that were judged first get a second opinion, and are found here without reading the log.
-- A table made anew, for it is derived anew: DuckDB 1.5 commits no change of a table that was filled before in the same
-- transaction, as it is in a store of the first version.
CREATE TABLE sample_state_since AS
SELECT st.*, NULL::DOUBLE AS draw, NULL::DOUBLE AS priority, NULL::VARCHAR AS adjudication, NULL::TIMESTAMP AS judged_at
FROM sample_state st WHERE false;
DROP TABLE sample_state;
ALTER TABLE sample_state_since RENAME TO sample_state;

-- How suspicious a revision is: the sum of its parts, each in standard deviations above the mean of its kind. labels: of a
-- labelled text, the most likely ones, likeliest first.
CREATE TABLE triage (
    stage_key UUID, sample_id UUID, revision_id UUID, priority DOUBLE, parts STRUCT(name VARCHAR, value DOUBLE, score DOUBLE)[],
    labels VARCHAR[], run_id UUID, created_at TIMESTAMP
);

-- Samples whose verdict is known, shown among the others to see how well reviewers do; the latest row of a revision holds,
-- and no verdict takes it back.
CREATE TABLE gold (sample_id UUID, revision_id UUID, verdict VARCHAR, author VARCHAR, created_at TIMESTAMP);

-- What reviewers are told to go by; the highest number is in force. settings: reason codes and how many opinions are wanted.
CREATE TABLE guideline (number INTEGER, text VARCHAR, settings JSON, author VARCHAR, created_at TIMESTAMP);

-- reviewer, adjudicator, admin or none; the latest row of a reviewer holds.
CREATE TABLE role (reviewer VARCHAR, role VARCHAR, granted_by VARCHAR, created_at TIMESTAMP);

-- A reviewer's own: keys, where they left off. The latest row of a name holds.
CREATE TABLE reviewer_setting (reviewer VARCHAR, name VARCHAR, value JSON, created_at TIMESTAMP);

-- Which of two samples is the better one, asked without saying which release, run or prompt each is from.
CREATE TABLE vote (
    vote_id UUID, created_at TIMESTAMP, reviewer VARCHAR, left_id UUID, right_id UUID, choice VARCHAR, left_side VARCHAR,
    right_side VARCHAR, seconds DOUBLE
);

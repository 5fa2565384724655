-- Recipes start from samples as well as from passages, write negatives, and ask again for what the checks rejected.

-- Tables whose rows 0003 may have changed are made anew: DuckDB 1.5 refuses to alter them in the same transaction.

-- seed_id: the text id of a passage, or the id of a sample's revision.
CREATE TABLE generated_seed AS SELECT * RENAME (text_id AS seed_id) FROM generated;
DROP TABLE generated;
ALTER TABLE generated_seed RENAME TO generated;

-- call_id: the reply that a generated negative was made of.
CREATE TABLE negative_with_call AS SELECT *, NULL::UUID AS call_id FROM negative;
DROP TABLE negative;
ALTER TABLE negative_with_call RENAME TO negative;

-- How many requests about the same seed went before this one in its run, because too little was accepted.
ALTER TABLE llm_call ADD COLUMN turn INTEGER;

-- What a check rejected of a reply: one word why, the text, and what was found in it.
CREATE TABLE rejection (
    rejection_id UUID, run_id UUID, seed_id UUID, call_id UUID, reason VARCHAR, text VARCHAR, found VARCHAR,
    created_at TIMESTAMP
);

-- Recipes start from samples as well as from passages, write negatives, and ask again for what the checks rejected.

-- The text id of a passage, or the id of a sample's revision.
ALTER TABLE generated RENAME COLUMN text_id TO seed_id;

-- The reply that a generated negative was made of.
ALTER TABLE negative ADD COLUMN call_id UUID;

-- How many requests about the same seed went before this one in its run, because too little was accepted.
ALTER TABLE llm_call ADD COLUMN turn INTEGER;

-- What a check rejected of a reply: one word why, the text, and what was found in it.
CREATE TABLE rejection (
    rejection_id UUID, run_id UUID, seed_id UUID, call_id UUID, reason VARCHAR, text VARCHAR, found VARCHAR,
    created_at TIMESTAMP
);

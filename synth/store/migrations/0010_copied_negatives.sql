-- A negative is counted once, however many revisions of its sample took it along.

-- original_id: the negative that this one is a copy of. A copy has the text, the origin and the run of one of an earlier
-- revision; the table is made anew, as in 0007.
CREATE TABLE negative_with_original AS
SELECT *, CASE WHEN first_value(revision_id) OVER found <> revision_id
               THEN first_value(negative_id) OVER found END AS original_id
FROM negative WINDOW found AS (PARTITION BY sample_id, text_id, origin, run_id ORDER BY created_at, negative_id);
DROP TABLE negative;
ALTER TABLE negative_with_original RENAME TO negative;

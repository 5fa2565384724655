-- Text ids and content hashes in SQL, equal to synth/records.py's bit for bit, so that rows are hashed where they are
-- stored. What older rows have is recomputed: content was hashed as JSON, and NUL was no white space.

-- Each run of white space (NUL is some: nfc_normalize would end the text there) one space, none at the ends.
CREATE OR REPLACE MACRO spaced(string) AS trim(regexp_replace(
    string, '[\x{0}\x{9}-\x{d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+',
    ' ', 'g'
));

-- Unicode NFC as well. A text of single spaces and of characters that NFC leaves alone is that already, and most are.
-- One with characters of blocks where Unicode still adds combining marks is not composed, so that no version of Unicode
-- changes an id.
CREATE OR REPLACE MACRO normalised(string) AS CASE
WHEN NOT regexp_matches(
    string,
    '[^ -~\x{a1}-\x{2ff}\x{388}-\x{482}\x{48a}-\x{52f}\x{2010}-\x{2027}\x{2030}-\x{205e}\x{20a0}-\x{20bf}\x{3001}-\x{3029}'
    || '\x{3041}-\x{3096}\x{309b}-\x{30ff}\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{ac00}-\x{d7a3}\x{ff01}-\x{ffee}'
    || '\x{1f300}-\x{1faff}]|  |^ | $'
) THEN string
WHEN regexp_matches(string, '[\x{870}-\x{89f}\x{1ab0}-\x{1aff}\x{10d00}-\x{1cfff}\x{1e000}-\x{1efff}]') THEN spaced(string)
ELSE nfc_normalize(spaced(string)) END;

CREATE OR REPLACE MACRO text_id_of(string) AS left(sha256(normalised(string)), 32)::UUID;

-- The fields in this order between unit separators, each positive after a record separator: no normalised text holds
-- either. The columns of other tasks do not count.
CREATE OR REPLACE MACRO hash_of_normalised(task, instruction, query, positives, text1, text2, score, string, label) AS
left(sha256(CASE task
    WHEN 'retrieval' THEN concat(
        'retrieval', chr(31), instruction, chr(31), query, chr(31),
        array_to_string(list_transform(positives, lambda positive: chr(30) || positive), '')
    )
    WHEN 'sts' THEN concat(
        'sts', chr(31), instruction, chr(31), text1, chr(31), text2, chr(31),
        CASE WHEN isnan(score) THEN 'nan' ELSE printf('%.17g', score + 0.0::DOUBLE) END
    )
    WHEN 'classification' THEN concat('classification', chr(31), instruction, chr(31), string, chr(31), label)
END), 32)::UUID;

CREATE OR REPLACE MACRO content_hash_of(task, instruction, query, positives, text1, text2, score, string, label) AS
hash_of_normalised(
    task, normalised(instruction), normalised(query), list_transform(positives, lambda positive: normalised(positive)),
    normalised(text1), normalised(text2), score, normalised(string), normalised(label)
);

UPDATE revision
SET content_hash = content_hash_of(task, instruction, query, positives, text1, text2, score, text, label);

-- Texts whose id is another one now: few, if any.
CREATE TEMP TABLE renamed AS
SELECT text_id AS old_id, text_id_of(text) AS new_id, text, created_at FROM text WHERE text_id <> text_id_of(text);

CREATE TEMP TABLE moved AS
SELECT DISTINCT ON (p.source_id, r.new_id) p.source_id, r.new_id, p.title, p.external_id
FROM passage p JOIN renamed r ON r.old_id = p.text_id
ANTI JOIN passage k ON k.source_id = p.source_id AND k.text_id = r.new_id ORDER BY p.source_id, r.new_id, r.old_id;
DELETE FROM passage WHERE text_id IN (SELECT old_id FROM renamed);
INSERT INTO passage (source_id, text_id, title, external_id) SELECT source_id, new_id, title, external_id FROM moved;

DELETE FROM text WHERE text_id IN (SELECT old_id FROM renamed);
INSERT INTO text (text_id, text, created_at)
SELECT DISTINCT ON (new_id) new_id, text, created_at FROM renamed ANTI JOIN text k ON k.text_id = renamed.new_id
ORDER BY new_id, old_id;

UPDATE negative SET text_id = new_id FROM renamed WHERE negative.text_id = old_id;
UPDATE generated SET text_id = new_id FROM renamed WHERE generated.text_id = old_id;
UPDATE revision SET seed_id = new_id FROM renamed WHERE revision.seed_id = old_id;
UPDATE llm_call SET seed_id = new_id FROM renamed WHERE llm_call.seed_id = old_id;
DROP TABLE moved;
DROP TABLE renamed;

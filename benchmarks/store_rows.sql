-- Fills an empty store with getvariable('num') samples by SQL alone: a million in seconds, through no code that is measured.
-- Texts are fragments of three words (six characters) of the data folder, drawn by a hash of the sample's number; a query
-- has about 85 bytes, a positive 330, a negative 170. Sources come 20,000 samples at a time, two of the eight in Chinese.
-- Ids are as ordered in time as real ones; text ids and content hashes are as random. benchmarks/store.py derives
-- sample_state. Variables: num, fragments (those of words first), num_words, num_characters (fragments of either kind).

CREATE TEMP MACRO id(kind, i) AS
    (printf('%012x', 1767225600000 + i * 40) || '7' || printf('%03x', hash(kind, i) % 4096)
     || '8' || printf('%015x', hash(i, kind) % (1::UBIGINT << 60)))::UUID;
CREATE TEMP MACRO moment(i) AS TIMESTAMP '2026-01-01' + to_milliseconds(i * 40);
CREATE TEMP MACRO chance(i, kind) AS (hash(kind, i) % 1000000) / 1e6;
-- list_select takes a quarter of the time of a look-up for each fragment.
CREATE TEMP MACRO prose(i, part, num_fragments) AS rtrim(array_to_string(list_select(
    getvariable('fragments'), list_transform(range(num_fragments), lambda j: (
        1 + CASE WHEN i // 20000 % 4 = 0 THEN getvariable('num_words') + hash(i, part, j) % getvariable('num_characters')
                 ELSE hash(i, part, j) % getvariable('num_words') END)::BIGINT)
), ''));

INSERT INTO run BY NAME
SELECT id('run', i) AS run_id, CASE i % 2 WHEN 0 THEN 'generate' ELSE 'mine' END AS kind, moment(i) AS started_at,
       '{"limit": 1000}' AS config, '0.1.0' AS code_version, 'generator-7b' AS model, 'query-' || i AS prompt_version,
       i AS seed, '' AS device
FROM range(20) r(i);

INSERT INTO source BY NAME
SELECT id('source', i) AS source_id, 'source-' || i AS name, 'train' AS split, 'train' AS declared_use, 'retrieval' AS kind,
       'benchmarks/store_rows.sql' AS origin, 'CC0-1.0' AS licence, i::VARCHAR AS version, id('run', 0) AS run_id,
       moment(i) AS created_at
FROM range(8) r(i);

CREATE TEMP TABLE made AS
SELECT i, prose(i, 'query', 5) AS query, prose(i, 'positive', 19) AS positive, prose(i, 'negative', 10) AS negative,
       sha256(negative)[:32]::UUID AS text_id
FROM range(getvariable('num')) r(i);

-- The seed of a sample is the text that the sample before it has as its negative.
CREATE TEMP TABLE seed AS SELECT (i + 1) % getvariable('num') AS i, text_id AS seed_id FROM made;

INSERT INTO text BY NAME
SELECT text_id, negative AS text, moment(i) AS created_at FROM made;

INSERT INTO revision BY NAME
SELECT id('sample', i) AS revision_id, id('sample', i) AS sample_id, 1 AS number,
       sha256(query || positive)[:32]::UUID AS content_hash, 'retrieval' AS task,
       CASE WHEN i % 5 = 0 THEN 'ingest' ELSE 'query' END AS operation, CASE WHEN i % 5 = 0 THEN '' ELSE 'llm' END AS method,
       id('source', (i // 20000) % 8) AS source_id, seed_id, i::VARCHAR AS external_id,
       '' AS instruction, query, [positive] AS positives, 'generator-7b' AS actor, 'generator-7b' AS model,
       'query-' || (i // 100000) AS prompt_version, id('run', (i // 100000) * 2 % 20) AS run_id, id('call', i) AS call_id,
       moment(i) AS created_at
FROM made JOIN seed USING (i) ORDER BY i;

INSERT INTO llm_call BY NAME
SELECT id('call', i) AS call_id, id('run', (i // 100000) * 2 % 20) AS run_id, seed_id,
       'generator-7b' AS model, 'query-' || (i // 100000) AS prompt_version,
       '{"temperature": 1.0, "max_tokens": 2048}' AS sampling, 1 AS attempt, 'used' AS outcome,
       300 + hash(i) % 400 AS tokens_in, 20 + hash(i) % 100 AS tokens_out,
       (300 + hash(i) % 400) * 2e-7 + (20 + hash(i) % 100) * 6e-7 AS cost, round(0.5 + chance(i, 'seconds'), 3) AS seconds,
       moment(i) AS created_at
FROM made JOIN seed USING (i) ORDER BY i;

-- Cosines are computed in single precision.
INSERT INTO negative BY NAME
SELECT id('negative', i) AS negative_id, id('sample', i) AS sample_id, id('sample', i) AS revision_id,
       text_id, 'mined' AS origin, 2 + hash(i) % 50 AS rank,
       (0.3 + 0.5 * chance(i, 'score'))::FLOAT AS score, (0.5 + 0.4 * chance(i, 'positive'))::FLOAT AS positive_score,
       id('run', 1) AS run_id, moment(i) AS created_at
FROM made;

-- One event for every five samples, by five people: in a hundred, five drop a negative and one undoes the one before it.
INSERT INTO review BY NAME
SELECT id('review', i) AS review_id, TIMESTAMP '2026-02-01' + to_milliseconds(i * 7000) AS created_at,
       ['ada', 'bo', 'chen', 'dee', 'eve'][(1 + hash(judged, 'reviewer') % 5)::BIGINT] AS reviewer,
       'human' AS reviewer_kind, id('sample', s) AS sample_id, id('sample', s) AS revision_id,
       CASE WHEN i % 100 < 5 THEN id('negative', s) END AS negative_id,
       CASE WHEN i % 100 < 5 THEN 'reject' WHEN chance(judged, 'verdict') < 0.75 THEN 'approve'
            WHEN chance(judged, 'verdict') < 0.95 THEN 'reject' ELSE 'skip' END AS verdict,
       CASE WHEN chance(judged, 'verdict') BETWEEN 0.75 AND 0.95 THEN ['too-easy'] ELSE [] END AS reasons,
       CASE WHEN i % 100 >= 5 THEN 1 + hash(i) % 4 END AS difficulty, round(3 + 20 * chance(i, 'seconds'), 1) AS seconds,
       CASE WHEN i % 100 = 99 THEN id('review', judged) END AS undoes
FROM (SELECT i, CASE WHEN i % 100 = 99 THEN i - 1 ELSE i END AS judged, hash(judged, 'of') % getvariable('num') AS s
      FROM range(getvariable('num') // 5) r(i));

DROP TABLE made;
DROP TABLE seed;

"""
Rows by the ten thousand, from Arrow tables: DuckDB normalises, hashes and looks up what is known, on every core.

Every new sample and every passage comes in here, one at a time or a million. Memory follows the table of one call, not
the store; ROWS_PER_LEASE rows in one lease are written fastest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import duckdb
import pyarrow
import pyarrow.compute

from synth.records import StoreError, Task, UserError, settled
from synth.store.engine import ROW_GROUP
from synth.store.rows import first, now, readable

# More combining marks in a row than any language writes (records.py). DuckDB takes the square of their number to sort
# them, so they are put in order before, and stored so.
MANY_MARKS = r"\p{M}{31}"
# Whole row groups, so that the next lease does not write one again that was not full, and some for every core.
ROWS_PER_LEASE = 4 * ROW_GROUP
CHUNK = ROW_GROUP  # each core is given a chunk of an Arrow table at a time

REQUIRED = {
    Task.RETRIEVAL: ("query", "positives"),
    Task.STS: ("text1", "text2", "score"),
    Task.CLASSIFICATION: ("text", "label"),
}
HASHED = ("instruction", "query", "positives", "text1", "text2", "score", "text", "label")  # content_hash_of's order
LISTS = ("positives", "negatives")
DESCRIPTION = ("external_id", "method", "model", "prompt_version")  # text; "" where it is not given
LINKS = ("seed_id", "parent_id", "call_id")  # UUIDs

# The rows to store, by their place in the table: none that is known, and of equal ones the first. A negative that is
# blank, or that is the query or a positive, has no id.
FRESH = """
CREATE OR REPLACE TEMP TABLE fresh AS
WITH clean AS (SELECT n, {normalised} FROM incoming),
hashed AS MATERIALIZED (SELECT n, {content_hash} AS content_hash, {negative_ids} AS negative_ids FROM clean),
known AS (
    SELECT r.content_hash FROM revision r SEMI JOIN hashed h ON h.content_hash = r.content_hash
    WHERE r.source_id IN (
        SELECT source_id FROM source WHERE source_id = $source OR (declared_use = 'train' AND $use = 'train')
    )
)
SELECT h.n, h.content_hash, h.negative_ids, uuidv7() AS sample_id
FROM hashed h ANTI JOIN known k ON k.content_hash = h.content_hash
WHERE h.n IN (SELECT min(n) FROM hashed GROUP BY content_hash)
"""
NEGATIVE_IDS = """
list_transform(negatives, lambda negative: CASE
    WHEN negative NOT IN ('', query) AND NOT list_contains(positives, negative) THEN left(sha256(negative), 32)::UUID
END)
"""
REVISIONS = """
INSERT INTO revision BY NAME
SELECT f.sample_id AS revision_id, f.sample_id, 1 AS number, f.content_hash, $task AS task, $operation AS operation,
       $source AS source_id, $run AS run_id, $now AS created_at, {columns}
FROM incoming i JOIN fresh f ON f.n = i.n
"""
LABELLED = """
CREATE OR REPLACE TEMP TABLE labelled AS
SELECT sample_id, text_id, any_value(text) AS text
FROM (
    SELECT f.sample_id, unnest(i.negatives) AS text, unnest(f.negative_ids) AS text_id
    FROM incoming i JOIN fresh f ON f.n = i.n
)
WHERE text_id IS NOT NULL GROUP BY sample_id, text_id
"""
TEXTS = """
INSERT INTO text BY NAME
SELECT t.text_id, any_value(t.text) AS text, $now AS created_at FROM {table} t
ANTI JOIN (SELECT k.text_id FROM text k SEMI JOIN {table} s ON s.text_id = k.text_id) known ON known.text_id = t.text_id
GROUP BY t.text_id
"""
NEGATIVES = """
INSERT INTO negative BY NAME
SELECT uuidv7() AS negative_id, sample_id, sample_id AS revision_id, text_id, 'labelled' AS origin, $run AS run_id,
       $now AS created_at
FROM labelled
"""
# What state.sql says of a sample that nobody has judged or mined.
STATES = """
INSERT INTO sample_state BY NAME
SELECT f.sample_id, f.sample_id AS revision_id, $task AS task, $operation AS operation, $use AS declared_use,
       $source AS source_id, 'pending' AS status, 0 AS num_reviews, {num_negatives} AS num_negatives,
       0 AS num_approvals, 0 AS num_rejections,
       md5_number_lower(f.sample_id::VARCHAR) / 18446744073709551616.0 AS draw
FROM fresh f
"""
NUM_LABELLED = "(SELECT count(*) FROM labelled l WHERE l.sample_id = f.sample_id)"
NEW_PASSAGES = """
CREATE OR REPLACE TEMP TABLE fresh AS
WITH hashed AS MATERIALIZED (SELECT n, text_id_of(text) AS text_id FROM incoming),
known AS (
    SELECT p.text_id FROM passage p SEMI JOIN hashed h ON h.text_id = p.text_id WHERE p.source_id = $source
)
SELECT h.n, h.text_id FROM hashed h ANTI JOIN known k ON k.text_id = h.text_id
WHERE h.n IN (SELECT min(n) FROM hashed GROUP BY text_id)
"""
PASSAGE_TEXTS = "(SELECT f.text_id, i.text FROM incoming i JOIN fresh f ON f.n = i.n)"
PASSAGES = """
INSERT INTO passage BY NAME
SELECT $source AS source_id, f.text_id, coalesce(i.title, '') AS title, coalesce(i.external_id, '') AS external_id
FROM incoming i JOIN fresh f ON f.n = i.n
"""


@dataclass(frozen=True, slots=True)
class Added:
    """How many rows became samples, and how many did not: known already, or the same as another row."""

    num_new: int
    num_known: int


def add_rows(
    cursor: duckdb.DuckDBPyConnection,
    task: Task,
    rows: pyarrow.Table,
    *,
    source_id: UUID,
    run_id: UUID,
    operation: str = "ingest",
) -> Added:
    """
    Store each row as the first revision of a new sample, unless its content is there already: in any source to train
    on for one to train on, but only in its own source for a held-out one, so that every evaluation set stays whole.

    Args:
        rows: (N, ...) by name. Retrieval: `query`, `positives` (list), and maybe `negatives` (list), which become the
            sample's labelled negatives, without rank and scores; one that is blank, or the query or a positive, is
            left out. Sts: `text1`, `text2`, `score`. Classification: `text`, `label`. Of every task, and missing or
            null where they do not apply: `instruction`, `external_id`, `method`, `model`, `prompt_version`, and the
            UUIDs `seed_id`, `parent_id` and `call_id`. Of a sample that is known the negatives are ignored.

    Raises UserError, storing nothing, if a column is missing, unknown or holds a null; StoreError without the source.
    """
    optional = ("instruction", *DESCRIPTION, *LINKS, *(("negatives",) if task is Task.RETRIEVAL else ()))
    incoming = _numbered(rows, REQUIRED[task], optional)
    names = set(incoming.column_names)
    use = _declared_use(cursor, source_id)
    values = {"source": source_id, "run": run_id, "task": task.value, "operation": operation, "use": use, "now": now()}
    labelled = "negatives" in names
    with readable(cursor, incoming, "incoming"):
        fresh = FRESH.format(
            normalised=", ".join(_normalised(name) for name in (*HASHED, "negatives") if name in names),
            content_hash=f"hash_of_normalised($task, {', '.join(_or_null(name, names) for name in HASHED)})",
            negative_ids=NEGATIVE_IDS if labelled else "NULL::UUID[]",
        )
        _execute(cursor, fresh, values)
        _execute(cursor, REVISIONS.format(columns=_columns(task, names)), values)
        if labelled:
            for statement in (LABELLED, TEXTS.format(table="labelled"), NEGATIVES):
                _execute(cursor, statement, values)
        num_new = _execute(cursor, STATES.format(num_negatives=NUM_LABELLED if labelled else "0"), values)
        cursor.execute("DROP TABLE fresh; DROP TABLE IF EXISTS labelled")
    return Added(num_new, rows.num_rows - num_new)


def add_passage_rows(cursor: duckdb.DuckDBPyConnection, rows: pyarrow.Table, *, source_id: UUID) -> int:
    """
    Store passages of a source's corpus, each text once in the store and once in the corpus (the first row counts).

    Args:
        rows: (N, ...): `text` (what is embedded: a title is its first line), and maybe `title`, `external_id`.

    Returns how many are new to the corpus. Raises UserError if a column is missing, unknown or holds a null.
    """
    incoming = _numbered(rows, ("text",), ("title", "external_id"))
    for name in ("title", "external_id"):
        if name not in incoming.column_names:
            incoming = incoming.append_column(name, pyarrow.nulls(incoming.num_rows, pyarrow.string()))
    values = {"source": source_id, "now": now()}
    with readable(cursor, incoming, "incoming"):
        _execute(cursor, NEW_PASSAGES, values)
        _execute(cursor, TEXTS.format(table=PASSAGE_TEXTS), values)
        added = _execute(cursor, PASSAGES, values)
        cursor.execute("DROP TABLE fresh")
    return added


def _numbered(rows: pyarrow.Table, required: tuple[str, ...], optional: tuple[str, ...]) -> pyarrow.Table:
    """The rows, checked, in chunks, each with its place `n`."""
    names = rows.column_names
    for name in names:
        if name not in (*required, *optional) or names.count(name) > 1:
            raise UserError(f"rows to store: no use for the column {name}; known: {', '.join((*required, *optional))}")
    for name in required:
        if name not in names:
            raise UserError(f"rows to store: the column {name} is missing; there are: {', '.join(names) or 'none'}")
        if rows[name].null_count:
            raise UserError(f"rows to store: {name} holds a null; leave such rows out first")
    rows = rows.drop_columns([name for name in names if pyarrow.types.is_null(rows[name].type)])  # as if not there
    for name in set(LISTS) & set(rows.column_names):
        if pyarrow.compute.list_flatten(rows[name]).null_count:
            raise UserError(f"rows to store: a list of {name} holds a null; leave it out first")
    for number, column in enumerate(rows.columns):
        rows = rows.set_column(number, rows.field(number), _in_order(column))
    numbered = rows.append_column("n", pyarrow.array(range(rows.num_rows), pyarrow.int32()))
    return pyarrow.Table.from_batches(numbered.combine_chunks().to_batches(max_chunksize=CHUNK), numbered.schema)


def _in_order(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """The texts, or lists of them, with no marks left for DuckDB to move; other columns as they are."""
    is_list = pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type)
    texts = pyarrow.compute.list_flatten(column) if is_list else column
    if not (pyarrow.types.is_string(texts.type) or pyarrow.types.is_large_string(texts.type)):
        return column
    if not pyarrow.compute.any(pyarrow.compute.match_substring_regex(texts, MANY_MARKS)).as_py():
        return column

    def ordered(text: str | None) -> str | None:
        return text and settled(text)

    values = [row and [ordered(text) for text in row] if is_list else ordered(row) for row in column.to_pylist()]
    return pyarrow.chunked_array([pyarrow.array(values, column.type)])


def _declared_use(cursor: duckdb.DuckDBPyConnection, source_id: UUID) -> str:
    found = first(cursor.execute("SELECT declared_use FROM source WHERE source_id = ?", [source_id]))
    if found is None:
        raise StoreError(f"no source {source_id} in this store; store the source before its samples")
    return str(found[0])


def _execute(cursor: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> int:
    """Run a statement with those of the values that it names. Returns how many rows it inserted."""
    row = first(cursor.execute(sql, {name: value for name, value in values.items() if f"${name}" in sql}))
    return int(row[0]) if row else 0


def _normalised(name: str) -> str:
    if name in LISTS:
        return f"list_transform({name}, lambda item: normalised(item)) AS {name}"
    return name if name == "score" else f"normalised({name}) AS {name}"


def _or_null(name: str, names: set[str]) -> str:
    return name if name in names else "NULL"


def _columns(task: Task, names: set[str]) -> str:
    """Of a revision, what comes from its row; the actor is the model, if one made it."""
    filled = {name: f"coalesce(i.{name}, '')" if name in names else "''" for name in ("instruction", *DESCRIPTION)}
    filled["actor"] = f"coalesce(nullif({filled['model']}, ''), $operation)"
    filled |= {name: f"i.{name}" for name in REQUIRED[task]}
    filled |= {name: f"i.{name}::UUID" for name in LINKS if name in names}
    return ", ".join(f"{value} AS {name}" for name, value in filled.items())

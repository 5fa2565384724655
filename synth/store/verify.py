"""
Verify: whether the store is what its rules say. SQL over whole tables, out of core.

Nothing in DuckDB's schema enforces these rules (no keys, no constraints: see migrations/0001), so they are written down
here. Every check takes a lease of its own: writers wait for one check, not for all.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

import duckdb

from synth.store.connection import Store
from synth.store.engine import Damaged, read_every_value, tables_of

SEED = "(SELECT text_id AS seed_id FROM text UNION ALL SELECT revision_id AS seed_id FROM revision)"
# Ids within the values of a table, and what such a column is called in a problem.
MINED_CANDIDATES = "(SELECT unnest(candidates).text_id AS text_id FROM mined)"
RELEASED_NEGATIVES = "(SELECT unnest(negative_ids) AS negative_id FROM release_item)"
WITHIN = {MINED_CANDIDATES: "mined.candidates", RELEASED_NEGATIVES: "release_item.negative_ids"}
# What names what: a column (of some rows), and the column whose values it must be among.
REFERENCES = (
    ("passage", "source_id", "source", "source_id"),
    ("passage", "text_id", "text", "text_id"),
    ("source", "run_id", "run", "run_id"),
    ("run_end", "run_id", "run", "run_id"),
    ("run_step", "run_id", "run", "run_id"),
    ("pair_cosine", "revision_id", "revision", "revision_id"),
    ("pair_cosine", "run_id", "run", "run_id"),
    ("pair_boundary", "run_id", "run", "run_id"),
    ("revision", "source_id", "source", "source_id"),
    ("revision", "parent_id", "revision", "revision_id"),
    ("revision", "sample_id", "sample_state", "sample_id"),
    ("revision", "call_id", "llm_call", "call_id"),
    ("revision", "run_id", "run", "run_id"),
    ("llm_call", "run_id", "run", "run_id"),
    ("llm_failure", "run_id", "run", "run_id"),
    ("negative", "sample_id", "revision", "sample_id"),
    ("negative", "revision_id", "revision", "revision_id"),
    ("negative", "text_id", "text", "text_id"),
    ("negative", "call_id", "llm_call", "call_id"),
    ("negative", "original_id", "negative", "negative_id"),
    ("negative", "run_id", "run", "run_id"),
    ("generated", "seed_id", SEED, "seed_id"),
    ("generated", "run_id", "run", "run_id"),
    ("rejection", "seed_id", SEED, "seed_id"),
    ("rejection", "call_id", "llm_call", "call_id"),
    ("rejection", "run_id", "run", "run_id"),
    ("mined", "revision_id", "revision", "revision_id"),
    ("mined", "run_id", "run", "run_id"),
    (MINED_CANDIDATES, "text_id", "text", "text_id"),
    ("relabelled", "revision_id", "revision", "revision_id"),
    ("relabelled", "moved_to", "revision", "revision_id"),
    ("relabelled", "call_id", "llm_call", "call_id"),
    ("relabelled", "run_id", "run", "run_id"),
    ("judgement", "revision_id", "revision", "revision_id"),
    ("judgement", "call_id", "llm_call", "call_id"),
    ("judgement", "run_id", "run", "run_id"),
    ("review", "sample_id", "revision", "sample_id"),
    ("review", "revision_id", "revision", "revision_id"),
    ("review", "negative_id", "negative", "negative_id"),
    ("review", "edited_id", "revision", "revision_id"),
    ("review", "undoes", "review", "review_id"),
    ("review", "run_id", "run", "run_id"),
    ("release", "run_id", "run", "run_id"),
    ("release_item", "release_id", "release", "release_id"),
    ("release_item", "revision_id", "revision", "revision_id"),
    (RELEASED_NEGATIVES, "negative_id", "negative", "negative_id"),
    ("overlap", "revision_id", "revision", "revision_id"),
    ("overlap", "eval_source_id", "source", "source_id"),
    ("near_duplicate", "revision_id", "revision", "revision_id"),
    ("near_duplicate", "kept_id", "revision", "sample_id"),
)
# What may be there once only.
UNIQUE = (
    ("run", "run_id"),
    ("run_end", "run_id"),
    ("source", "source_id"),
    ("text", "text_id"),
    ("passage", "source_id, text_id"),
    ("revision", "revision_id"),
    ("revision", "sample_id, number"),
    ("llm_call", "call_id"),
    ("llm_failure", "failure_id"),
    ("negative", "negative_id"),
    ("generated", "stage_key, seed_id"),
    ("rejection", "rejection_id"),
    ("mined", "stage_key, revision_id"),
    ("relabelled", "stage_key, sample_id"),
    ("judgement", "judgement_id"),
    ("review", "review_id"),
    ("release", "release_id"),
    ("release", "name"),
    ("release_item", "release_id, sample_id"),
    ("sample_state", "sample_id"),
)
# First revisions of the same content: in one source, or in the sources to train on together. (An edit may say what
# another sample says.)
REPEATED_CONTENT = """
SELECT count(*), min(example) FROM (
    SELECT min(r.sample_id) AS example FROM revision r JOIN source s USING (source_id) WHERE r.number = 1
    GROUP BY r.content_hash, CASE WHEN s.declared_use = 'eval' THEN r.source_id END HAVING count(*) > 1
)
"""
RESTORE = "restore a copy, or mend it in DuckDB"
READABLE = "every value can be read"


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that does not hold: how many rows (tables, releases) break it; one line with an example and the remedy."""

    rule: str
    num_rows: int
    message: str


def verify(store: Store) -> list[Problem]:
    """
    Every rule of the store that does not hold; none if the store is sound.

    Sound means: every value of every table can be read, every id that a row names is there, no id and no content is
    there twice, and `sample_state` is what the logs say. What needs a value that cannot be read is not looked at.

    Raises Damaged if not even the names of the tables can be read.
    """
    problems = list(_unreadable(store))
    is_readable = not problems
    for check in _checks(store):
        try:
            problems += check()
        except (Damaged, duckdb.Error):
            if is_readable:
                raise
    return problems


def _unreadable(store: Store) -> Iterator[Problem]:
    with store.read() as cursor:
        tables = tables_of(cursor, "store")
    for table in tables:
        try:
            with store.read() as cursor:
                read_every_value(cursor, table)
        except Damaged as error:
            message = f"{table}: not all of it can be read ({error.reason}); go back to a backup, as docs/store.md says"
            yield Problem(READABLE, 1, message)


def _checks(store: Store) -> Iterator[Callable[[], Iterable[Problem]]]:
    for table, column, target, key in REFERENCES:
        yield partial(_dangling, store, table, column, target, key)
    for table, columns in UNIQUE:
        yield partial(_repeated, store, table, columns)
    yield partial(_repeated_content, store)
    yield partial(_wrong_states, store)


def _dangling(store: Store, table: str, column: str, target: str, key: str) -> Iterator[Problem]:
    num_rows, example = _asked(
        store,
        f"SELECT count(*), min(named.{column}) FROM {table} AS named"
        f" ANTI JOIN {target} AS there ON there.{key} = named.{column} WHERE named.{column} IS NOT NULL",
    )
    if num_rows:
        name = WITHIN.get(table, f"{table}.{column}")
        remedy = "run `synth store rebuild`" if target == "sample_state" else RESTORE
        place = "text or revision" if target == SEED else target
        message = f"{name}: {num_rows} rows name what is not in {place} (one is {example}); {remedy}"
        yield Problem(f"{name} is in {place}", num_rows, message)


def _repeated(store: Store, table: str, columns: str) -> Iterator[Problem]:
    num_rows, example = _asked(
        store,
        f"SELECT count(*), min(example) FROM (SELECT ({columns})::VARCHAR AS example FROM {table}"
        f" GROUP BY {columns} HAVING count(*) > 1)",
    )
    if num_rows:
        remedy = "run `synth store rebuild`" if table == "sample_state" else RESTORE
        message = f"{table}: {num_rows} values of {columns} stand there more than once (one is {example}); {remedy}"
        yield Problem(f"{table}: {columns} once", num_rows, message)


def _repeated_content(store: Store) -> Iterator[Problem]:
    num_rows, example = _asked(store, REPEATED_CONTENT)
    if num_rows:
        message = f"revision: {num_rows} contents are stored more than once (one is sample {example}); {RESTORE}"
        yield Problem("revision: content once", num_rows, message)


def _wrong_states(store: Store) -> Iterator[Problem]:
    derived = files("synth.store").joinpath("state.sql").read_text(encoding="utf-8")
    derived = derived.format(ids="(SELECT DISTINCT sample_id FROM revision)")
    with store.read() as cursor:
        columns = ", ".join(f'"{row[0]}"' for row in cursor.execute("DESCRIBE sample_state").fetchall())
        cursor.execute(f"CREATE TEMP TABLE derived AS SELECT {columns} FROM ({derived})")
        num_rows, example = _row(
            cursor,
            "SELECT count(DISTINCT sample_id), min(sample_id) FROM ((FROM derived EXCEPT FROM sample_state)"
            " UNION ALL (FROM sample_state EXCEPT FROM derived))",
        )
        cursor.execute("DROP TABLE derived")
    if num_rows:
        message = (
            f"sample_state: {num_rows} samples differ from what the logs say (one is {example}); "
            "run `synth store rebuild`"
        )
        yield Problem("sample_state is what the logs say", num_rows, message)


def _asked(store: Store, sql: str) -> tuple[int, object]:
    with store.read() as cursor:
        return _row(cursor, sql)


def _row(cursor: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, object]:
    [(number, example)] = cursor.execute(sql).fetchall()
    return int(number), example

"""
History: all that the store knows of one thing, as plain data. `synth show` prints it.

Every function here reads under one lease, so that what it tells is of one moment.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import duckdb

from synth.records import UserError
from synth.store.connection import Store
from synth.store.sample_history import MOST_LISTED, Row, read_rows, sample_life

FEWEST_DIGITS = 6
MOST_TOLD = 4  # ids that an ambiguous one may mean
# What an id may be of, and where those are; in this order, for a sample's first revision has the sample's id.
PLACES = {
    "sample": ("sample_state", "sample_id"),
    "revision": ("revision", "revision_id"),
    "review": ("review", "review_id"),
    "negative": ("negative", "negative_id"),
    "run": ("run", "run_id"),
    "text": ("text", "text_id"),
    "call": ("llm_call", "call_id"),
    "release": ("release", "release_id"),
}


def life(store: Store, given: str) -> Row:
    """
    The life of what `given` names: `thing` (what it is), `id`, and what belongs to a thing of that kind.

    Args:
        given: a release's name, or the id (or its first 6 or more hexadecimal digits, if no other id begins so) of a
            sample, revision, review, negative, run, text, call or release. Revisions, reviews and negatives are told as
            the sample that they belong to.

    Raises UserError if nothing, or more than one thing, is called so.
    """
    with store.read() as cursor:
        kind, found = _find(cursor, given)
        tell = TELLERS.get(kind)
        if tell is None:
            table, column = PLACES[kind]
            [row] = read_rows(cursor, f"SELECT sample_id FROM {table} WHERE {column} = $id", id=found)
            return {
                "thing": "sample",
                "id": row["sample_id"],
                "asked": {kind: found},
                **sample_life(cursor, row["sample_id"]),
            }
        return {"thing": kind, "id": found, **tell(cursor, found)}


def _find(cursor: duckdb.DuckDBPyConnection, given: str) -> tuple[str, UUID]:
    named = read_rows(cursor, "SELECT release_id FROM release WHERE name = $name", name=given)
    if named:
        return "release", named[0]["release_id"]
    digits = given.strip().lower().replace("-", "")
    if not re.fullmatch(rf"[0-9a-f]{{{FEWEST_DIGITS},32}}", digits):
        raise UserError(
            f"no release is called {_short(given)}, and it is no id: give {FEWEST_DIGITS} or more of its hexadecimal"
            " digits (`synth runs` lists runs, `synth sql` everything)"
        )
    bounds = {"low": UUID(digits.ljust(32, "0")), "high": UUID(digits.ljust(32, "f"))}
    union = " UNION ALL ".join(
        f"(SELECT DISTINCT '{kind}' AS kind, {column} AS id FROM {table} WHERE {column} BETWEEN $low AND $high"
        f" ORDER BY id LIMIT {MOST_TOLD + 1})"
        for kind, (table, column) in PLACES.items()
    )
    kinds: dict[UUID, str] = {}
    ending = "SELECT 'run' AS kind, run_id AS id FROM run WHERE ends_with(replace(run_id::VARCHAR, '-', ''), $digits)"
    for row in read_rows(cursor, union, **bounds) or read_rows(cursor, ending, digits=digits):
        kinds.setdefault(row["id"], row["kind"])
    if not kinds:
        raise UserError(
            f"nothing is {_short(given)}: no sample, run, text, release or other id here begins or, of a run, ends so"
        )
    if len(kinds) > 1:
        some = ", ".join(f"{kind} {found}" for found, kind in list(kinds.items())[:MOST_TOLD])
        raise UserError(f"{_short(given)} may be {some}{' or others' * (len(kinds) > MOST_TOLD)}; give more digits")
    [(found, kind)] = kinds.items()
    return kind, found


def _short(given: str) -> str:
    return repr(given if len(given) <= 60 else f"{given[:60]}…")


def _run(cursor: duckdb.DuckDBPyConnection, run_id: UUID) -> Row:
    """A run's row, which steps took how long, and what it left in each table."""
    [row] = read_rows(cursor, "SELECT * FROM runs WHERE run_id = $id", id=run_id)
    steps = read_rows(cursor, STEPS, id=run_id)
    made = {name: read_rows(cursor, sql, id=run_id) for name, sql in MADE_BY_RUN.items()}
    return {**row, "steps": steps, "made": {name: rows for name, rows in made.items() if rows}}


STEPS = """
SELECT step, count(*) AS times, sum(seconds) AS seconds, sum(number)::BIGINT AS number,
       max_by(detail, created_at) AS detail
FROM run_step WHERE run_id = $id GROUP BY step ORDER BY min(created_at), step
"""
MADE_BY_RUN = {
    "sources": "SELECT name AS source, split, declared_use, kind FROM source WHERE run_id = $id ORDER BY ALL",
    "samples": "SELECT s.name AS source, r.task, r.operation, r.method, count(*) AS n FROM revision r"
    " JOIN source s USING (source_id) WHERE r.run_id = $id GROUP BY ALL ORDER BY ALL",
    "calls": "SELECT model, outcome, count(*) AS n, sum(tokens_in)::BIGINT AS tokens_in,"
    " sum(tokens_out)::BIGINT AS tokens_out, sum(cost) AS cost FROM llm_call WHERE run_id = $id"
    " GROUP BY ALL ORDER BY ALL",
    "rejected": "SELECT k AS reason, sum((rejections->>k)::BIGINT)::BIGINT AS n FROM"
    " (SELECT rejections, unnest(json_keys(rejections)) AS k FROM generated WHERE run_id = $id)"
    " GROUP BY ALL ORDER BY ALL",
    "negatives": "SELECT origin, kind, count(*) AS n, count(DISTINCT sample_id) AS samples FROM negative"
    " WHERE run_id = $id AND original_id IS NULL GROUP BY ALL ORDER BY ALL",
    "minings": "SELECT status, count(*) AS n FROM mined WHERE run_id = $id GROUP BY ALL ORDER BY ALL",
    "judgements": "SELECT judge, is_positive, grade, count(*) AS n FROM judgement WHERE run_id = $id"
    " GROUP BY ALL ORDER BY ALL",
    "relabellings": "SELECT outcome, count(*) AS n FROM relabelled WHERE run_id = $id GROUP BY ALL ORDER BY ALL",
    "reviews": "SELECT reviewer, verdict, count(*) AS n FROM review WHERE run_id = $id GROUP BY ALL ORDER BY ALL",
    "eval_overlaps": "SELECT kind, field, count(*) AS n FROM overlap WHERE run_id = $id GROUP BY ALL ORDER BY ALL",
    "near_duplicates": "SELECT count(*) AS n FROM near_duplicate WHERE run_id = $id HAVING n > 0",
    "releases": "SELECT name FROM release WHERE run_id = $id ORDER BY name",
}


def _text(cursor: duckdb.DuckDBPyConnection, text_id: UUID) -> Row:
    """A text, the corpora that hold it, and the samples that have it as their seed, a positive or a negative."""
    [row] = read_rows(cursor, "SELECT text, created_at FROM text WHERE text_id = $id", id=text_id)
    return {
        **row,
        "passages": read_rows(
            cursor,
            "SELECT s.name AS source, s.split, s.declared_use, s.licence, p.title, p.external_id"
            " FROM passage p JOIN source s USING (source_id) WHERE p.text_id = $id ORDER BY ALL",
            id=text_id,
        ),
        "seed_of": _samples(cursor, "r.seed_id = $id", id=text_id),
        "positive_of": _samples(cursor, "list_contains(r.positives, $text)", text=row["text"]),
        "negative_of": _samples(
            cursor, "r.revision_id IN (SELECT n.revision_id FROM negative n WHERE n.text_id = $id)", id=text_id
        ),
    }


def _samples(cursor: duckdb.DuckDBPyConnection, condition: str, **parameters: Any) -> Row:
    """How many samples meet a condition of ours at their latest revision, and the first of them."""
    of = f"FROM sample_state st JOIN revision r USING (revision_id) WHERE {condition}"
    [count] = read_rows(cursor, f"SELECT count(*) AS n {of}", **parameters)
    listed = read_rows(
        cursor,
        f"SELECT st.sample_id, st.status, coalesce(r.query, r.text, r.text1) AS text {of}"
        f" ORDER BY st.sample_id LIMIT {MOST_LISTED}",
        **parameters,
    )
    return {"num_samples": count["n"], "samples": listed}


def _call(cursor: duckdb.DuckDBPyConnection, call_id: UUID) -> Row:
    """A call, what it was about, what was made of it, and what the checks rejected of it."""
    [row] = read_rows(
        cursor,
        "SELECT c.* EXCLUDE (call_id), coalesce(t.text, r.query, r.text, r.text1) AS seed_text FROM llm_call c"
        " LEFT JOIN text t ON t.text_id = c.seed_id LEFT JOIN revision r ON r.revision_id = c.seed_id"
        " WHERE c.call_id = $id",
        id=call_id,
    )
    return {
        **row,
        "made": _samples(cursor, "r.call_id = $id", id=call_id),
        "negatives": read_rows(
            cursor,
            "SELECT n.sample_id, n.kind, n.requirement, t.text FROM negative n JOIN text t USING (text_id)"
            f" WHERE n.call_id = $id AND n.original_id IS NULL ORDER BY n.negative_id LIMIT {MOST_LISTED}",
            id=call_id,
        ),
        "rejected": read_rows(
            cursor,
            f"SELECT reason, found, text FROM rejection WHERE call_id = $id ORDER BY rejection_id LIMIT {MOST_LISTED}",
            id=call_id,
        ),
    }


def _release(cursor: duckdb.DuckDBPyConnection, release_id: UUID) -> Row:
    """A release, and where its samples come from."""
    [row] = read_rows(
        cursor,
        "SELECT v.* EXCLUDE (release_id), l.run_id FROM releases v JOIN release l USING (release_id)"
        " WHERE l.release_id = $id",
        id=release_id,
    )
    return {
        **row,
        "samples": read_rows(
            cursor,
            "SELECT s.name AS source, s.licence, r.operation, r.method, r.model, count(*) AS n FROM release_item i"
            " JOIN revision r USING (revision_id) JOIN source s USING (source_id) WHERE i.release_id = $id"
            " GROUP BY ALL ORDER BY ALL",
            id=release_id,
        ),
    }


TELLERS: Mapping[str, Callable[[duckdb.DuckDBPyConnection, UUID], Row]] = {
    "sample": sample_life,
    "run": _run,
    "text": _text,
    "call": _call,
    "release": _release,
}

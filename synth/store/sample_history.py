"""The life of one sample: from its source and its seed over its revisions, negatives and reviews to its releases."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import duckdb

from synth.records import StoreError
from synth.store.minings import LATEST_MINING

Row = dict[str, Any]

MOST_LISTED = 10  # samples that another thing is told with
MOST_ANCESTORS = 100
CONTENT = {
    "retrieval": ("instruction", "query", "positives"),
    "sts": ("instruction", "text1", "text2", "score"),
    "classification": ("instruction", "text", "label"),
}
CALL = ("call_id", "attempt", "turn", "outcome", "sampling", "tokens_in", "tokens_out", "cost", "seconds")
OF_CALL = ", ".join(f"c.{name}" for name in CALL if name != "call_id")
JSON_COLUMNS = {"config", "counts", "policy", "sampling", "rejections", "fallen", "settings"}


def sample_life(cursor: duckdb.DuckDBPyConnection, sample_id: UUID) -> Row:
    """
    The life of one sample: from its source and its seed to the releases that hold it.

    Raises StoreError if the store lost a part of it.
    """
    states = read_rows(
        cursor,
        "SELECT task, status, decided_by, decided_kind, difficulty, num_approvals, num_rejections, revision_id"
        " FROM sample_state WHERE sample_id = $id",
        id=sample_id,
    )
    if not states:
        raise StoreError(f"the sample {sample_id} has revisions and no state; mend that with `synth store rebuild`")
    state = states[0]
    events = read_rows(
        cursor,
        "SELECT review_id, created_at, reviewer, reviewer_kind, verdict, reasons, note, difficulty, seconds,"
        " revision_id, edited_id, negative_id, undoes, is_undone FROM reviews WHERE sample_id = $id"
        " ORDER BY created_at, review_id",
        id=sample_id,
    )
    revisions = _revisions(cursor, sample_id, state["task"], events)
    first = revisions[0]
    mining_id = _mining_in_force(cursor, state["revision_id"])
    return {
        **state,
        **_origin(cursor, first),
        "made_from": _ancestors(cursor, first["parent_id"]),
        "revisions": revisions,
        "relabellings": _relabellings(cursor, sample_id),
        "negatives": _negatives(cursor, sample_id, state["revision_id"], mining_id),
        "judgements": _judgements(cursor, sample_id, state["revision_id"]),
        "minings": _minings(cursor, sample_id, mining_id),
        "reviews": events,
        "eval_overlaps": read_rows(
            cursor,
            "SELECT DISTINCT revision_id, field, eval_source, eval_split, eval_id, kind, value FROM eval_overlaps"
            " WHERE sample_id = $id ORDER BY ALL",
            id=sample_id,
        ),
        "near_duplicates": read_rows(
            cursor,
            "SELECT DISTINCT sample_id, kept_id, similarity FROM near_duplicates"
            " WHERE sample_id = $id OR kept_id = $id ORDER BY ALL",
            id=sample_id,
        ),
        "releases": read_rows(
            cursor,
            "SELECT l.name, l.created_at, r.number, i.revision_id, len(i.negative_ids) AS num_negatives,"
            " coalesce(l.policy->>'$.judged', '') AS judged"
            " FROM release_item i JOIN release l USING (release_id) JOIN revision r ON r.revision_id = i.revision_id"
            " WHERE i.sample_id = $id ORDER BY l.created_at, l.name",
            id=sample_id,
        ),
        "made_of_it": read_rows(
            cursor,
            "SELECT sample_id, operation, method FROM revision WHERE sample_id <> $id AND parent_id IN (SELECT"
            f" revision_id FROM revision WHERE sample_id = $id) ORDER BY created_at, sample_id LIMIT {MOST_LISTED}",
            id=sample_id,
        ),
    }


def _origin(cursor: duckdb.DuckDBPyConnection, first: Row) -> Row:
    found = read_rows(
        cursor,
        "SELECT name, split, declared_use, kind, origin, licence, version FROM source WHERE source_id = $id",
        id=first.pop("source_id"),
    )
    if not found:
        raise StoreError(f"the source of the revision {first['revision_id']} is gone; see `synth store verify`")
    seeds = read_rows(
        cursor,
        "SELECT t.text_id, any_value(p.title) AS title, any_value(t.text) AS text FROM text t LEFT JOIN passage p"
        " USING (text_id) WHERE t.text_id = $id GROUP BY t.text_id",
        id=first.pop("seed_id"),
    )
    return {"source": found[0], "seed": seeds[0] if seeds else None}


def _revisions(cursor: duckdb.DuckDBPyConnection, sample_id: UUID, task: str, events: Sequence[Row]) -> list[Row]:
    """Oldest first, each with its content (the first) or what it changed of its parent (the others)."""
    rows = read_rows(
        cursor,
        "SELECT r.*, u.kind AS run_kind, u.seed AS run_seed, u.code_version,"
        f" {OF_CALL}"
        " FROM revision r LEFT JOIN run u USING (run_id) LEFT JOIN llm_call c ON c.call_id = r.call_id"
        " WHERE r.sample_id = $id ORDER BY r.number, r.created_at, r.revision_id",
        id=sample_id,
    )
    contents = {row["revision_id"]: {field: row[field] for field in CONTENT[task]} for row in rows}
    edits = {event["edited_id"]: event for event in events if event["edited_id"] is not None}
    return [_revision(row, contents, edits.get(row["revision_id"])) for row in rows]


def _revision(row: Row, contents: Mapping[UUID, Row], edit: Row | None) -> Row:
    own, parent = contents[row["revision_id"]], contents.get(row["parent_id"])
    plain = (
        "revision_id",
        "number",
        "parent_id",
        "operation",
        "method",
        "actor",
        "model",
        "prompt_version",
        "created_at",
    )
    return {
        **{name: row[name] for name in plain},
        **({"source_id": row["source_id"], "seed_id": row["seed_id"]} if row["number"] == 1 else {}),
        "content_hash": row["content_hash"],
        "run": {
            "run_id": row["run_id"],
            "kind": row["run_kind"],
            "seed": row["run_seed"],
            "code_version": row["code_version"],
        },
        "call": _call(row),
        "content": own,
        "changes": {} if parent is None else {k: [parent[k], own[k]] for k in own if own[k] != parent[k]},
        "edited_by": edit and {name: edit[name] for name in ("reviewer", "review_id", "verdict")},
        "withdrawn": bool(edit and edit["is_undone"]),
    }


def _call(row: Row) -> Row | None:
    """The reply that something was made of, by the columns of its row; None if the store knows of none."""
    return None if row["outcome"] is None else {name: row[name] for name in CALL}


def _ancestors(cursor: duckdb.DuckDBPyConnection, parent_id: UUID | None) -> list[Row]:
    """The revisions of other samples that a sample was made from, nearest first."""
    found: list[Row] = []
    while parent_id is not None and len(found) < MOST_ANCESTORS:
        rows = read_rows(
            cursor,
            "SELECT sample_id, revision_id, parent_id, number, operation, method, coalesce(query, text, text1) AS text"
            " FROM revision WHERE revision_id = $id",
            id=parent_id,
        )
        if not rows:
            break
        found += rows
        parent_id = rows[0]["parent_id"]
    return found


def _mining_in_force(cursor: duckdb.DuckDBPyConnection, head_id: UUID) -> UUID | None:
    """The run of the latest mining of a revision, whose negatives a release takes by itself; None: there was none."""
    sql = f"SELECT run_id FROM ({LATEST_MINING}) WHERE revision_id = $head"
    return next((row["run_id"] for row in read_rows(cursor, sql, head=head_id)), None)


def _negatives(cursor: duckdb.DuckDBPyConnection, sample_id: UUID, head_id: UUID, mining_id: UUID | None) -> list[Row]:
    """
    Each text once for each revision, as it was found last; those of the latest revision first, and of these the ones in
    force, hardest first. Of mined ones those of the latest mining are in force, of others all.
    """
    rows = read_rows(
        cursor,
        "SELECT n.negative_id, n.revision_id, n.revision_id = $head AS is_of_latest,"
        " n.revision_id = $head"
        " AND (n.origin <> 'mined' OR n.run_id IS NOT DISTINCT FROM $mining::UUID) AS is_in_force,"
        " n.text_id, t.text, n.origin,"
        " n.rank, n.score, n.positive_score, n.miners, n.relevance, n.positive_relevance, n.positive_similarity,"
        " n.overlap, n.flags, n.relaxed, n.kind, n.requirement, u.model AS miner, n.run_id, n.created_at,"
        f" n.call_id, c.prompt_version, {OF_CALL} FROM negative n JOIN text t USING (text_id)"
        " LEFT JOIN run u ON u.run_id = n.run_id LEFT JOIN llm_call c ON c.call_id = n.call_id WHERE n.sample_id = $id"
        " QUALIFY row_number() OVER (PARTITION BY n.revision_id, n.text_id"
        " ORDER BY is_in_force DESC, n.negative_id DESC) = 1"
        " ORDER BY is_of_latest DESC, is_in_force DESC, n.origin, n.score DESC NULLS FIRST, n.rank, n.text_id",
        id=sample_id,
        head=head_id,
        mining=mining_id,
    )
    words: dict[UUID, list[Row]] = {}
    for word in read_rows(
        cursor,
        "SELECT text_id, reviewer, verdict, drops FROM negative_verdicts WHERE sample_id = $id"
        " ORDER BY created_at, review_id",
        id=sample_id,
    ):
        words.setdefault(word.pop("text_id"), []).append(word)
    held = read_rows(
        cursor,
        "SELECT n.revision_id, n.text_id, list(l.name ORDER BY l.created_at, l.name) AS releases FROM release_item i"
        " JOIN release l USING (release_id) JOIN negative n ON list_contains(i.negative_ids, n.negative_id)"
        " WHERE i.sample_id = $id AND n.sample_id = $id GROUP BY ALL",
        id=sample_id,
    )
    releases = {(each["revision_id"], each["text_id"]): each["releases"] for each in held}
    return [
        {name: value for name, value in row.items() if name not in CALL}
        | {
            "call": _call(row),
            "verdicts": words.get(row["text_id"], []),
            "is_dropped": any(w["drops"] for w in words.get(row["text_id"], [])),
            "releases": releases.get((row["revision_id"], row["text_id"]), []),
        }
        for row in rows
    ]


def _minings(cursor: duckdb.DuckDBPyConnection, sample_id: UUID, mining_id: UUID | None) -> list[Row]:
    """Oldest first, each with its settings, the candidates that fell where negatives were wanting, and their texts."""
    rows = read_rows(
        cursor,
        "SELECT m.revision_id, m.status, m.reason, m.positive_rank, m.positive_score, m.num_negatives,"
        " m.num_candidates, m.num_capped, m.fallen, m.candidates, u.model AS miner, u.config AS settings,"
        " m.run_id, m.created_at"
        " FROM mined m LEFT JOIN run u USING (run_id) WHERE m.sample_id = $id ORDER BY m.created_at",
        id=sample_id,
    )
    for row in rows:
        row["candidates"] = row["candidates"] or []
        row["is_in_force"] = row["run_id"] == mining_id
    _add_texts(cursor, rows)
    return rows


def _judgements(cursor: duckdb.DuckDBPyConnection, sample_id: UUID, head_id: UUID) -> list[Row]:
    """
    Each judge's last word on each passage; those of the latest revision first, by judge, the positive before negatives.

    `is_overruled` says whether a person said otherwise; None where nothing is suggested, or the negative was dropped or
    the sample rejected already.
    """
    return read_rows(
        cursor,
        "SELECT j.judgement_id, j.revision_id, j.revision_id = $head AS is_of_latest, j.judge, j.judge_kind, j.version,"
        " j.text_id, j.text, j.is_positive, j.negative_id, j.grade, j.positive_grade, j.relevance,"
        " j.positive_relevance, j.suggestion, s.is_overruled, j.reason, j.run_id, j.call_id, j.created_at"
        " FROM judgements j"
        " LEFT JOIN (SELECT judgement_id, is_overruled FROM suggestions WHERE sample_id = $id) s USING (judgement_id)"
        " WHERE j.sample_id = $id"
        " ORDER BY is_of_latest DESC, j.revision_id DESC, j.judge, j.is_positive DESC, j.grade DESC, j.text_id",
        id=sample_id,
        head=head_id,
    )


def _relabellings(cursor: duckdb.DuckDBPyConnection, sample_id: UUID) -> list[Row]:
    """Oldest first, each with its candidates and their texts, best first."""
    rows = read_rows(
        cursor,
        "SELECT outcome, revision_id, moved_to, passage_from, passage_to, candidates, num_negatives, call_id, run_id,"
        " created_at FROM relabellings WHERE sample_id = $id ORDER BY created_at, revision_id",
        id=sample_id,
    )
    for row in rows:
        row["candidates"].sort(key=lambda each: each["place"])
    _add_texts(cursor, rows)
    return rows


def _add_texts(cursor: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
    """Give each candidate of these rows its text."""
    found = read_rows(
        cursor,
        "SELECT text_id, text FROM text WHERE text_id IN (SELECT unnest($ids::UUID[]))",
        ids=sorted({str(each["text_id"]) for row in rows for each in row["candidates"]}),
    )
    texts = {each["text_id"]: each["text"] for each in found}
    for row in rows:
        row["candidates"] = [each | {"text": texts.get(each["text_id"])} for each in row["candidates"]]


def read_rows(cursor: duckdb.DuckDBPyConnection, sql: str, **parameters: Any) -> list[Row]:
    """The rows of a query, with JSON columns parsed."""
    cursor.execute(sql, parameters)
    names = [column[0] for column in cursor.description or ()]
    return [{name: _parsed(name, value) for name, value in zip(names, row, strict=True)} for row in cursor.fetchall()]


def _parsed(name: str, value: Any) -> Any:
    if name not in JSON_COLUMNS or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value

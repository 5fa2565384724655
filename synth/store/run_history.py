"""What people look at of runs: the latest ones, and one of them with what it asked, paid and failed at."""

import re
from uuid import UUID

import duckdb

from synth.records import UserError
from synth.store.connection import Store
from synth.store.runs import KINDS
from synth.store.sample_history import Row, read_rows

LAST = "last"
FEWEST_DIGITS = 4
TOLD = {"task", "operation", "sources", "per_seed", "language", "max_tries", "temperature"}  # by who asks an LLM
HAVE_AGAIN = ("judge", "relabel")  # kinds of runs whose command asks by its option `--again` for what they left
MOST_QUOTED = 60  # characters of what was given
MOST_TOLD = 4  # ids that an ambiguous one may mean
EXAMPLES = 3  # reasons that are told of each outcome and each kind of failure

# The runs, each with `ending`: as much of the end of its id as no other run's has. Time-ordered ids share beginnings.
ENDINGS = """
SELECT run_id, CASE WHEN count(*) OVER (PARTITION BY right(id, 8)) = 1 THEN right(id, 8)
                    WHEN count(*) OVER (PARTITION BY right(id, 12)) = 1 THEN right(id, 12) ELSE id END AS ending
FROM (SELECT run_id, run_id::VARCHAR AS id FROM run)
"""
COST = "CASE WHEN count(cost) = count(*) THEN sum(cost) END"  # a sum without some of the prices is no price
# With what the chosen runs left so far: a run that was killed, or is under way, has counted nothing itself.
SUMMARIES = f"""
WITH chosen AS (
    SELECT * FROM runs WHERE ($kind IS NULL OR kind = $kind) AND ($id IS NULL OR run_id = $id)
    ORDER BY started_at DESC, run_id DESC LIMIT $limit
),
made AS (
    SELECT run_id, count(*) AS samples FROM revision SEMI JOIN chosen USING (run_id) WHERE number = 1 GROUP BY run_id
),
negatives AS (
    SELECT run_id, count(*) AS n FROM negative SEMI JOIN chosen USING (run_id) WHERE original_id IS NULL GROUP BY run_id
),
judgements AS (SELECT run_id, count(*) AS n FROM judgement SEMI JOIN chosen USING (run_id) GROUP BY run_id),
moves AS (
    SELECT run_id, count(moved_to) AS n FROM relabelled SEMI JOIN chosen USING (run_id) GROUP BY run_id
),
paid AS (
    SELECT run_id, count(*) AS calls, sum(tokens_in)::BIGINT AS tokens_in, sum(tokens_out)::BIGINT AS tokens_out,
           {COST} AS cost
    FROM llm_call SEMI JOIN chosen USING (run_id) GROUP BY run_id
)
SELECT i.ending, c.* REPLACE (
           coalesce(c.requests, p.calls, 0) AS requests, coalesce(c.tokens_in, p.tokens_in, 0) AS tokens_in,
           coalesce(c.tokens_out, p.tokens_out, 0) AS tokens_out,
           CASE WHEN c.status = 'unfinished' THEN p.cost ELSE c.cost END AS cost
       ),
       coalesce(m.samples, 0) AS num_samples, coalesce(n.n, 0) AS num_negatives, coalesce(j.n, 0) AS num_judgements,
       coalesce(v.n, 0) AS num_moved
FROM chosen c JOIN ({ENDINGS}) i USING (run_id) LEFT JOIN made m USING (run_id) LEFT JOIN paid p USING (run_id)
LEFT JOIN negatives n USING (run_id) LEFT JOIN judgements j USING (run_id) LEFT JOIN moves v USING (run_id)
ORDER BY c.started_at DESC, c.run_id DESC
"""
# A reason is told with how often it was given; the most frequent first, so that a screen of many is three lines. Told
# too is how many had another one.
REASONS = f"""
coalesce(max(struct_pack(n := n, reason := reason), {EXAMPLES}) FILTER (reason <> ''), []) AS reasons,
(coalesce(sum(n) FILTER (reason <> ''), 0)
 - coalesce(list_sum(list_transform(reasons, lambda each: each.n)), 0))::BIGINT AS other_reasons
"""
MODELS = f"""
SELECT coalesce(asked, model) AS model, server, count(*) AS calls, count(*) FILTER (batch <> '') AS batched,
       sum(tokens_in)::BIGINT AS tokens_in, sum(tokens_out)::BIGINT AS tokens_out, {COST} AS cost,
       median(seconds) AS median_seconds
FROM llm_call WHERE run_id = $id GROUP BY ALL ORDER BY calls DESC, 1, 2
"""
OUTCOMES = f"""
SELECT outcome, sum(n)::BIGINT AS calls, sum(repaired)::BIGINT AS repaired, sum(cut)::BIGINT AS cut,
       sum(again)::BIGINT AS asked_again, {REASONS}
FROM (
    SELECT outcome, reason, count(*) AS n, count(*) FILTER (repaired = 'found') AS repaired,
           count(*) FILTER (repaired = 'cut') AS cut,
           count(*) FILTER (repaired = 'asked again') AS again
    FROM llm_call WHERE run_id = $id GROUP BY ALL
)
GROUP BY outcome ORDER BY calls DESC, outcome
"""
REJECTIONS = """
SELECT each.key AS reason, sum(each.value)::BIGINT AS n
FROM (SELECT unnest(map_entries(rejections::MAP(VARCHAR, BIGINT))) AS each FROM generated WHERE run_id = $id)
GROUP BY 1 ORDER BY n DESC, reason
"""
FAILURES = f"""
SELECT kind, permanent, sum(n)::BIGINT AS requests, sum(finished)::BIGINT AS finished_since, {REASONS}
FROM (
    SELECT kind, permanent, reason, count(*) AS n, count(*) FILTER (is_finished) AS finished
    FROM failures WHERE run_id = $id GROUP BY ALL
)
GROUP BY kind, permanent ORDER BY requests DESC, kind, permanent
"""


def recent(store: Store, *, kind: str | None, limit: int) -> list[Row]:
    """
    The latest runs (of one kind, if named), newest first: a row of the view `runs` each, with the `ending` of its id
    that names it, and what it brought: `num_samples`, `num_negatives`, `num_judgements`, and `num_moved`, how many
    positives it moved. Of a run that has not ended, what is stored of it so far.

    Raises UserError if there is no such kind of run.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(f"no run is of the kind {kind[:MOST_QUOTED]!r}; the kinds are {', '.join(KINDS)}")
    with store.read() as cursor:
        return read_rows(cursor, SUMMARIES, kind=kind, id=None, limit=limit)


def num_runs(store: Store, *, kind: str | None) -> int:
    """How many runs there are (of one kind, if named)."""
    with store.read() as cursor:
        [row] = read_rows(cursor, "SELECT count(*) AS n FROM run WHERE $kind IS NULL OR kind = $kind", kind=kind)
    return int(row["n"])


def find_run(store: Store, given: str) -> UUID:
    """
    The run that `given` names: its id, or an end or a beginning of it that no other run's has, or `last`.

    Raises UserError if there is none, or more than one.
    """
    with store.read() as cursor:
        if given == LAST:
            found = read_rows(cursor, "SELECT run_id FROM run ORDER BY started_at DESC, run_id DESC LIMIT 1")
            if not found:
                raise UserError("nothing was run yet; begin with `synth ingest PATH`")
        else:
            found = _named(cursor, given)
    if not found:
        raise UserError(f"no run's id ends with {given[:MOST_QUOTED]!r}; `synth runs` lists the runs")
    if len(found) > 1:
        some = ", ".join(f"{row['kind']} {row['run_id']}" for row in found[:MOST_TOLD])
        others = " or others" * (len(found) > MOST_TOLD)
        raise UserError(f"{given[:MOST_QUOTED]!r} may be {some}{others}; give more digits of the one that you mean")
    run_id: UUID = found[0]["run_id"]
    return run_id


def generate_config(store: Store, run_id: UUID) -> Row:
    """
    The configuration of a generate run: what it was told to make, of which sources.

    Raises UserError for a run of another kind, one that asked no LLM, and one of an earlier version that kept less.
    """
    with store.read() as cursor:
        [run] = read_rows(cursor, "SELECT kind, config FROM run WHERE run_id = $id", id=run_id)
    config: Row = run["config"]
    if run["kind"] in HAVE_AGAIN:
        raise UserError(
            f"run {run_id} is of the kind {run['kind']}: `synth {run['kind']} --again`, with the options of that run,"
            " asks again for what it left"
        )
    if run["kind"] != "generate":
        raise UserError(
            f"run {run_id} is of the kind {run['kind']}; only what `synth generate` asked can be asked again"
        )
    if not config.keys() >= TOLD:
        raise UserError(
            f"run {run_id} asked no LLM, or is of an earlier version; run `synth generate` with its options"
        )
    return config


def num_unfinished(store: Store, run_id: UUID) -> int:
    """How many of its seeds a generate run left without learning why: it ended before, or in the midst of them."""
    with store.read() as cursor:
        [(number,)] = cursor.execute(
            "SELECT coalesce(max((config->>'$.num_seeds')::BIGINT), 0)"
            " - (SELECT count(*) FROM generated WHERE run_id = $id)"
            " - (SELECT count(DISTINCT seed_id) FROM llm_failure WHERE run_id = $id) FROM run WHERE run_id = $id",
            {"id": run_id},
        ).fetchall()
    return max(int(number), 0)


def story(store: Store, run_id: UUID) -> Row:
    """
    A run as `recent` tells it, and `models` (what each model at each server was asked and paid), `outcomes` (what
    became of the replies) and `failures` (requests without one, by kind), both with their most frequent reasons
    and how many had `other_reasons`, and `rejections` (how much of what the replies offered failed which check).
    """
    with store.read() as cursor:
        [run] = read_rows(cursor, SUMMARIES, kind=None, id=run_id, limit=1)
        return {
            **run,
            "models": read_rows(cursor, MODELS, id=run_id),
            "outcomes": read_rows(cursor, OUTCOMES, id=run_id),
            "rejections": read_rows(cursor, REJECTIONS, id=run_id),
            "failures": read_rows(cursor, FAILURES, id=run_id),
        }


def _named(cursor: duckdb.DuckDBPyConnection, given: str) -> list[Row]:
    digits = given.strip().lower().replace("-", "")
    if not re.fullmatch(rf"[0-9a-f]{{{FEWEST_DIGITS},32}}", digits):
        raise UserError(
            f"{given[:MOST_QUOTED]!r} is no run: give `{LAST}`, or {FEWEST_DIGITS} or more digits that the id of a run"
            " ends with (`synth runs` lists them)"
        )
    return read_rows(
        cursor,
        "SELECT run_id, kind FROM (SELECT *, replace(run_id::VARCHAR, '-', '') AS id FROM run)"
        " WHERE ends_with(id, $digits) OR starts_with(id, $digits) ORDER BY started_at DESC, run_id DESC LIMIT $most",
        digits=digits,
        most=MOST_TOLD + 1,
    )

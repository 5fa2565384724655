"""Which run a report is of: of the kinds that have one, the one named or the latest that brought anything."""

from collections.abc import Collection
from uuid import UUID

from synth.records import UserError
from synth.store.connection import Store
from synth.store.run_history import LAST, find_run
from synth.store.sample_history import Row, read_rows

KINDS = ("generate", "mine")
# The runs of some kinds, the latest first. A seed or a sample that is done brought something, even if nothing passed.
RUNS = """
SELECT run_id, kind, status, coalesce(reason, '') AS reason,
       run_id IN (SELECT run_id FROM llm_call UNION SELECT run_id FROM generated UNION SELECT run_id FROM mined)
           AS brought_something
FROM runs WHERE kind IN (SELECT unnest($kinds))
  AND NOT (kind = 'mine' AND coalesce(config->>'task', '') IN ('classification', 'sts'))
ORDER BY started_at DESC, run_id DESC
"""
# The latest mine run of samples that have no report, after a run. Ids of runs are in the order of time.
UNREPORTED = """
SELECT run_id, config->>'task' AS task FROM run
WHERE kind = 'mine' AND config->>'task' IN ('classification', 'sts') AND run_id > $after
ORDER BY run_id DESC LIMIT 1
"""


def find_reported_run(store: Store, given: str | None, kinds: Collection[str] = KINDS) -> tuple[UUID, str]:
    """
    The run that `given` names as for `find_run`, and its kind, which is one of `kinds`; None or `last`: the latest that
    brought anything, or the latest, if none did. Raises UserError if there is none.
    """
    if given is None or given == LAST:
        runs = _latest(store, kinds)
        if not runs and (unreported := mined_unreported(store, None, kinds)):
            raise UserError(unreported_line(unreported))
        if not runs:
            raise UserError(f"no run to tell about yet; begin with {_commands(kinds)}")
        latest = next((row for row in runs if row["brought_something"]), runs[0])
        return latest["run_id"], latest["kind"]
    run_id = find_run(store, given)
    with store.read() as cursor:
        [run] = read_rows(cursor, "SELECT kind, config->>'task' AS task FROM run WHERE run_id = $id", id=run_id)
    if run["kind"] == "mine" and run["task"] in ("classification", "sts"):
        raise UserError(unreported_line({"run_id": run_id, **run}))
    if run["kind"] not in KINDS:
        raise UserError(f"run {run_id} is of the kind {run['kind']}; only runs of {_commands(KINDS)} have a report")
    if run["kind"] not in kinds:
        raise UserError(f"run {run_id} is of the kind {run['kind']}, and what is asked for is of {_commands(kinds)}")
    return run_id, run["kind"]


def failed_since(store: Store, run_id: UUID, kinds: Collection[str] = KINDS) -> Row | None:
    """The latest run of these kinds with its `reason`, if it failed before it brought anything, and is not this one."""
    latest = _latest(store, kinds)[0]
    is_other = latest["run_id"] != run_id and latest["status"] == "failed" and not latest["brought_something"]
    return latest if is_other else None


def mined_unreported(store: Store, run_id: UUID | None, kinds: Collection[str] = KINDS) -> Row | None:
    """The latest mine run of classification or sts after this one (None: of all), if mine runs are asked for."""
    if "mine" not in kinds:
        return None
    with store.read() as cursor:
        return next(iter(read_rows(cursor, UNREPORTED, after=run_id or UUID(int=0))), None)


def unreported_line(run: Row) -> str:
    """That a mine run has no report, its task being another than retrieval, and what shows it."""
    run_id = run["run_id"]
    return f"run {run_id} mined for {run['task']}, of which there is no report; see synth runs show {run_id}"


def _latest(store: Store, kinds: Collection[str]) -> list[Row]:
    with store.read() as cursor:
        return read_rows(cursor, RUNS, kinds=list(kinds))


def _commands(kinds: Collection[str]) -> str:
    return " or ".join(f"`synth {kind}`" for kind in kinds)

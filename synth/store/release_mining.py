"""The minings of a release: the one that its policy names, and those that its mined negatives are of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from synth.records import UserError
from synth.store.connection import Store
from synth.store.rows import first
from synth.store.run_history import LAST, find_run
from synth.store.sample_history import read_rows

# Ids of runs are in the order of time.
LATEST = """
SELECT m.run_id FROM mined m JOIN sample_state st USING (sample_id) WHERE st.task = 'retrieval'
ORDER BY m.run_id DESC LIMIT 1
"""
OF_RUN = """
SELECT m.stage_key, st.task FROM mined m JOIN sample_state st USING (sample_id) WHERE m.run_id = $id
ORDER BY ALL LIMIT 1
"""
# Every run that mined samples, and what it was a part of.
MINE_RUNS = """
SELECT m.run_id, m.stage_key, u.model AS encoder, u.config::VARCHAR AS config
FROM (SELECT DISTINCT run_id, stage_key FROM mined) m LEFT JOIN run u ON u.run_id = m.run_id
"""
# The runs of one mining may differ in what decides no negative, such as the search: the last one counts.
MINED_IN = """
SELECT list(DISTINCT c.n.run_id::VARCHAR ORDER BY c.n.run_id::VARCHAR) AS runs, c.task,
       coalesce(max_by(r.encoder, r.run_id), '') AS encoder, coalesce(max_by(r.config, r.run_id), '{}') AS config,
       count(DISTINCT c.sample_id) AS num_samples, count(*) AS num_negatives
FROM (SELECT task, sample_id, unnest(negatives) AS n FROM read_parquet($chosen, hive_partitioning = false)) c
LEFT JOIN read_parquet($mine_runs, hive_partitioning = false) r ON r.run_id = c.n.run_id
WHERE c.n.origin = 'mined' GROUP BY c.task, coalesce(r.stage_key, c.n.run_id) ORDER BY c.task DESC, runs
"""


@dataclass(frozen=True, slots=True)
class Mining:
    """
    What a run of `synth mine` was a part of: its settings and weights are named by `stage_key`, which other runs may
    have as well. All samples that it mined are of one task.
    """

    run_id: UUID
    stage_key: UUID
    task: str


def find_mining(store: Store, given: str) -> Mining:
    """
    The mining of the run that `given` names as for `find_run`; `last`: of the latest run that mined retrieval samples.

    Raises UserError if there is no such run, or it mined no sample.
    """
    run_id = _last(store) if given == LAST else find_run(store, given)
    with store.read() as cursor:
        kind = first(cursor.execute("SELECT kind FROM run WHERE run_id = $id", {"id": run_id}))
        found = first(cursor.execute(OF_RUN, {"id": run_id}))
    if kind is not None and kind[0] != "mine":
        raise UserError(
            f"run {run_id} is of the kind {kind[0]}, and the release policy's mining must be a run of `synth mine`;"
            " `synth runs --kind mine` lists them"
        )
    if found is None:
        raise UserError(f"run {run_id} mined no sample; name another one of `synth runs --kind mine`")
    return Mining(run_id, *found)


def _last(store: Store) -> UUID:
    with store.read() as cursor:
        found = first(cursor.execute(LATEST))
    if found is None:
        raise UserError(
            "the release policy's mining is 'last', and of retrieval samples nothing was mined yet;"
            " run `synth mine` first"
        )
    run_id: UUID = found[0]
    return run_id


def minings_in(cursor: duckdb.DuckDBPyConnection, chosen: Path, mine_runs: Path) -> list[dict[str, Any]]:
    """
    The minings that the mined negatives of a release are of: `runs` (ids as text, those of these negatives), `task`,
    `encoder`, `config` (of the last of them), `num_samples`, `num_negatives`.

    `chosen` and `mine_runs` (MINE_RUNS) are files as synth/store/selection.py writes them.
    """
    return read_rows(cursor, MINED_IN, chosen=str(chosen), mine_runs=str(mine_runs))

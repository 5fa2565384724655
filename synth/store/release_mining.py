"""The mining that a release's policy names: what the run that it gives was a part of."""

from dataclasses import dataclass
from uuid import UUID

from synth.records import UserError
from synth.store.connection import Store
from synth.store.rows import first
from synth.store.run_history import LAST, find_run

LATEST = "SELECT run_id FROM mined ORDER BY run_id DESC LIMIT 1"  # ids of runs are in the order of time
OF_RUN = """
SELECT m.stage_key, st.task FROM mined m JOIN sample_state st USING (sample_id) WHERE m.run_id = $id
ORDER BY ALL LIMIT 1
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
    The mining of the run that `given` names as for `find_run`; `last`: of the latest run that mined any sample.

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
        raise UserError("the release policy's mining is 'last', and nothing was mined yet; run `synth mine` first")
    run_id: UUID = found[0]
    return run_id

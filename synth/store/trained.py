"""Which samples went into which step of a training run."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import pyarrow

from synth.store.connection import Store
from synth.store.rows import readable

SCHEMA = {
    "step": pyarrow.int32(),
    "stage": pyarrow.int32(),
    "task": pyarrow.string(),
    "dataset": pyarrow.string(),
    "loss": pyarrow.float64(),
    "sample_ids": pyarrow.list_(pyarrow.string()),
}


class TrainedStep(NamedTuple):
    """A step that a run trained; of samples only those that have an id of a store."""

    step: int
    stage: int
    task: str
    dataset: str
    loss: float
    sample_ids: Sequence[str]


def holds_steps(store: Store, output: str, losses: Sequence[float]) -> bool:
    """Whether a run that wrote this model folder has its steps stored: as many, of the same losses."""
    with store.read() as cursor:
        found = cursor.execute(
            "SELECT count(*), min(loss), max(loss) FROM train_step JOIN run USING (run_id)"
            " WHERE run.config ->> 'output' = $output GROUP BY run_id",
            {"output": output},
        ).fetchall()
    return (len(losses), min(losses), max(losses)) in found


def add_steps(store: Store, run_id: UUID, steps: Sequence[TrainedStep]) -> None:
    """Store a run's steps, in one lease."""
    columns = {name: [getattr(step, name) for step in steps] for name in SCHEMA}
    table = pyarrow.table(columns, schema=pyarrow.schema(SCHEMA))
    with store.write() as cursor, readable(cursor, table, "trained"):
        cursor.execute(
            "INSERT INTO train_step BY NAME SELECT $run_id::UUID AS run_id, step, stage, task, dataset, loss,"
            " list_filter(list_transform(sample_ids, lambda x: TRY_CAST(x AS UUID)), lambda x: x IS NOT NULL)"
            " AS sample_ids FROM trained",
            {"run_id": str(run_id)},
        )

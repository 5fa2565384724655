"""
Seeds: what a generate stage starts from, passages or samples to train on, and which of them it has not finished.

A sample that was itself made from another sample is no seed: rewritings of rewritings drift from what people wrote.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from synth.records import Classification, Content, Passage, Retrieval, Sample, Seed, Sts, Task
from synth.store.connection import Store
from synth.store.rows import first

# The passages to train on, by text id; one that is also declared held out is held out. A text of several sources is one
# passage.
PASSAGES = """
SELECT p.text_id AS seed_id, any_value(p.title) AS title, min(p.source_id) AS source_id, false AS is_unproven
FROM passage p JOIN source s USING (source_id)
WHERE (len($names) = 0 OR s.name IN (SELECT unnest($names))) AND s.declared_use = 'train' AND p.text_id NOT IN
    (SELECT o.text_id FROM passage o JOIN source e USING (source_id) WHERE e.declared_use = 'eval')
GROUP BY p.text_id
"""
# The samples of a task to train on that were not rejected, by their latest revision. Short targets are no seeds. What a
# held-out set asks too (a query, a text to classify, a pair) is held out.
SAMPLES = """
SELECT st.revision_id AS seed_id, st.sample_id, st.source_id,
       st.operation NOT IN ('ingest', 'edit') AND st.status <> 'approved' AS is_unproven
FROM sample_state st JOIN source s USING (source_id)
WHERE ($chosen IS NULL OR st.revision_id IN (SELECT unnest($chosen::UUID[])))
  AND (len($names) = 0 OR s.name IN (SELECT unnest($names))) AND st.declared_use = 'train'
  AND st.task = $task AND st.status NOT IN ('rejected', 'disputed')
  AND st.sample_id NOT IN (
      SELECT f.sample_id FROM revision f
      WHERE f.number = 1 AND (f.parent_id IS NOT NULL OR f.operation IN ('long-short', 'short-short'))
  )
  AND st.revision_id NOT IN (
      SELECT r.revision_id FROM revision r JOIN revision e ON e.task = r.task
        AND coalesce(e.query, e.text, e.text1) = coalesce(r.query, r.text, r.text1)
        AND e.text2 IS NOT DISTINCT FROM r.text2
      JOIN sample_state o ON o.revision_id = e.revision_id WHERE r.task = $task AND o.declared_use = 'eval'
  )
"""
# With whether a request for them is known to fail again as it is.
PENDING = """
SELECT p.seed_id, any_value(p.is_unproven) AS is_unproven, bool_or(f.permanent) AS permanent
FROM ({seeds}) p LEFT JOIN llm_failure f ON f.stage_key = $key AND f.seed_id = p.seed_id
WHERE p.seed_id NOT IN (SELECT seed_id FROM generated WHERE stage_key = $key)
GROUP BY p.seed_id
"""
CONTENT: dict[Task, tuple[Callable[..., Content], str]] = {
    Task.RETRIEVAL: (Retrieval, "r.query, r.positives, r.instruction"),
    Task.STS: (Sts, "r.text1, r.text2, r.score, r.instruction"),
    Task.CLASSIFICATION: (Classification, "r.text, r.label, r.instruction"),
}


@dataclass(frozen=True, slots=True)
class Seeds:
    """
    Which seeds: passages, or samples of a task; of the named sources, or of all; of samples the `chosen` revisions
    alone, if any are.
    """

    kind: Literal["passages", "samples"] = "passages"
    task: Task = Task.RETRIEVAL
    names: tuple[str, ...] = ()
    chosen: frozenset[UUID] | None = None

    @property
    def _sql(self) -> str:
        return PASSAGES if self.kind == "passages" else SAMPLES

    @property
    def _values(self) -> dict[str, Any]:
        names: dict[str, Any] = {"names": list(self.names)}
        if self.kind == "passages":
            return names
        chosen = None if self.chosen is None else sorted(str(each) for each in self.chosen)
        return names | {"task": self.task.value, "chosen": chosen}

    @property
    def _order(self) -> str:  # ids of revisions begin with a time: a limit would take one source's alone
        return "seed_id" if self.kind == "passages" else "reverse(seed_id::VARCHAR)"

    def exist(self, store: Store) -> bool:
        """Whether there is one."""
        with store.read() as cursor:
            return first(cursor.execute(f"{self._sql} LIMIT 1", self._values)) is not None

    def pending(self, store: Store, stage_key: UUID, *, limit: int | None) -> list[UUID]:
        """
        Those that a generate stage of this configuration has not finished, by their ids; of samples first those that
        people labelled or that are approved.

        Those that failed come last, those whose request may fail again as it is (`permanent`) at the very end: else
        they would fill every `limit` again.
        """
        with store.read() as cursor:
            rows = cursor.execute(
                f"SELECT seed_id FROM ({PENDING.format(seeds=self._sql)})"
                f" ORDER BY permanent NULLS FIRST, is_unproven, {self._order} LIMIT $limit",
                self._values | {"key": stage_key, "limit": 1 << 62 if limit is None else limit},
            ).fetchall()
        return [seed_id for (seed_id,) in rows]

    def untried(self, store: Store, stage_key: UUID) -> list[UUID]:
        """Those of the pending ones that never failed, by their ids."""
        with store.read() as cursor:
            rows = cursor.execute(
                f"SELECT seed_id FROM ({PENDING.format(seeds=self._sql)}) WHERE permanent IS NULL ORDER BY seed_id",
                self._values | {"key": stage_key},
            ).fetchall()
        return [seed_id for (seed_id,) in rows]

    def num_unproven(self, store: Store, seed_ids: Sequence[UUID]) -> int:
        """How many of these were generated, and are not approved."""
        if self.kind == "passages":
            return 0
        with store.read() as cursor:
            [(number,)] = cursor.execute(
                f"SELECT count(*) FROM ({self._sql}) WHERE is_unproven AND seed_id IN (SELECT unnest($ids::UUID[]))",
                self._values | {"ids": [str(each) for each in seed_ids]},
            ).fetchall()
        return int(number)

    def load(self, store: Store, seed_ids: Sequence[UUID]) -> list[Seed]:
        """These of them, by their ids."""
        values = self._values | {"ids": [str(each) for each in seed_ids]}
        chosen = f"({self._sql}) s SEMI JOIN (SELECT unnest($ids::UUID[]) AS seed_id) i USING (seed_id)"
        with store.read() as cursor:
            if self.kind == "passages":
                rows = cursor.execute(
                    f"SELECT s.seed_id, t.text, s.title, s.source_id FROM {chosen} JOIN text t ON t.text_id = s.seed_id"
                    " ORDER BY s.seed_id",
                    values,
                ).fetchall()
                return [Passage(*row) for row in rows]
            made, columns = CONTENT[self.task]
            rows = cursor.execute(
                f"SELECT r.revision_id, r.sample_id, r.source_id, r.seed_id, {columns} FROM {chosen}"
                " JOIN revision r ON r.revision_id = s.seed_id ORDER BY r.revision_id",
                values,
            ).fetchall()
        return [
            Sample(
                revision,
                sample,
                made(*(tuple(value) if isinstance(value, list) else value for value in content)),
                source,
                passage,
            )
            for revision, sample, source, passage, *content in rows
        ]

"""
Which samples a release takes, and which of their negatives.

What a policy takes is written, in one lease and narrow (ids, the texts that are compared with others', candidates for
negatives), to Parquet files of a working folder. All choices are made over these files, with the store free; texts are
read last, slice by slice, by ids of rows that never change. So a release sees one state of the store, however long it
takes, and its texts are never in memory together.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow

from synth.records import StoreError
from synth.store.connection import Store
from synth.store.overlaps import STANDING_SIMILAR
from synth.store.release_mining import MINE_RUNS, Mining, minings_in
from synth.store.release_negatives import LEFT_OUT, NAMED, OFFERED, left_out_counts
from synth.store.release_policy import ReleasePolicy

# Every file is read without hive_partitioning: a folder above it called `name=value` would else be a column.
MEMORY = "2GB"  # of the choices; what needs more goes by way of the disk
# Files of the working folder.
SAMPLES = "samples.parquet"  # what the policy takes of the store, with the texts that are asked
NEGATIVES = "negatives.parquet"  # theirs that no reviewer objects to, and what else may be said against each
MINED_BY = "mine_runs.parquet"  # what every mine run was a part of
CANDIDATES = "candidates.parquet"  # those that may be chosen
CHOSEN = "chosen.parquet"  # the release: one row a sample, in the order of content, with its chosen negatives
# Why a sample to train on is left out, the first that holds; null for what is taken. The keys stand in the manifest.
JUDGED = f"""
CREATE TEMP TABLE judged AS
SELECT st.sample_id, st.revision_id, st.task, st.source_id, st.decided_kind, st.num_approvals, CASE
    WHEN s.name IN (SELECT unnest($exclude_sources)) THEN 'source_excluded'
    WHEN $where <> '' AND m.sample_id IS NULL THEN 'where_not_met'
    WHEN st.status <> 'approved' THEN st.status
    WHEN $verdicts = 'person' AND st.decided_kind <> 'human' THEN 'no_person_decided'
    WHEN $verdicts = 'policy' AND st.decided_kind <> 'policy' THEN 'no_policy_decided'
    WHEN st.num_approvals + st.num_rejections < $min_reviewers THEN 'too_few_reviewers'
    WHEN st.num_approvals + 1e-9 < $min_agreement * (st.num_approvals + st.num_rejections) THEN 'too_little_agreement'
    WHEN $judged <> '' AND st.task = 'retrieval' AND st.decided_kind <> 'human' AND g.revision_id IS NULL
        THEN 'unjudged'
    WHEN o.revision_id IS NOT NULL THEN 'suggested_drop'
END AS reason
FROM sample_state st JOIN source s ON s.source_id = st.source_id
LEFT JOIN matching m ON m.sample_id::UUID = st.sample_id AND m.revision_id::UUID = st.revision_id
LEFT JOIN (
    SELECT DISTINCT revision_id FROM judgement WHERE is_positive AND $judged IN ('any', 'all', judge)
) g ON g.revision_id = st.revision_id
LEFT JOIN (SELECT DISTINCT revision_id FROM ({LEFT_OUT}) WHERE is_positive) o ON o.revision_id = st.revision_id
WHERE st.declared_use = 'train'
"""
SELECTED = f"""
WITH named AS ({NAMED}),
alike AS (
    SELECT o.revision_id, {{
        'field': o.field, 'eval_source_id': o.eval_source_id, 'eval_id': o.eval_id, 'value': o.value
    }} AS similar_to
    FROM ({STANDING_SIMILAR}) o WHERE o.field <> 'positive'
    QUALIFY row_number() OVER (PARTITION BY o.revision_id ORDER BY o.value DESC, o.eval_source_id, o.eval_id) = 1
)
SELECT j.sample_id, j.revision_id, j.task, j.decided_kind, j.num_approvals, r.content_hash,
       s.name AS dataset, s.licence, r.operation, r.method, r.model, b.operation AS made_by,
       r.query, r.text1, r.text2, r.text, r.label, r.score, r.instruction,
       list_transform(r.positives, lambda t: text_id_of(t)) AS positive_ids,
       CASE WHEN j.task = 'classification' THEN text_id_of(r.text) END AS class_text_id, i.similar_to,
       coalesce(j.task = $mining_task AND m.revision_id IS NULL, false) AS is_unmined
FROM judged j JOIN revision r ON r.revision_id = j.revision_id
JOIN revision b ON b.sample_id = j.sample_id AND b.number = 1 JOIN source s ON s.source_id = j.source_id
LEFT JOIN alike i ON i.revision_id = j.revision_id LEFT JOIN named m ON m.revision_id = j.revision_id
WHERE j.reason IS NULL
"""
# A text counts once, as what people labelled before what was mined; flagged by one miner it is flagged, but for people.
# No more of a sample's are kept than can be chosen.
# Generated ones are drawn by lot. Of a text with a class they are texts of samples of the same release, of the same
# source and of another class: the class of others nobody approved.
CANDIDATE = """
WITH of_class AS (
    SELECT s.dataset, s.class_text_id AS text_id, min(s.label) AS label
    FROM read_parquet($samples, hive_partitioning = false) s ANTI JOIN excluded e ON e.sample_id::UUID = s.sample_id
    WHERE s.task = 'classification' GROUP BY ALL HAVING count(DISTINCT s.label) = 1
),
latest AS (
    SELECT * REPLACE (bool_or(is_flagged) OVER (PARTITION BY sample_id, text_id) AS is_flagged)
    FROM read_parquet($negatives, hive_partitioning = false) WHERE NOT by_judges QUALIFY row_number() OVER (
        PARTITION BY sample_id, text_id ORDER BY origin = 'labelled' DESC, negative_id DESC
    ) = 1
)
SELECT l.* EXCLUDE (is_aside, is_flagged, by_judges), CASE WHEN l.origin = 'generated' THEN
           sha256($seed::VARCHAR || s.content_hash::VARCHAR || l.text_id::VARCHAR) END AS lot,
       s.made_by = 'long-short' AS is_alone
FROM latest l JOIN read_parquet($samples, hive_partitioning = false) s ON s.sample_id = l.sample_id
LEFT JOIN of_class c ON s.task = 'classification' AND c.dataset = s.dataset AND c.text_id = l.text_id
WHERE CASE WHEN s.task = 'classification' THEN c.label <> s.label AND NOT l.is_aside
           ELSE NOT list_contains(s.positive_ids, l.text_id) AND (l.origin = 'labelled' OR NOT l.is_flagged) END
QUALIFY row_number() OVER (
    PARTITION BY l.sample_id, l.origin = 'generated'
    ORDER BY l.origin = 'labelled' DESC, lot, l.rank NULLS FIRST, l.text_id
) <= $max_negatives
"""
# Generated negatives are beside others only: at least one of a sample's is not generated, and they are no more than
# their share of the sample's, so of the whole release's. In the order of their lots as many are taken as that allows.
# The misleading target of a `long-short` sample is alone by nature: whole passages would tell nothing beside it.
CHOICE = """
CREATE OR REPLACE TEMP TABLE taken AS
WITH candidate AS (
    SELECT c.* FROM read_parquet($candidates, hive_partitioning = false) c
    ANTI JOIN excluded e ON e.sample_id::UUID = c.sample_id
),
given AS (
    SELECT sample_id, count(*) FILTER (origin = 'labelled') AS num_labelled,
           count(*) FILTER (origin <> 'generated') AS num_given
    FROM candidate GROUP BY 1
),
drawn AS (
    SELECT negative_id, sample_id, is_alone, row_number() OVER (PARTITION BY sample_id ORDER BY lot, negative_id) AS nth
    FROM candidate WHERE origin = 'generated'
),
admitted AS (
    SELECT d.negative_id FROM drawn d JOIN given g USING (sample_id)
    WHERE is_alone OR num_given > 0 AND nth <= $max_negatives - greatest(num_labelled, 1)
      AND nth <= $generated_share * least(num_given + nth, $max_negatives) + 1e-9
)
SELECT c.* EXCLUDE (lot, is_alone),
       row_number() OVER (
           PARTITION BY c.sample_id
           ORDER BY c.origin = 'labelled' DESC, c.origin = 'generated' DESC, lot IS NULL, rank NULLS FIRST, c.text_id
       ) AS place
FROM candidate c LEFT JOIN admitted a USING (negative_id) WHERE c.origin <> 'generated' OR a.negative_id IS NOT NULL
QUALIFY place <= $max_negatives
"""
SHORT = """
SELECT s.sample_id FROM read_parquet($samples, hive_partitioning = false) s
ANTI JOIN excluded e ON e.sample_id::UUID = s.sample_id
LEFT JOIN (SELECT sample_id, count(*) AS n FROM taken GROUP BY 1) t ON t.sample_id = s.sample_id
WHERE s.task = 'retrieval' AND coalesce(t.n, 0) < $min_negatives
"""
CONTENT = """
WITH sample AS (
    SELECT s.* FROM read_parquet($samples, hive_partitioning = false) s
    ANTI JOIN excluded e ON e.sample_id::UUID = s.sample_id
),
negatives AS (
    SELECT sample_id, list({
        'negative_id': negative_id, 'text_id': text_id, 'origin': origin, 'rank': rank, 'score': score,
        'positive_score': positive_score, 'run_id': run_id
    } ORDER BY place) AS negatives
    FROM taken GROUP BY 1
)
SELECT s.sample_id, s.revision_id, s.content_hash, s.task, s.dataset, s.licence, s.operation, s.method, s.model,
       s.decided_kind, coalesce(n.negatives, []) AS negatives,
       concat_ws(chr(9), s.content_hash::VARCHAR, s.dataset,
                 array_to_string(list_transform(n.negatives, lambda n: n.text_id::VARCHAR), chr(9))) AS line,
       row_number() OVER (PARTITION BY s.task ORDER BY line, s.sample_id) AS number
FROM sample s LEFT JOIN negatives n ON n.sample_id = s.sample_id
ORDER BY s.task, number
"""
TEXTS = """
WITH wanted AS (
    SELECT * FROM read_parquet($chosen, hive_partitioning = false)
    WHERE task = $task AND number BETWEEN $start AND $stop
),
found AS (
    SELECT number, list({
        'text': t.text, 'origin': n.origin, 'rank': n.rank, 'score': n.score, 'positive_score': n.positive_score
    } ORDER BY place) AS negatives
    FROM (SELECT number, unnest(negatives) AS n, generate_subscripts(negatives, 1) AS place FROM wanted) w
    JOIN text t ON t.text_id = n.text_id GROUP BY 1
)
SELECT w.sample_id::VARCHAR AS sample_id, w.revision_id::VARCHAR AS revision_id,
       w.content_hash::VARCHAR AS content_hash, w.dataset, w.operation, w.method, r.instruction,
       r.query, r.positives, r.text1, r.text2, r.score, r.text, r.label, coalesce(f.negatives, []) AS negatives
FROM wanted w JOIN revision r ON r.revision_id = w.revision_id LEFT JOIN found f ON f.number = w.number
ORDER BY w.number
"""
# What a datasheet counts: the table's name and what its rows are grouped by.
GROUPS = {
    "task": "task",
    "source": "dataset AS source, licence, task",
    "operation": "operation, method",
    "model": "coalesce(nullif(model, ''), 'none') AS model",
    "verdict": "CASE decided_kind WHEN 'human' THEN 'approved by people' ELSE 'approved by a policy' END AS verdict",
}


def records(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of a result by the names of its columns."""
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _copy(cursor: duckdb.DuckDBPyConnection, query: str, path: Path, parameters: Mapping[str, Any]) -> None:
    """Write a query's result to a Parquet file, without holding it in memory."""
    target = "'" + str(path).replace("'", "''") + "'"
    cursor.execute(f"COPY ({query}) TO {target} (FORMAT parquet)", dict(parameters))


def select(
    cursor: duckdb.DuckDBPyConnection,
    policy: ReleasePolicy,
    matching: pyarrow.Table | None,
    mining: Mining | None,
    folder: Path,
) -> dict[str, int]:
    """
    Write what the policy takes to `folder`: SAMPLES, NEGATIVES and MINED_BY. `matching` (sample_id, revision_id) are
    the samples that meet the policy's condition; one that was edited since does not. `mining` is the one that the
    policy names. Returns how many samples are left out, by why.
    """
    none = pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in ("sample_id", "revision_id")})
    cursor.register("matching", none if matching is None else matching)
    try:
        stated = ("where", "verdicts", "min_reviewers", "min_agreement", "exclude_sources", "judged")
        values = {name: getattr(policy, name) for name in stated}
        cursor.execute(JUDGED, values | {"exclude_sources": list(policy.exclude_sources)})
    finally:
        cursor.unregister("matching")
    try:
        named = {"mining": mining and mining.stage_key, "mining_task": mining and mining.task}
        _copy(cursor, SELECTED, folder / SAMPLES, named)
        stated_of_negatives = {"judged": policy.judged, "flagged_negatives": policy.flagged_negatives}
        _copy(cursor, OFFERED, folder / NEGATIVES, named | stated_of_negatives)
        _copy(cursor, MINE_RUNS, folder / MINED_BY, {})
        counted = cursor.execute("SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 1")
        return dict(counted.fetchall())
    finally:
        cursor.execute("DROP TABLE judged")


def selected(folder: Path, size: int = 10_000) -> Iterator[list[dict[str, Any]]]:
    """
    The samples of `select`, a list at a time, those that most people approved first, then by content: of
    near-duplicates the first is kept.
    """
    with _scratch(folder) as scratch:
        scratch.execute(
            "SELECT sample_id, revision_id, content_hash, task, query, text1, text2, text, label, score, instruction,"
            " similar_to FROM read_parquet(?, hive_partitioning = false)"
            " ORDER BY num_approvals DESC, content_hash, sample_id",
            [str(folder / SAMPLES)],
        )
        names = [column[0] for column in scratch.description or ()]
        while rows := scratch.fetchmany(size):
            yield [dict(zip(names, row, strict=True)) for row in rows]


def selected_revisions(folder: Path, sample_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """The selected revision of each of these samples."""
    with _scratch(folder) as scratch:
        return dict(
            scratch.execute(
                "SELECT sample_id, revision_id FROM read_parquet($path, hive_partitioning = false)"
                " WHERE sample_id IN (SELECT unnest($ids::UUID[]))",
                {"path": str(folder / SAMPLES), "ids": [str(each) for each in sample_ids]},
            ).fetchall()
        )


def choose(folder: Path, policy: ReleasePolicy, excluded: Sequence[UUID]) -> int:
    """
    Choose negatives for all that `select` took but the excluded samples, and write CHOSEN. Returns how many samples
    have too few negatives for the policy; they are not in it.

    At most `generated_share` of a sample's negatives are generated ones, and never all; which, is decided by a hash of
    the policy's seed and the content, the same on every machine.
    """
    names = {"samples": str(folder / SAMPLES)}
    with _scratch(folder) as scratch:
        offered = {"negatives": str(folder / NEGATIVES), "seed": policy.seed, "max_negatives": policy.max_negatives}
        scratch.register("excluded", _ids(excluded))
        _copy(scratch, CANDIDATE, folder / CANDIDATES, names | offered)
        choice = {"max_negatives": policy.max_negatives, "generated_share": policy.generated_share}
        scratch.execute(CHOICE, choice | {"candidates": str(folder / CANDIDATES)})
        few = scratch.execute(SHORT, names | {"min_negatives": policy.min_negatives}).fetchall()
        scratch.register("excluded", _ids([*excluded, *(sample_id for (sample_id,) in few)]))
        _copy(scratch, CONTENT, folder / CHOSEN, names)
    return len(few)


def _ids(sample_ids: Sequence[UUID]) -> pyarrow.Table:
    return pyarrow.table({"sample_id": pyarrow.array([str(each) for each in sample_ids], pyarrow.string())})


def chosen_left_out(folder: Path) -> dict[str, int]:
    """What `left_out_counts` counts of the samples of CHOSEN."""
    files = {"samples": SAMPLES, "negatives": NEGATIVES, "chosen": CHOSEN}
    with _scratch(folder) as scratch:
        return left_out_counts(scratch, {name: folder / file for name, file in files.items()})


def chosen_lines(folder: Path) -> Iterator[str]:
    """A line for each sample of CHOSEN, in order: content hash, source and text ids of its negatives, by tabs."""
    with _scratch(folder) as scratch:
        scratch.execute(
            "SELECT line FROM read_parquet(?, hive_partitioning = false) ORDER BY line", [str(folder / CHOSEN)]
        )
        while rows := scratch.fetchmany(10_000):
            yield from (line for (line,) in rows)


def chosen_counts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The samples of CHOSEN counted by each of GROUPS, and its negatives by origin; `num_samples`, `num_negatives`."""
    with _scratch(folder) as scratch:
        path = [str(folder / CHOSEN)]
        counts = {
            name: records(
                scratch.execute(
                    f"SELECT {columns}, count(*) AS num_samples FROM read_parquet(?, hive_partitioning = false)"
                    " GROUP BY ALL ORDER BY ALL",
                    path,
                )
            )
            for name, columns in GROUPS.items()
        }
        counts["negatives"] = records(
            scratch.execute(
                "SELECT n.origin, count(*) AS num_negatives FROM"
                " (SELECT unnest(negatives) AS n FROM read_parquet(?, hive_partitioning = false))"
                " GROUP BY ALL ORDER BY ALL",
                path,
            )
        )
    return counts


def chosen_minings(folder: Path) -> list[dict[str, Any]]:
    """What `minings_in` tells of the negatives of CHOSEN."""
    with _scratch(folder) as scratch:
        return minings_in(scratch, folder / CHOSEN, folder / MINED_BY)


def chosen_texts(store: Store, folder: Path, task: str, size: int = 50_000) -> Iterator[pyarrow.Table]:
    """
    The samples of CHOSEN of one task with their texts, in order, `size` of them to a lease: the columns of a release's
    files, and those of other tasks as null.
    """
    start = 1
    while True:
        place = {"chosen": str(folder / CHOSEN), "task": task, "start": start, "stop": start + size - 1}
        with store.read() as cursor:
            rows: pyarrow.Table = cursor.sql(TEXTS, params=place).to_arrow_table()
        if not rows.num_rows:
            return
        yield rows
        start += size


@contextmanager
def _scratch(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own that spills into the working folder. Raises StoreError if disk or memory do not suffice."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(folder / "spill"),
        "memory_limit": MEMORY,
    }
    try:
        with closing(duckdb.connect(":memory:", config=settings)) as scratch:
            yield scratch
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        reason = str(error).split("\n", 1)[0]
        raise StoreError(
            f"{folder}: choosing a release failed ({reason}); free some disk or memory, run again"
        ) from None

"""What a generate run made and what was rejected of it, beside what it was made from: the store's part of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from synth.records import Task, normalise
from synth.store.connection import Store
from synth.store.run_history import story
from synth.store.sample_history import Row, read_rows

HARD_NEGATIVE = "hard negative"
COUNTS = """
SELECT (SELECT count(*) FROM revision WHERE run_id = $id AND number = 1) AS num_samples,
       (SELECT count(*) FROM negative
        WHERE run_id = $id AND origin = 'generated' AND original_id IS NULL) AS num_negatives,
       count(*) AS num_done, coalesce(sum(num_samples), 0)::BIGINT AS num_accepted,
       count(*) FILTER (num_samples < $per_seed) AS num_short,
       (SELECT count(DISTINCT seed_id) FROM llm_failure WHERE run_id = $id) AS num_failed,
       (SELECT count(*) FROM (
            SELECT seed_id FROM llm_call WHERE run_id = $id AND seed_id IS NOT NULL
            EXCEPT SELECT seed_id FROM generated WHERE run_id = $id
            EXCEPT SELECT seed_id FROM llm_failure WHERE run_id = $id)) AS num_begun
FROM generated WHERE run_id = $id
"""
# How many seeds were asked about how often. A reply out of the journal belongs to the run that paid for it.
TRIES = """
SELECT tries, count(*) AS seeds FROM (
    SELECT seed_id, max(coalesce(turn, 0)) + 1 AS tries FROM llm_call
    WHERE run_id = $id AND seed_id IS NOT NULL GROUP BY seed_id
) GROUP BY tries ORDER BY tries
"""
# What a run made, and a number that is drawn for it: a negative that came with a sample is told with the sample.
MADE = """
SELECT thing, id, sha256($seed::VARCHAR || id::VARCHAR) AS lot FROM (
    SELECT 'sample' AS thing, revision_id AS id FROM revision WHERE run_id = $id AND number = 1
    UNION ALL
    SELECT 'negative', n.negative_id FROM negative n
    WHERE n.run_id = $id AND n.origin = 'generated' AND n.original_id IS NULL
      AND n.revision_id NOT IN (SELECT revision_id FROM revision WHERE run_id = $id AND number = 1)
) ORDER BY lot, id LIMIT $limit
"""
CONTENT = ("task", "query", "positives", "text1", "text2", "text", "label", "score")
OF = {alias: ", ".join(f"{alias}.{name} AS {alias}_{name}" for name in CONTENT) for alias in ("r", "p")}
SAMPLES = f"""
SELECT m.id, m.lot, r.sample_id, r.operation, {OF["r"]}, {OF["p"]}, t.text AS passage
FROM ({MADE}) m JOIN revision r ON m.thing = 'sample' AND r.revision_id = m.id
LEFT JOIN revision p ON p.revision_id = r.parent_id LEFT JOIN text t ON t.text_id = r.seed_id
"""
WITH_SAMPLES = f"""
SELECT n.revision_id AS id, n.kind, n.requirement, t.text
FROM ({MADE}) m JOIN negative n ON m.thing = 'sample' AND n.revision_id = m.id AND n.run_id = $id
JOIN text t ON t.text_id = n.text_id WHERE n.origin = 'generated' ORDER BY n.negative_id
"""
NEGATIVES = f"""
SELECT m.id, m.lot, n.sample_id, n.kind, n.requirement, t.text, {OF["r"]}
FROM ({MADE}) m JOIN negative n ON m.thing = 'negative' AND n.negative_id = m.id
JOIN text t ON t.text_id = n.text_id JOIN revision r ON r.revision_id = n.revision_id
"""
REJECTED = f"""
SELECT j.rejection_id AS id, j.reason, j.text, j.found, {OF["r"]}, t.text AS passage
FROM (
    SELECT *, sha256($seed::VARCHAR || rejection_id::VARCHAR) AS lot FROM rejection WHERE run_id = $id
    ORDER BY lot, rejection_id LIMIT $limit
) j LEFT JOIN revision r ON r.revision_id = j.seed_id LEFT JOIN text t ON t.text_id = j.seed_id
ORDER BY j.lot, j.rejection_id
"""
# The samples of a task to train on, by their latest revision: those that a run made or wrote negatives for, or those of
# the named sources; with a number that is drawn for each.
IN_SCOPE = """
SELECT st.revision_id, s.name AS source, sha256($seed::VARCHAR || st.revision_id::VARCHAR) AS lot
FROM sample_state st JOIN source s USING (source_id)
WHERE st.task = $task AND st.declared_use = 'train' AND CASE WHEN len($names) > 0
    THEN s.name IN (SELECT unnest($names))
    ELSE st.sample_id IN (SELECT sample_id FROM revision WHERE run_id = $id AND number = 1
                          UNION SELECT sample_id FROM negative WHERE run_id = $id AND origin = 'generated') END
"""
DRAWN = f"SELECT revision_id FROM ({IN_SCOPE}) ORDER BY lot, revision_id LIMIT $limit"
# One positive of each, the one that recipes start from.
PAIRS = f"""
SELECT r.revision_id, r.query, r.positives[1] AS positive FROM ({DRAWN}) d JOIN revision r USING (revision_id)
WHERE len(r.positives) > 0 ORDER BY r.revision_id
"""
OF_PAIRS = f"""
SELECT n.revision_id, n.origin, coalesce(n.kind, '') AS kind, t.text
FROM ({DRAWN}) d JOIN negative n USING (revision_id) JOIN text t ON t.text_id = n.text_id
QUALIFY row_number() OVER (PARTITION BY n.revision_id, n.text_id, n.origin ORDER BY n.negative_id) = 1
    AND row_number() OVER (
        PARTITION BY n.origin, coalesce(n.kind, '') ORDER BY sha256($seed::VARCHAR || n.negative_id::VARCHAR)
    ) <= $limit
ORDER BY n.revision_id, n.negative_id
"""
# Of each source as many, as far as it has them: each is looked at by itself.
SCORED_PAIRS = f"""
SELECT d.source, r.sample_id, r.text1, r.text2, r.score
FROM (
    SELECT revision_id, source FROM ({IN_SCOPE})
    ORDER BY row_number() OVER (PARTITION BY source ORDER BY lot, revision_id), lot, revision_id LIMIT $limit
) d JOIN revision r USING (revision_id) ORDER BY d.source, r.sample_id
"""
# Passages that an LLM wrote, each beside the real passage it was made from: the positive or the seed passage. One of
# each real passage, which names the pair.
BESIDE_REAL = """
WITH written AS (
    SELECT r.positives[1] AS generated, r.parent_id, r.seed_id, NULL AS own, r.source_id, r.run_id
    FROM revision r WHERE r.task = 'retrieval' AND r.number = 1 AND r.call_id IS NOT NULL
    UNION ALL
    SELECT t.text, r.parent_id, r.seed_id, r.positives[1], r.source_id, n.run_id
    FROM negative n JOIN text t USING (text_id) JOIN revision r USING (revision_id)
    WHERE n.origin = 'generated' AND n.original_id IS NULL
),
beside AS (
    SELECT w.generated, coalesce(t.text, p.positives[1], w.own) AS real
    FROM written w JOIN source s USING (source_id) LEFT JOIN revision p ON p.revision_id = w.parent_id
    LEFT JOIN text t ON t.text_id = w.seed_id
    WHERE CASE WHEN len($names) > 0 THEN s.name IN (SELECT unnest($names)) ELSE w.run_id = $id END
)
SELECT generated, real FROM beside WHERE generated <> real
QUALIFY row_number() OVER (PARTITION BY real ORDER BY sha256($seed::VARCHAR || generated)) = 1
ORDER BY sha256($seed::VARCHAR || real) LIMIT $limit
"""


@dataclass(frozen=True, slots=True)
class Beside:
    """
    A text that was made, and the text it was made from: with `is_rewriting` the one that it stands in the place of (or
    is written to be worse than), else the passage that it is about.
    """

    name: str  # query, passage, text 1, ...
    text: str
    original: str
    is_rewriting: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """
    A sample, a negative or a rejected text of a run. `notes` say what else is known of it, `reason` why it was
    rejected ("" if it was not); `sample_id` leads `synth show` to it, where there is one.
    """

    thing: str  # sample, negative or rejected
    parts: tuple[Beside, ...]
    notes: tuple[str, ...] = ()
    reason: str = ""
    sample_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A query with a positive of it, and its negatives by (origin, kind)."""

    query: str
    positive: str
    negatives: Sequence[tuple[str, str, str]]  # origin, kind, text


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """The two texts of an sts sample, with the score on the scale of its source."""

    source: str
    sample_id: UUID
    text1: str
    text2: str
    score: float


@dataclass(frozen=True, slots=True)
class Scope:
    """Which samples are looked at: those of a run, or, if any are named, those of sources. `seed` draws."""

    run_id: UUID
    names: tuple[str, ...] = ()
    seed: int = 0

    def values(self, limit: int) -> dict[str, Any]:
        """The parameters of a query for so many of them."""
        return {"id": self.run_id, "names": list(self.names), "seed": self.seed, "limit": limit}


def run_counts(store: Store, run_id: UUID) -> Row:
    """
    The run as `story` tells it, with `num_samples` and `num_negatives` that it stored, `num_accepted` of what replies
    offered, `num_done`, `num_short` (None where nobody said how many), `num_failed` and `num_begun` seeds, and `tries`,
    {number: seeds} of those asked about.
    """
    told = story(store, run_id)
    per_seed = (told["config"] or {}).get("per_seed")
    with store.read() as cursor:
        [counts] = read_rows(cursor, COUNTS, id=run_id, per_seed=per_seed)
        tries = read_rows(cursor, TRIES, id=run_id)
    short = {} if per_seed else {"num_short": None}
    return {**told, **counts, **short, "tries": {row["tries"]: row["seeds"] for row in tries}}


def accepted(store: Store, run_id: UUID, *, limit: int, seed: int) -> list[Shown]:
    """So many of the samples and negatives that a run stored, drawn at random, in the order of the draw."""
    values = {"id": run_id, "limit": limit, "seed": seed}
    with store.read() as cursor:
        samples = read_rows(cursor, SAMPLES, **values)
        negatives = read_rows(cursor, NEGATIVES, **values)
        came_with: dict[UUID, list[Row]] = {}
        for row in read_rows(cursor, WITH_SAMPLES, **values):
            came_with.setdefault(row["id"], []).append(row)
    found = [(row["lot"], row["id"], _sample(row, came_with.get(row["id"], ()))) for row in samples]
    found += [(row["lot"], row["id"], _negative(row)) for row in negatives]
    return [shown for _, _, shown in sorted(found, key=lambda each: each[:2])]


def rejected(store: Store, run_id: UUID, *, limit: int, seed: int) -> list[Shown]:
    """So many of the texts that the checks of a run rejected, drawn at random, each beside all of its seed."""
    with store.read() as cursor:
        rows = read_rows(cursor, REJECTED, id=run_id, limit=limit, seed=seed)
    return [
        Shown("rejected", (Beside("text", row["text"], _whole(row), False),), (row["found"],), row["reason"])
        for row in rows
    ]


def pairs(store: Store, scope: Scope, *, limit: int) -> list[Pair]:
    """So many retrieval samples, and of each origin and kind so many of their negatives."""
    with store.read() as cursor:
        values = {**scope.values(limit), "task": Task.RETRIEVAL}
        found = {row["revision_id"]: (row["query"], row["positive"]) for row in read_rows(cursor, PAIRS, **values)}
        negatives: dict[UUID, list[tuple[str, str, str]]] = {}
        for row in read_rows(cursor, OF_PAIRS, **values):
            negatives.setdefault(row["revision_id"], []).append((row["origin"], row["kind"], row["text"]))
    return [Pair(*texts, negatives.get(revision_id, ())) for revision_id, texts in found.items()]


def scored_pairs(store: Store, scope: Scope, *, limit: int) -> list[ScoredPair]:
    """So many sts samples, as many of each source as can be, by the names of the sources and then by id."""
    with store.read() as cursor:
        rows = read_rows(cursor, SCORED_PAIRS, **scope.values(limit), task=Task.STS)
    return [ScoredPair(**row) for row in rows]


def written_and_real(store: Store, scope: Scope, *, limit: int) -> list[tuple[str, str]]:
    """Passages that an LLM wrote, each beside the real passage it was made from; no real passage twice."""
    with store.read() as cursor:
        rows = read_rows(cursor, BESIDE_REAL, **scope.values(limit))
    found = [(row["generated"], row["real"]) for row in rows]
    return [(written, real) for written, real in found if normalise(written) != normalise(real)]


def _sample(row: Mapping[str, Any], negatives: Sequence[Mapping[str, Any]]) -> Shown:
    own, parent = _texts(row, "r"), _texts(row, "p")
    if parent:
        parts = [Beside(name, text, parent.get(name, ""), True) for name, text in own.items()]
    else:
        passage = row["passage"] or ""
        parts = [Beside(name, text, passage, False) for name, text in own.items()]
    changed = [part for part in parts if part.text != part.original] or parts
    of = (parent or own).get("passage", "")  # which the checks compare with, and not the passage that is new itself
    written = [Beside(HARD_NEGATIVE, each["text"], of, True) for each in negatives]
    labels = {"label": row["r_label"], "score": row["r_score"]}
    notes = [f"{name}: {value}" for name, value in labels.items() if value is not None]
    notes += [_worse(each) for each in negatives]
    return Shown("sample", (*changed, *written), tuple(notes), sample_id=row["sample_id"])


def _negative(row: Mapping[str, Any]) -> Shown:
    own = _texts(row, "r")
    part = Beside(HARD_NEGATIVE, row["text"], own.get("passage", ""), True)
    return Shown("negative", (part,), (f"query: {own.get('query', '')}", _worse(row)), sample_id=row["sample_id"])


def _worse(row: Mapping[str, Any]) -> str:
    kind = str(row["kind"]).replace("_", " ")
    return f"{kind}, lacks: {row['requirement']}" if row["requirement"] else kind


def _whole(row: Mapping[str, Any]) -> str:
    texts = _texts(row, "r")
    return "\n".join(f"{name}: {text}" for name, text in texts.items()) or row["passage"] or ""


def _texts(row: Mapping[str, Any], alias: str) -> dict[str, str]:
    """The texts of a revision by what they are; of one that is not there, none."""
    match row[f"{alias}_task"]:
        case Task.RETRIEVAL:
            return {"query": row[f"{alias}_query"], "passage": row[f"{alias}_positives"][0]}
        case Task.STS:
            return {"text 1": row[f"{alias}_text1"], "text 2": row[f"{alias}_text2"]}
        case Task.CLASSIFICATION:
            return {"text": row[f"{alias}_text"]}
    return {}

"""
Judgements: what an LLM or a cross-encoder said of passages as answers to a sample's query, and what follows from it.

They decide nothing: docs/judge.md says what they are for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import UUID

import duckdb

from synth.records import new_id, text_id
from synth.store.connection import Store
from synth.store.failures import one_line
from synth.store.reviews import DROPPED
from synth.store.rows import first, insert, now

JudgeKind = Literal["llm", "encoder"]
GRADES = (0, 1, 2, 3)
NEARLY_ALL = 0.95  # of a judge's grades: with so many alike it tells hardly any passages apart
FEWEST_TOLD = 20  # passages, before that is said of a judge

# Which samples are judged: those that nobody rejected, those of them that another judge has a suggestion about or that
# have a negative that mining flagged, or those that people decided, the rejected ones too, so that a judge can be held
# against people.
Scope = Literal["open", "suggested", "flagged", "reviewed"]
TRAINING = """
SELECT st.sample_id, st.revision_id FROM sample_state st JOIN source s USING (source_id)
WHERE st.task = 'retrieval' AND st.declared_use = 'train' AND (len($names) = 0 OR s.name IN (SELECT unnest($names)))
"""
HEAD = f"{TRAINING} AND st.status <> 'rejected'"
REVIEWED = (
    f"{TRAINING} AND (st.decided_kind = 'human'"
    " OR st.sample_id IN (SELECT v.sample_id FROM negative_verdicts v WHERE v.reviewer_kind = 'human'))"
)
# What a judge ($judges, its names) has not graded as it is set now ($key), and has found no relevance of ($version):
# positives, and negatives that nobody dropped (but for "reviewed"). A text that is both is a positive.
SECOND = (
    f"{HEAD} AND st.sample_id IN (SELECT g.sample_id FROM suggestions g WHERE g.judge NOT IN (SELECT unnest($judges))"
    " AND NOT g.is_overruled)"
)
FLAGGED = f"{HEAD} AND st.revision_id IN (SELECT n.revision_id FROM negative n WHERE len(n.flags) > 0)"
HEADS: Mapping[Scope, str] = {"open": HEAD, "suggested": SECOND, "flagged": FLAGGED, "reviewed": REVIEWED}
CHOSEN = "AND st.revision_id IN (SELECT unnest($ids::UUID[]))"
LATEST = "row_number() OVER (PARTITION BY judge, revision_id, text_id ORDER BY created_at DESC, judgement_id DESC) = 1"
FOUND = "judge IN (SELECT unnest($judges)) AND version = $version AND relevance IS NOT NULL"
UNJUDGED = f"""
WITH head AS ({{head}}),
dropped AS ({DROPPED}),
answer AS (
    SELECT h.sample_id, h.revision_id, unnest(r.positives) AS text FROM head h JOIN revision r USING (revision_id)
),
passage AS (
    SELECT sample_id, revision_id, text_id, bool_or(is_positive) AS is_positive FROM (
        SELECT sample_id, revision_id, text_id_of(text) AS text_id, true AS is_positive FROM answer
        UNION ALL
        SELECT n.sample_id, n.revision_id, n.text_id, false FROM negative n SEMI JOIN head h USING (revision_id)
        ANTI JOIN dropped d ON NOT $reviewed AND d.sample_id = n.sample_id AND d.text_id = n.text_id
    ) GROUP BY ALL
),
latest AS (
    SELECT revision_id, text_id, stage_key FROM judgement SEMI JOIN head USING (revision_id)
    WHERE judge IN (SELECT unnest($judges)) QUALIFY {LATEST}
)
SELECT p.* FROM passage p
ANTI JOIN (SELECT * FROM latest WHERE stage_key = $key) l ON l.revision_id = p.revision_id AND l.text_id = p.text_id
ANTI JOIN (SELECT * FROM judgement WHERE {FOUND}) f ON f.revision_id = p.revision_id AND f.text_id = p.text_id
"""
# What an encoder found of latest revisions, and graded otherwise than it is set now.
GRADED_OTHERWISE = f"""
WITH latest AS (
    SELECT revision_id, text_id, stage_key FROM judgement WHERE judge IN (SELECT unnest($judges)) QUALIFY {LATEST}
)
SELECT j.sample_id, j.revision_id, j.text_id, bool_or(j.is_positive), any_value(j.relevance)
FROM judgement j SEMI JOIN sample_state st ON st.sample_id = j.sample_id AND st.revision_id = j.revision_id
SEMI JOIN latest l ON l.revision_id = j.revision_id AND l.text_id = j.text_id AND l.stage_key <> $key
WHERE {FOUND} GROUP BY j.sample_id, j.revision_id, j.text_id ORDER BY j.revision_id, j.text_id
"""
# Those whose request failed come last, those whose request may fail again as it is at the very end; ids begin with a
# time, and a limit would take one source's alone.
PENDING = """
SELECT p.revision_id FROM ({unjudged}) p
LEFT JOIN (SELECT seed_id, bool_or(permanent) AS permanent FROM llm_failure WHERE stage_key = $key GROUP BY 1) f
ON f.seed_id = p.revision_id
GROUP BY p.revision_id HAVING NOT $untried OR any_value(f.permanent) IS NULL
ORDER BY any_value(f.permanent) NULLS FIRST, reverse(p.revision_id::VARCHAR) LIMIT $limit
"""


@dataclass(frozen=True, slots=True)
class Judge:
    """
    Who judges: the models that are asked, or an encoder, as their rows are to name them. `version` is the prompt's, or
    the encoder's fingerprint. `key`: of all that decides what they say; what was said under another is judged anew.
    """

    names: tuple[str, ...]
    kind: JudgeKind
    version: str
    key: UUID


@dataclass(frozen=True, slots=True)
class Ungraded:
    """A passage that a judge is to grade."""

    text_id: UUID
    text: str
    is_positive: bool


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A sample's latest revision, with those of its passages that a judge has not graded, and the ids of the others."""

    sample_id: UUID
    revision_id: UUID
    query: str
    instruction: str
    passages: tuple[Ungraded, ...]
    graded: tuple[UUID, ...] = ()

    @property
    def seed_id(self) -> UUID:
        """What requests about it are stored under."""
        return self.revision_id


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    What a judge says of one passage. `relevance`: a cross-encoder's, 0 to 1. `place`: where the passage stood in the
    request, from 1.
    """

    sample_id: UUID
    revision_id: UUID
    text_id: UUID
    is_positive: bool
    judge: str
    grade: int
    relevance: float | None = None
    reason: str = ""
    place: int | None = None
    call_id: UUID | None = None


def pending(
    store: Store,
    judge: Judge,
    names: Sequence[str],
    *,
    limit: int | None,
    scope: Scope = "open",
    untried: bool = False,
) -> list[UUID]:
    """
    The revisions with passages that the judge has not graded, of the named sources or of all; with `untried` only those
    about which no request has failed.
    """
    unjudged = UNJUDGED.format(head=HEADS[scope])
    values = _asked(judge, names, scope) | {"limit": 1 << 62 if limit is None else limit, "untried": untried}
    with store.read() as cursor:
        rows = cursor.execute(PENDING.format(unjudged=unjudged), values).fetchall()
    return [revision_id for (revision_id,) in rows]


def any_judgeable(store: Store, judge: Judge, names: Sequence[str], scope: Scope) -> bool:
    """Whether there is a sample of the scope, of the named sources or of all, judged by now or not."""
    others = {"judges": list(judge.names)} if scope == "suggested" else {}
    with store.read() as cursor:
        rows = cursor.execute(f"SELECT 1 FROM ({HEADS[scope]}) LIMIT 1", {"names": list(names)} | others)
        return first(rows) is not None


def unjudged(store: Store, judge: Judge, revision_ids: Sequence[UUID], *, scope: Scope = "open") -> list[Unjudged]:
    """These revisions, each with what the judge has not graded of it, in the order given."""
    head = f"{REVIEWED if scope == 'reviewed' else HEAD} {CHOSEN}"
    with store.read() as cursor:
        passages = cursor.execute(
            "SELECT u.revision_id, u.text_id, u.is_positive, t.text"
            f" FROM ({UNJUDGED.format(head=head)}) u LEFT JOIN text t ON t.text_id = u.text_id"
            " ORDER BY u.is_positive DESC, u.text_id",
            _asked(judge, (), scope) | {"ids": [str(each) for each in revision_ids]},
        ).fetchall()
        ids = [str(each) for each in revision_ids]
        contents = cursor.execute(
            "SELECT revision_id, sample_id, query, instruction, positives FROM revision"
            " WHERE revision_id IN (SELECT unnest($ids::UUID[]))",
            {"ids": ids},
        ).fetchall()
        graded = cursor.execute(
            "SELECT revision_id, list(DISTINCT text_id) FROM judgement WHERE stage_key = $key"
            " AND revision_id IN (SELECT unnest($ids::UUID[])) GROUP BY revision_id",
            {"ids": ids, "key": judge.key},
        ).fetchall()
    graded_of = {revision: tuple(text_ids) for revision, text_ids in graded}
    answers = {(row[0], text_id(text)): text for row in contents for text in row[4]}
    of: dict[UUID, list[Ungraded]] = {}
    for revision, each, is_positive, text in passages:
        shown = answers[revision, each] if is_positive else text
        of.setdefault(revision, []).append(Ungraded(each, shown, is_positive))
    found = {
        revision: Unjudged(sample, revision, query, instruction or "", tuple(of[revision]), graded_of.get(revision, ()))
        for revision, sample, query, instruction, _ in contents
        if revision in of
    }
    return [found[each] for each in revision_ids if each in found]


def graded_otherwise(store: Store, judge: Judge, grade: Callable[[float], int]) -> list[Judgement]:
    """
    What an encoder found earlier of latest revisions and graded by other thresholds than now, graded by these: of all
    sources and samples, so that its grades go by one measure.

    Args:
        grade: of a relevance.
    """
    values = {"judges": list(judge.names), "version": judge.version, "key": judge.key}
    with store.read() as cursor:
        rows = cursor.execute(GRADED_OTHERWISE, values).fetchall()
    [name] = judge.names
    return [
        Judgement(sample, revision, text, is_positive, name, grade(relevance), relevance)
        for sample, revision, text, is_positive, relevance in rows
    ]


def add_judgements(
    cursor: duckdb.DuckDBPyConnection, judge: Judge, run_id: UUID, judgements: Sequence[Judgement]
) -> None:
    """Store what a judge said in a run; a reason as one printable line."""
    created_at = now()
    rows = [
        asdict(each)
        | {
            "judgement_id": new_id(),
            "run_id": run_id,
            "stage_key": judge.key,
            "judge_kind": judge.kind,
            "version": judge.version,
            "reason": one_line(each.reason),
            "created_at": created_at,
        }
        for each in judgements
    ]
    insert(cursor, "judgement", rows)


def judges(store: Store) -> list[str]:
    """The names of all that have judged anything."""
    with store.read() as cursor:
        return [name for (name,) in cursor.execute("SELECT DISTINCT judge FROM judgement ORDER BY 1").fetchall()]


def any_judged(store: Store, judge: Judge) -> bool:
    """Whether the judge, as it is set now, has graded anything."""
    with store.read() as cursor:
        return first(cursor.execute("SELECT 1 FROM judgement WHERE stage_key = ? LIMIT 1", [judge.key])) is not None


def attempts_anew(store: Store, judge: Judge) -> dict[UUID, int]:
    """
    The revisions that this judge, as it is set now, got no usable reply about and has not graded since: each with the
    number of the attempt to make, a new one where the same request would fail again.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT l.seed_id, max(l.attempt + l.permanent::INTEGER) FROM llm_failure l LEFT JOIN"
            " (SELECT revision_id, max(created_at) AS last_at FROM judgement WHERE stage_key = $key GROUP BY 1) j"
            " ON j.revision_id = l.seed_id WHERE l.stage_key = $key GROUP BY l.seed_id"
            " HAVING coalesce(max(l.created_at) >= any_value(j.last_at), true)",
            {"key": judge.key},
        ).fetchall()
    return dict(rows)


def paid_tokens(store: Store, judge: Judge, *, limit: int) -> list[tuple[int, int]]:
    """Tokens sent and replied of the latest calls of an LLM as judge, newest first."""
    with store.read() as cursor:
        return cursor.execute(
            "SELECT tokens_in, tokens_out FROM llm_call WHERE asked IN (SELECT unnest($judges))"
            " AND prompt_version = $version AND coalesce(repaired, '') <> 'asked again'"
            " ORDER BY created_at DESC, call_id LIMIT $limit",
            {"judges": list(judge.names), "version": judge.version, "limit": limit},
        ).fetchall()


def grade_counts(store: Store, names: Sequence[str]) -> dict[tuple[str, str], list[int]]:
    """
    How often these judges gave each of GRADES, of the latest revisions: by judge, and by what the passage is: positive,
    or a negative by its origin.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT judge, passage, grade, count(*) FROM (SELECT j.judge, j.grade,"
            " CASE WHEN j.is_positive THEN 'positive' ELSE coalesce(n.origin, 'other') END AS passage"
            " FROM judgements j SEMI JOIN sample_state st USING (sample_id, revision_id)"
            " LEFT JOIN (SELECT revision_id, text_id, min(origin) AS origin FROM negative GROUP BY ALL) n"
            " ON n.revision_id = j.revision_id AND n.text_id = j.text_id WHERE j.judge IN (SELECT unnest($names)))"
            " GROUP BY judge, passage, grade ORDER BY judge, passage <> 'positive', passage",
            {"names": list(names)},
        ).fetchall()
    counts: dict[tuple[str, str], list[int]] = {}
    for judge, passage, grade, number in rows:
        counts.setdefault((judge, passage), [0] * len(GRADES))[grade] = number
    return counts


def alike(counts: Mapping[tuple[str, str], Sequence[int]]) -> list[tuple[str, int, float, int]]:
    """
    Of `grade_counts`: the judges that gave nearly every passage one grade, with that grade, its share, and the number
    of passages, of which there are some.
    """
    totals: dict[str, list[int]] = {}
    for (judge, _), numbers in counts.items():
        before = totals.get(judge, [0] * len(GRADES))
        totals[judge] = [sum(pair) for pair in zip(before, numbers, strict=True)]
    found = []
    for judge, numbers in totals.items():
        number, most = sum(numbers), max(numbers)
        if number >= FEWEST_TOLD and most >= NEARLY_ALL * number:
            found.append((judge, numbers.index(most), most / number, number))
    return found


def _asked(judge: Judge, names: Sequence[str], scope: Scope) -> dict[str, Any]:
    of_judge = {"judges": list(judge.names), "version": judge.version, "key": judge.key}
    return {"names": list(names), **of_judge, "reviewed": scope == "reviewed"}

"""Sources and their passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import duckdb
import pyarrow

from synth.records import Passage, Source, Use, UserError
from synth.store.bulk import add_passage_rows
from synth.store.connection import Store
from synth.store.rows import first, insert, now


@dataclass(frozen=True, slots=True)
class NewPassage:
    """A passage on its way in. `external_id` is the id the source itself gave."""

    text_id: UUID
    text: str
    title: str
    external_id: str


def add_source(cursor: duckdb.DuckDBPyConnection, source: Source, run_id: UUID) -> bool:
    """Store a source; False if the very same (name, split and version) is there already."""
    if first(cursor.execute("SELECT 1 FROM source WHERE source_id = ?", [source.source_id])):
        return False
    row = {name: getattr(source, name) for name in ("source_id", *source.__dataclass_fields__)}
    insert(cursor, "source", [row | {"run_id": run_id, "created_at": now()}])
    return True


def add_passages(cursor: duckdb.DuckDBPyConnection, source_id: UUID, passages: Sequence[NewPassage]) -> int:
    """Store a source's passages, each text once in the store and once in the corpus. Returns how many are new to it."""
    columns = {name: [getattr(passage, name) for passage in passages] for name in ("text", "title", "external_id")}
    rows = pyarrow.table({name: pyarrow.array(values, pyarrow.string()) for name, values in columns.items()})
    return add_passage_rows(cursor, rows, source_id=source_id)


def source_names(store: Store) -> list[str]:
    """The names of all sources, in alphabetical order."""
    with store.read() as cursor:
        return [name for (name,) in cursor.execute("SELECT DISTINCT name FROM source ORDER BY name").fetchall()]


def kinds(store: Store) -> dict[str, str]:
    """The layout that each source was read from, by name."""
    with store.read() as cursor:
        return dict(cursor.execute("SELECT DISTINCT name, kind FROM source").fetchall())


def check_sources(store: Store, names: Sequence[str]) -> None:
    """Raise UserError if one of the names is no source of this store."""
    known = source_names(store)
    for name in names:
        if name not in known:
            raise UserError(f"no source is called {name}; this store has: {', '.join(known) or 'none yet'}")


SMALL = """
SELECT s.name, count(DISTINCT p.text_id) AS num_passages FROM passage p JOIN source s USING (source_id)
WHERE s.name IN (
    SELECT o.name FROM mined m JOIN sample_state st USING (revision_id) JOIN source o ON o.source_id = st.source_id
    WHERE m.positive_rank IS NOT NULL AND st.declared_use = 'train' AND st.operation <> 'ingest'
      AND st.decided_kind IS DISTINCT FROM 'human'
)
GROUP BY s.name HAVING num_passages < $fewer_than ORDER BY s.name
"""


def small_corpora(store: Store, fewer_than: int) -> dict[str, int]:
    """
    The corpora with fewer passages than that in which positives of generated samples were ranked, of those that no
    person decided: passages by the name of the source.
    """
    with store.read() as cursor:
        return dict(cursor.execute(SMALL, {"fewer_than": fewer_than}).fetchall())


# The texts that samples brought, of sources of these names: a query's answers and the labelled negatives. Only samples
# that came in, as they are or as a reviewer edited them: what was generated says a passage again, and is none.
BROUGHT = """
SELECT s.name, st.source_id, unnest(r.positives) AS text
FROM sample_state st JOIN revision r USING (revision_id) JOIN source s ON s.source_id = st.source_id
SEMI JOIN (SELECT sample_id FROM revision WHERE number = 1 AND operation = 'ingest') f ON f.sample_id = st.sample_id
WHERE st.task = 'retrieval' AND s.name IN (SELECT unnest($names))
UNION ALL
SELECT s.name, st.source_id, t.text
FROM sample_state st JOIN negative n USING (revision_id) JOIN text t USING (text_id)
JOIN source s ON s.source_id = st.source_id
WHERE st.task = 'retrieval' AND n.origin = 'labelled' AND s.name IN (SELECT unnest($names))
"""


def corpora(store: Store, names: Sequence[str] = (), *, declared_use: Use | None = None) -> dict[str, list[Passage]]:
    """
    The corpus of every source (or of those named): name -> its passages, ordered by text id.

    All splits and versions of one name share one corpus. With `declared_use`, only what was declared so; a passage
    that is declared both is held out. Without it, what there is to search: a name that has samples but no passages (it
    came as pairs or triplets) has the texts that those samples brought for a corpus.
    """
    with store.read() as cursor:
        return read_corpora(cursor, names, declared_use=declared_use)


def read_corpora(
    cursor: duckdb.DuckDBPyConnection, names: Sequence[str], *, declared_use: Use | None = None
) -> dict[str, list[Passage]]:
    """What `corpora` gives, within a lease."""
    rows = cursor.execute(
        "SELECT s.name, p.text_id, any_value(t.text), any_value(p.title), min(p.source_id)"
        " FROM passage p JOIN source s USING (source_id) JOIN text t USING (text_id)"
        " WHERE (len($names) = 0 OR s.name IN (SELECT unnest($names)))"
        " AND ($use IS NULL OR s.declared_use = $use) AND NOT ($use IS NOT DISTINCT FROM 'train' AND p.text_id IN"
        " (SELECT o.text_id FROM passage o JOIN source e USING (source_id) WHERE e.declared_use = 'eval'))"
        " GROUP BY s.name, p.text_id ORDER BY s.name, p.text_id",
        {"names": list(names), "use": declared_use},
    ).fetchall()
    if declared_use is None:
        rows += _brought(cursor, names)
    found: dict[str, list[Passage]] = {}
    for name, text_id, text, title, source_id in rows:
        found.setdefault(name, []).append(Passage(text_id, text, title, source_id))
    return found


def _brought(cursor: duckdb.DuckDBPyConnection, names: Sequence[str]) -> list[tuple[str, UUID, str, str, UUID]]:
    """The corpora of the names without passages."""
    bare = cursor.execute(
        "SELECT DISTINCT name FROM source WHERE (len($names) = 0 OR name IN (SELECT unnest($names)))"
        " AND name NOT IN (SELECT s.name FROM source s SEMI JOIN passage p USING (source_id))",
        {"names": list(names)},
    ).fetchall()
    if not bare:
        return []
    return cursor.execute(
        f"SELECT name, text_id_of(text) AS text_id, min(text), '', min(source_id) FROM ({BROUGHT})"
        " GROUP BY name, text_id ORDER BY name, text_id",
        {"names": [name for (name,) in bare]},
    ).fetchall()


def store_brought(cursor: duckdb.DuckDBPyConnection, names: Sequence[str], text_ids: Sequence[UUID]) -> None:
    """Store those of the texts that are not in the store as texts yet, but that samples of these sources brought."""
    missing = cursor.execute(
        "SELECT text_id FROM (SELECT DISTINCT unnest($ids::UUID[]) AS text_id) ANTI JOIN text USING (text_id)",
        {"ids": [str(each) for each in text_ids]},
    ).fetchall()
    if missing:
        cursor.execute(
            "INSERT INTO text BY NAME SELECT text_id_of(text) AS text_id, min(text) AS text, $now AS created_at"
            f" FROM ({BROUGHT}) GROUP BY ALL HAVING text_id IN (SELECT unnest($ids::UUID[]))",
            {"now": now(), "names": list(names), "ids": [str(each) for (each,) in missing]},
        )

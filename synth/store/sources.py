"""Sources and their passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import duckdb

from synth.records import Passage, Source, Use, UserError
from synth.store.connection import Store
from synth.store.rows import batch, first, insert, now


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
    unique = {passage.text_id: passage for passage in passages}
    rows = [
        {"source_id": source_id, "text_id": p.text_id, "title": p.title, "external_id": p.external_id, "text": p.text}
        for p in unique.values()
    ]
    if not rows:
        return 0
    with batch(cursor, rows):
        cursor.execute(
            "INSERT INTO text SELECT text_id::UUID, text, ? FROM batch b"
            " WHERE NOT EXISTS (SELECT 1 FROM text t WHERE t.text_id = b.text_id::UUID)",
            [now()],
        )
        added = cursor.execute(
            "INSERT INTO passage SELECT source_id::UUID, text_id::UUID, title, external_id FROM batch b"
            " WHERE NOT EXISTS (SELECT 1 FROM passage p"
            " WHERE p.text_id = b.text_id::UUID AND p.source_id = b.source_id::UUID)"
        ).fetchall()
    return int(added[0][0])


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


def corpora(store: Store, names: Sequence[str] = (), *, declared_use: Use | None = None) -> dict[str, list[Passage]]:
    """
    The corpus of every source (or of those named): name -> its passages, ordered by text id.

    All splits and versions of one name share one corpus. With `declared_use`, only what was declared so; a passage
    that is declared both is held out.
    """
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT s.name, p.text_id, any_value(t.text), any_value(p.title), min(p.source_id)"
            " FROM passage p JOIN source s USING (source_id) JOIN text t USING (text_id)"
            " WHERE (len($names) = 0 OR s.name IN (SELECT unnest($names)))"
            " AND ($use IS NULL OR s.declared_use = $use) AND NOT ($use IS NOT DISTINCT FROM 'train' AND p.text_id IN"
            " (SELECT o.text_id FROM passage o JOIN source e USING (source_id) WHERE e.declared_use = 'eval'))"
            " GROUP BY s.name, p.text_id ORDER BY s.name, p.text_id",
            {"names": list(names), "use": declared_use},
        ).fetchall()
    found: dict[str, list[Passage]] = {}
    for name, text_id, text, title, source_id in rows:
        found.setdefault(name, []).append(Passage(text_id, text, title, source_id))
    return found

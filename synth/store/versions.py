"""What the store holds of earlier versions of a data set, so that a new one brings only what is new."""

from datetime import datetime

import duckdb
import pyarrow

from synth.records import Source, Use
from synth.store.connection import Store
from synth.store.rows import first


def earlier_version(store: Store, name: str, version: str) -> datetime | None:
    """When another version of the data set of this name was last ingested (UTC); None if there is none."""
    with store.read() as cursor:
        row = first(
            cursor.execute(
                "SELECT max(created_at) FROM source WHERE name = $name AND version <> $version",
                {"name": name, "version": version},
            )
        )
    return row[0] if row else None


def without_known_passages(cursor: duckdb.DuckDBPyConnection, rows: pyarrow.Table, source: Source) -> pyarrow.Table:
    """
    The passages (`text` and other columns) that no other version or split of this data set, declared for the same use,
    has in its corpus.
    """
    cursor.register("incoming", rows)
    try:
        return cursor.sql(
            "SELECT i.* FROM incoming i ANTI JOIN ("
            " SELECT p.text_id FROM passage p JOIN source s ON s.source_id = p.source_id"
            " WHERE s.name = $name AND s.declared_use = $use AND s.source_id <> $source"
            ") k ON k.text_id = text_id_of(i.text)",
            params={"name": source.name, "use": Use(source.declared_use).value, "source": str(source.source_id)},
        ).to_arrow_table()
    finally:
        cursor.unregister("incoming")

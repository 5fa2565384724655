"""
A scratch DuckDB over the spooled files of an import: what must hold between the rows of a data set, asked out of core.

It holds nothing of the store. Its memory is bounded; what does not fit goes to files in the import's own folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow

from synth.records import StoreError

MEMORY = "512MB"
FETCH = 2048  # rows of a result that are in memory at one time


class Scratch:
    """Queries over the files passages, queries, judgements and samples of one set."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        for path in sorted(folder.glob("*.parquet")):
            connection.execute(f"CREATE VIEW {path.stem} AS FROM {self._file(path.stem)}")

    def repeated(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of `passages` or `queries` whose id stands in an earlier row, in their order."""
        yield from self._rows(
            f"SELECT t.file, t.line, t.external_id FROM {table} t"
            f" JOIN (SELECT external_id, min(place) AS place FROM {table} GROUP BY external_id HAVING count(*) > 1) f"
            " ON f.external_id = t.external_id AND f.place < t.place ORDER BY t.place"
        )

    def keep_first(self, table: str) -> None:
        """Leave the rows out of the file, for good, whose id stands in an earlier row."""
        kept = self._folder / f"{table}.kept"
        quoted = str(kept).replace("'", "''")
        self._connection.execute(
            f"COPY (SELECT t.* FROM {table} t SEMI JOIN"
            f" (SELECT min(place) AS place FROM {table} GROUP BY external_id) f USING (place))"
            f" TO '{quoted}' (FORMAT parquet)"
        )
        kept.replace(self._folder / f"{table}.parquet")

    def unknown_passages(self) -> Iterator[dict[str, Any]]:
        """The judgements of passages that are not in the corpus, in their order."""
        yield from self._rows(
            "SELECT j.file, j.line, j.external_id, j.passage FROM judgements j"
            " ANTI JOIN passages p ON p.external_id = j.passage ORDER BY j.place"
        )

    def judged_splits(self) -> list[str]:
        """The splits of the judgements and queries."""
        rows = self._rows("SELECT split FROM judgements UNION SELECT split FROM queries ORDER BY split")
        return [row["split"] for row in rows if row["split"] is not None]

    def answered(self, held_out: Sequence[str]) -> Iterator[dict[str, Any]]:
        """
        The queries, each with one passage that answers it a row, in the order of the queries and of their judgements:
        `place`, `external_id`, `query`, `split`, `text`.

        A query's split is its own, else that of its judgements: the first that is among `held_out`, else the first.
        """
        yield from self._rows(
            "WITH judged AS ("
            " SELECT external_id, arg_min(split, place + CASE WHEN split IN (SELECT unnest($held_out))"
            " THEN 0 ELSE 1::BIGINT << 61 END) AS split FROM judgements WHERE split IS NOT NULL GROUP BY external_id)"
            " SELECT q.place, q.external_id, q.query, coalesce(q.split, d.split) AS split, p.text"
            " FROM judgements j JOIN queries q ON q.external_id = j.external_id"
            " JOIN passages p ON p.external_id = j.passage LEFT JOIN judged d ON d.external_id = j.external_id"
            " WHERE j.grade > 0 ORDER BY q.place, j.place",
            {"held_out": list(held_out)},
        )

    def count_unanswered(self) -> int:
        """How many queries have no passage that answers them."""
        return self._number(
            "SELECT count(*) FROM queries q ANTI JOIN (SELECT external_id FROM judgements WHERE grade > 0) j"
            " USING (external_id)"
        )

    def count_unasked(self) -> int:
        """How many judgements are of queries that are not there."""
        return self._number("SELECT count(*) FROM judgements j ANTI JOIN queries q USING (external_id)")

    def count_graded(self) -> int:
        """How many judgements have a grade above 0 other than 1, which is not kept."""
        return self._number("SELECT count(*) FROM judgements WHERE grade > 0 AND grade <> 1")

    def count_passages(self) -> int:
        """How many different texts the passages are."""
        return self._number("SELECT count(DISTINCT md5_number(text)) FROM passages")

    def splits(self) -> dict[str, int]:
        """How many samples each split has, in alphabetical order."""
        return {
            row["split"]: row["n"]
            for row in self._rows("SELECT split, count(*) AS n FROM samples GROUP BY split ORDER BY split")
        }

    def passages(self) -> Iterator[pyarrow.Table]:
        """The passages, each text once, in small tables: text, title, external_id."""
        yield from self._tables(
            "SELECT p.text, p.title, p.external_id FROM passages p"
            " SEMI JOIN (SELECT min(place) AS place FROM passages GROUP BY md5_number(text)) f USING (place)"
        )

    def samples(self, split: str) -> Iterator[pyarrow.Table]:
        """The samples of a split in their order, in small tables."""
        yield from self._tables("SELECT * EXCLUDE (split) FROM samples WHERE split = $split", {"split": split})

    def _file(self, table: str) -> str:
        quoted = str(self._folder / f"{table}.parquet").replace("'", "''")
        return f"read_parquet('{quoted}', hive_partitioning = false)"

    def _number(self, sql: str) -> int:
        [row] = self._rows(sql)
        return int(next(iter(row.values())))

    def _rows(self, sql: str, values: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        for table in self._tables(sql, values):
            yield from table.to_pylist()

    def _tables(self, sql: str, values: Mapping[str, Any] | None = None) -> Iterator[pyarrow.Table]:
        try:
            with closing(self._connection.cursor()) as cursor:
                reader = cursor.sql(sql, params=values or {}).to_arrow_reader(FETCH)
                for batch in reader:
                    if batch.num_rows:
                        yield pyarrow.Table.from_batches([batch])
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise StoreError(f"the import cannot be checked: {str(error).splitlines()[0]}; free some disk") from None


@contextmanager
def scratch(folder: Path) -> Iterator[Scratch]:
    """A scratch database over the Parquet files of a folder, each a view of its name."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(folder / "spill"),
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
    }
    with closing(duckdb.connect(":memory:", config=settings)) as connection:
        yield Scratch(connection, folder)

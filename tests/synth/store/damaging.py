"""Stores that a disk has damaged: bytes overwritten within one of DuckDB's blocks."""

import random
from pathlib import Path

from synth.records import Draft, Retrieval, Source, Use, new_id, text_id
from synth.store import runs, samples, sources
from synth.store.connection import Store

HEADERS, BLOCK = 12_288, 262_144  # bytes before the first block, and of a block


def fill(store: Store, num_samples: int = 600) -> None:
    """Samples and passages whose words no compression makes small."""
    chance = random.Random(7)

    def words(number: int) -> str:
        return " ".join(chance.randbytes(6).hex() for _ in range(number))

    source = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    with runs.recorded(store, "ingest", {}) as run, store.write() as cursor:
        sources.add_source(cursor, source, run.run_id)
        drafts = [Draft(Retrieval(words(5), (words(80),)), source.source_id, "query") for _ in range(num_samples)]
        samples.add_drafts(cursor, drafts, run.run_id)
        texts = [words(80) for _ in range(num_samples)]
        passages = [sources.NewPassage(text_id(text), text, "", str(new_id())) for text in texts]
        sources.add_passages(cursor, source.source_id, passages)


def num_blocks(path: Path) -> int:
    """The blocks of a store's file."""
    return (path.stat().st_size - HEADERS) // BLOCK


def damage(path: Path, block: int) -> None:
    """Overwrite 1,000 bytes within one block."""
    with path.open("r+b") as file:
        file.seek(HEADERS + block * BLOCK + 5_000)
        file.write(b"\xa5" * 1_000)


def damage_table(store: Store, table: str, column: str) -> None:
    """Damage the first block that holds a column of a table."""
    with store.read() as cursor:
        [(block,)] = cursor.execute(
            f"SELECT min(block_id) FROM pragma_storage_info('{table}') WHERE column_name = '{column}' AND block_id >= 0"
        ).fetchall()
    damage(store.path, block)

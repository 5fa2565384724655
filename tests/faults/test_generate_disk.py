"""A disk that fills while replies come: all that was paid for is stored by the next run, which asks for nothing."""

import os
from pathlib import Path

import pytest

from synth.records import Source, StoreError, Use, new_id, text_id
from synth.store import sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.sources import NewPassage
from tests.chat_server import ChatServer, Messages, queries_about
from tests.synth.stages.generating import TEXTS, plan, run, samples

SOURCE = Source("harbours", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
LEFT = 16 << 10  # bytes of the disk: room for replies in the journal, and too little for the samples made of them


async def test_what_was_paid_for_when_the_disk_filled_is_stored_by_the_next_run_without_a_request(
    small_disk: Path,
) -> None:
    ballast = small_disk / "ballast"

    def reply_and_fill(messages: Messages) -> str:
        disk = os.statvfs(small_disk)
        with ballast.open("ab") as file:
            file.write(bytes(max(disk.f_bavail * disk.f_bsize - LEFT, 0)))
        return queries_about(messages)

    store = Store.create(small_disk / "store.duckdb")
    passages = [NewPassage(text_id(text), text, text.split("\n")[0], "") for text in TEXTS]
    with store.write() as cursor:
        sources.add_source(cursor, SOURCE, new_id())
        sources.add_passages(cursor, SOURCE.source_id, passages)
    async with ChatServer(reply_and_fill) as server:
        with pytest.raises(StoreError, match=r"^\S+store.duckdb: the disk is full .*; free some and run again$"):
            await run(store, plan(store, small_disk, server.base_url))
        assert (server.paid, samples(store)) == (5, [])
        ballast.unlink()
        outcome = await run(store, plan(store, small_disk, server.base_url))
        assert (server.paid, outcome.num_done, len(samples(store))) == (5, 5, 15)
    failed, done = query(store, "SELECT status, reason, requests FROM runs ORDER BY started_at").to_pylist()
    assert (failed["status"], failed["requests"], done["status"], done["requests"]) == ("failed", 5, "done", 0)
    assert "the disk is full" in failed["reason"]

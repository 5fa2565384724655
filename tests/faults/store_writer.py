"""
Writers to a store, to be killed: a server that forks one for every name on its standard input, and says its number.

A writer stores drafts, negatives and reviews, a batch a transaction, and acknowledges each batch after its commit by a
line in the file of its name: the batch's kind, and the queries or ids that must be there from then on.

Arguments of the server: the store, the folder of the acknowledgements.
"""

import os
import signal
import sys
from pathlib import Path
from uuid import UUID

from synth.records import Draft, Negative, Retrieval, ReviewEvent, Verdict, key_of, new_id
from synth.store import minings, samples
from synth.store.connection import Store
from synth.store.reviews import add_reviews

BATCH = 20
STAGE = key_of("mine", "test")


def serve(path: Path, folder: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are nobody's to wait for
    for line in sys.stdin:
        name = line.strip()
        number = os.fork()
        if number == 0:
            write_for_ever(Store.open(path), name, folder / name)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


def write_for_ever(store: Store, name: str, acknowledgements: Path) -> None:
    with store.read() as cursor:
        [(source_id, run_id)] = cursor.execute("SELECT source_id, run_id FROM source").fetchall()
        passages = [text_id for (text_id,) in cursor.execute("SELECT text_id FROM passage ORDER BY ALL").fetchall()]
    with acknowledgements.open("w", buffering=1) as told:
        number = 0
        while True:
            queries = [f"{name}/{number + index}" for index in range(BATCH)]
            add_drafts(store, queries, source_id, run_id)
            told.write(f"drafts {' '.join(queries)}\n")
            mined = add_mined(store, passages, run_id)
            told.write(f"mined {' '.join(map(str, mined))}\n")
            told.write(f"reviews {' '.join(map(str, review(store, mined)))}\n")
            number += BATCH


def add_drafts(store: Store, queries: list[str], source_id: UUID, run_id: UUID) -> None:
    drafts = [Draft(Retrieval(query, (f"answers {query}",)), source_id, "query") for query in queries]
    with store.write() as cursor:
        samples.add_drafts(cursor, drafts + drafts[:3], run_id)


def add_mined(store: Store, passages: list[UUID], run_id: UUID) -> list[UUID]:
    """Negatives for what is not mined yet, of this writer and of those before it; another one may be at the same."""
    found = minings.minable(store, STAGE)[:BATCH]
    results = []
    for place, sample in enumerate(found):
        negatives = tuple(
            Negative(
                sample.sample_id, sample.revision_id, passages[(place + rank) % len(passages)], "mined", rank, 0.5, 0.8
            )
            for rank in (1, 2, 3)
        )
        results.append(minings.Mined(sample, "full", "", 1, negatives))
    with store.write() as cursor:
        minings.add_mined(cursor, STAGE, run_id, results)
    return [sample.revision_id for sample in found]


def review(store: Store, revisions: list[UUID]) -> list[UUID]:
    events = [
        ReviewEvent(new_id(), "ada", revision, revision, Verdict.APPROVE if place % 3 else Verdict.REJECT)
        for place, revision in enumerate(revisions)
    ]
    add_reviews(store, events)
    add_reviews(store, events)  # sent twice, as an outbox does that got no answer
    return [event.review_id for event in events]


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:]))

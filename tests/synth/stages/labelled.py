"""What tests of mining among labelled samples share: sources of them, and vectors at chosen angles."""

import json
from collections.abc import Mapping
from math import cos, radians, sin
from pathlib import Path
from uuid import UUID

import numpy as np

from synth.records import Content, Draft, ReviewEvent, Source, Use, Verdict, new_id
from synth.store import samples, sources
from synth.store.connection import Store
from synth.store.console import query
from synth.store.reviews import add_reviews


def add_samples(store: Store, *contents: Content, name: str = "moods", use: Use = Use.TRAIN) -> None:
    """Samples of a source that is made if it is not there."""
    source = Source(name, "train" if use is Use.TRAIN else "test", use, "labelled", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        samples.add_drafts(cursor, [Draft(each, source.source_id, "ingest") for each in contents], new_id())


def at_angles(folder: Path, degrees: Mapping[str, float]) -> str:
    """A folder of vectors, one a text: the cosine of two is that of the angle between them."""
    folder.mkdir()
    angles = [radians(each) for each in degrees.values()]
    lines = [json.dumps({"text": text}) + "\n" for text in degrees]
    for side in ("queries", "passages"):
        turned = 0 if side == "queries" else radians(37)  # of no use: neither text answers the other
        np.save(folder / f"{side}.npy", np.array([[cos(each), sin(each + turned)] for each in angles], np.float32))
        (folder / f"{side}.jsonl").write_text("".join(lines), encoding="utf-8")
    return str(folder)


def say(store: Store, verdict: Verdict, text: str) -> None:
    """A reviewer's word on the sample that has this text, or the pair whose first text it is."""
    sql = "SELECT sample_id::VARCHAR AS s, revision_id::VARCHAR AS r, coalesce(text, text1) AS asked FROM samples"
    [row] = [row for row in query(store, sql).to_pylist() if row["asked"] == text]
    add_reviews(store, [ReviewEvent(new_id(), "ann", UUID(row["s"]), UUID(row["r"]), verdict)])

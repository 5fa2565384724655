"""Seeds that are done, for tests that do not care what they were."""

from collections import Counter
from collections.abc import Iterable, Mapping
from uuid import UUID

import duckdb

from synth.records import Draft, Passage, key_of, new_id
from synth.store.made import Finished, Rejected, Stored, add_finished

NOTHING: Mapping[str, int] = {}


def done(seed_id: UUID, drafts: Iterable[Draft] = (), rejections: Mapping[str, int] = NOTHING) -> Finished:
    """A passage with what it gave and how many texts were rejected for which reason."""
    rejected = [Rejected(reason, "a text", "what was found") for reason in Counter(rejections).elements()]
    return Finished(Passage(seed_id, "", "", key_of("a source")), list(drafts), rejected)


def finish(cursor: duckdb.DuckDBPyConnection, stage_key: UUID, *seed_ids: UUID, run_id: UUID | None = None) -> Stored:
    """Passages are done and gave nothing."""
    return add_finished(cursor, stage_key, run_id or new_id(), [done(each) for each in seed_ids])

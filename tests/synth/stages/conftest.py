"""A store with something to ask about."""

import pytest

from synth.records import Source, Use, new_id, text_id
from synth.store import sources
from synth.store.connection import Store
from synth.store.sources import NewPassage
from tests.synth.stages.generating import TEXTS


@pytest.fixture
def with_passages(store: Store) -> Store:
    """A store with five passages of a source to train on."""
    source = Source("harbours", "corpus", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, text.split("\n")[0], str(n)) for n, text in enumerate(TEXTS)]
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
    return store

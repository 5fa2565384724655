"""Which samples are alike, by vectors that are cached or made on the way. docs/explore.md."""

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from mining.encode import load_encoder
from synth.records import Classification, Retrieval, Sts, UserError
from synth.stages import nearest as module
from synth.stages.mine.settings import MineSettings
from synth.stages.nearest import Space, nearest, open_space, project
from synth.stages.vectors import vectors_of
from synth.store.connection import Store
from synth.store.exploring import Filter, Head, heads_of, listed
from tests.mining.small_models import save_encoder
from tests.review_app.seeding import add_samples, add_unmined

QUERIES = [f"What does harbour number {number} charge a boat of {number} metres?" for number in range(12)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> str:
    return save_encoder(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def settings(encoder: str) -> MineSettings:
    return MineSettings(encoder=encoder, precision="fp32")


@pytest.fixture
def samples(store: Store) -> list[UUID]:
    add_unmined(store, Sts("It rains.", "Rain falls.", 4.5))
    add_unmined(store, Classification("It is late.", "time"))
    return add_samples(store, QUERIES)


def everything(store: Store, space: Space) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    return space.kept(heads_of(store, Filter())["revision_id"].combine_chunks())


def test_the_nearest_are_those_of_the_highest_cosine(
    store: Store, samples: list[UUID], settings: MineSettings, tmp_path: Path
) -> None:
    space = open_space(store, settings, tmp_path / "cache", seconds=60)
    assert (len(space.sample_ids), space.num_without) == (14, 0)
    found = nearest(store, space, samples[3], everything(store, space), 5)
    texts = [*QUERIES, "It rains.", "It is late."]
    vectors_ND = load_encoder(settings.encoder, device="cpu", precision="fp32").for_queries().encode(texts)
    cosine_N = vectors_ND @ vectors_ND[3]
    expected = sorted(range(14), key=lambda place: -cosine_N[place])[:5]
    assert [each.text for each in listed(store, found)] == [texts[place] for place in expected]
    np.testing.assert_allclose([cosine for _, cosine in found], cosine_N[expected], atol=1e-5)


def test_only_what_a_filter_keeps_is_compared_and_the_sample_itself_comes_first(
    store: Store, samples: list[UUID], settings: MineSettings, tmp_path: Path
) -> None:
    space = open_space(store, settings, tmp_path / "cache", seconds=60)
    kept = space.kept(heads_of(store, Filter(task="sts"))["revision_id"].combine_chunks())
    found = nearest(store, space, samples[0], kept, 5)
    assert found[0] == (Head(samples[0], samples[0]), 1.0)
    assert [each.text for each in listed(store, found)] == [QUERIES[0], "It rains."]


def test_what_is_cached_is_not_encoded_and_what_there_is_no_time_for_is_left_out(
    store: Store, samples: list[UUID], settings: MineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 2)
    cached = load_encoder(settings.encoder, device="cpu", precision="fp32", folder=tmp_path).for_queries()
    vectors_of(cached, QUERIES[:6], tmp_path, [])
    space = open_space(store, settings, tmp_path, seconds=0)
    assert (len(space.sample_ids), space.num_without) == (8, 6)
    again = open_space(store, settings, tmp_path, seconds=0)
    assert (len(again.sample_ids), again.num_without) == (10, 4)


def test_a_sample_that_has_no_vector_yet_gets_one(
    store: Store, samples: list[UUID], settings: MineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 1)
    space = open_space(store, settings, tmp_path, seconds=0)
    without = next(each for each in samples if str(each) not in space.sample_ids.to_pylist())
    found = nearest(store, space, without, everything(store, space), 5)
    assert [head.sample_id for head, _ in found] == [without, UUID(space.sample_ids[0].as_py())]


def test_vectors_of_ones_own_are_taken_as_they_are(store: Store, tmp_path: Path) -> None:
    first, second = add_samples(store, ["When?", "Where?"])
    folder = tmp_path / "vectors"
    folder.mkdir()
    np.save(folder / "queries.npy", np.array([[1, 0], [0.6, 0.8]], dtype=np.float32))
    (folder / "queries.jsonl").write_text('{"text": "When?"}\n{"text": "Where?"}\n')
    np.save(folder / "passages.npy", np.array([[1, 0]], dtype=np.float32))
    (folder / "passages.jsonl").write_text('{"text": "Then."}\n')
    space = open_space(store, MineSettings(encoder=str(folder)), tmp_path / "cache")
    found = nearest(store, space, first, everything(store, space), 5)
    assert [(head.sample_id, round(cosine, 6)) for head, cosine in found] == [(first, 1.0), (second, 0.6)]
    add_unmined(store, Retrieval("Why?", ("So.",)))
    with pytest.raises(UserError, match="Why"):
        open_space(store, MineSettings(encoder=str(folder)), tmp_path / "cache")


def test_no_such_encoder_is_told(store: Store, samples: list[UUID], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        open_space(store, MineSettings(encoder=str(tmp_path / "nowhere")), tmp_path)


def test_an_empty_store_has_an_empty_space(store: Store, settings: MineSettings, tmp_path: Path) -> None:
    space = open_space(store, settings, tmp_path)
    rows, at_P2 = project(space, everything(store, space))
    assert (len(rows), at_P2.shape) == (0, (0, 2))


def test_the_map_has_the_axes_of_greatest_variance(store: Store, settings: MineSettings, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    at_N3 = rng.normal(size=(500, 3)).astype(np.float32) * np.array([1.0, 5.0, 3.0], dtype=np.float32)
    space = open_space(store, settings, tmp_path)
    space = Space(space.sample_ids, space.revision_ids, at_N3, 0, space.encoder, space.folder, True)
    rows, at_P2 = project(space, np.arange(500))
    assert (rows == np.arange(500)).all()
    for axis, column in ((0, 1), (1, 2)):
        assert np.corrcoef(at_P2[:, axis], at_N3[:, column])[0, 1] > 0.97  # the sign is fixed too

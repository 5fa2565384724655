"""mining.relevances with a real cross-encoder: what is reused, and what survives a kill, damage or a full disk."""

import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mining import MiningError, relevances
from mining.relevances import Scored, relevances_cached
from mining.rerank import Reranker, load_reranker
from tests.conftest import REPOSITORY
from tests.mining.small_models import save_cross_encoder

QUERIES = [f"who rows boat {number}?" for number in range(5)]
PASSAGES = [f"Boat {number} is rowed by {'one person ' * (1 + number)}only." for number in range(4)]
Ids = NDArray[np.uint8]


def ids_of(numbers: list[int]) -> Ids:
    return np.frombuffer(b"".join(number.to_bytes(16, "big") for number in numbers), np.uint8).reshape(-1, 16)


ROWS = [(query, passage) for query in range(5) for passage in range(4)]  # 20 pairs


class Asked:
    """Texts of pairs, as they are asked for."""

    def __init__(self, rows: list[tuple[int, int]] = ROWS) -> None:
        self.rows, self.blocks = rows, list[list[int]]()
        self.ids = ids_of([9 - query for query, _ in rows]), ids_of([passage for _, passage in rows])

    def __call__(self, rows: NDArray[np.int64]) -> list[tuple[str, str]]:
        self.blocks.append(rows.tolist())
        return [(QUERIES[query], PASSAGES[passage]) for query, passage in (self.rows[row] for row in rows)]


def score(
    reranker: Reranker, folder: Path, asked: Asked | None = None, on_progress: Callable[[int], object] = id
) -> Scored:
    asked = asked or Asked()
    return relevances_cached(reranker, *asked.ids, asked, folder, lambda ready: on_progress(ready) and None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_cross_encoder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def reranker(model: str, one_thread: None) -> Reranker:
    return load_reranker(model, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevances, "BLOCK_CPU", 8)
    monkeypatch.setattr(relevances, "SHARD_SECONDS", 0.0)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.shard"))


def test_relevances_are_the_models_in_the_order_of_the_ids(reranker: Reranker, tmp_path: Path) -> None:
    first = score(reranker, tmp_path)
    again = score(reranker, tmp_path, Asked(ROWS[::-1]))
    texts = [(QUERIES[query], PASSAGES[passage]) for query, passage in ROWS]
    assert first.relevance_N.dtype == np.float32
    np.testing.assert_allclose(first.relevance_N, reranker.relevances(texts), atol=1e-6)
    assert (again.relevance_N == first.relevance_N[::-1]).all() and first.relevance_N.std() > 0.01


def test_a_second_run_scores_and_asks_for_only_what_is_new(reranker: Reranker, tmp_path: Path) -> None:
    score(reranker, tmp_path, Asked(ROWS[4:14]))
    asked = Asked()
    second = score(reranker, tmp_path, asked)
    assert (second.num_cached, second.num_scored) == (10, 10)
    assert asked.blocks == [[0, 1, 2, 3, 14, 15, 16, 17], [18, 19]]


def test_query_and_passage_are_not_the_same_the_other_way_round(reranker: Reranker, tmp_path: Path) -> None:
    score(reranker, tmp_path, Asked([(1, 2)]))
    assert score(reranker, tmp_path, Asked([(2, 1)])).num_scored == 1


def test_the_same_pair_is_scored_once_and_served_everywhere(reranker: Reranker, tmp_path: Path) -> None:
    seen: list[int] = []
    asked = Asked(ROWS[:3] * 4)
    scored = score(reranker, tmp_path, asked, seen.append)
    assert scored.num_scored == 3 and asked.blocks == [[0, 1, 2]]
    assert (scored.relevance_N.reshape(4, 3) == scored.relevance_N[:3]).all()
    assert seen == [0, 12]


def test_progress_counts_what_became_ready_block_by_block(reranker: Reranker, tmp_path: Path) -> None:
    seen: list[int] = []
    score(reranker, tmp_path, on_progress=seen.append)
    assert seen == [0, 8, 8, 4]
    again: list[int] = []
    score(reranker, tmp_path, on_progress=again.append)
    assert again == [20]


def test_no_pairs_are_no_relevances(reranker: Reranker, tmp_path: Path) -> None:
    score(reranker, tmp_path)
    assert score(reranker, tmp_path, Asked([])).relevance_N.shape == (0,)


def test_fast_scoring_writes_few_shards(reranker: Reranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevances, "SHARD_SECONDS", 1000.0)
    score(reranker, tmp_path)
    assert len(shards(tmp_path)) == 1
    assert score(reranker, tmp_path).num_cached == 20


def test_relevances_of_another_precision_or_model_are_never_served(
    reranker: Reranker, model: str, tmp_path: Path
) -> None:
    score(reranker, tmp_path)
    low = load_reranker(model, device="cpu", precision="bf16")
    other = load_reranker(save_cross_encoder(tmp_path / "other", seed=1), device="cpu", precision="fp32")
    for another in (low, other):
        assert score(another, tmp_path / "cache").num_cached == 0
        assert score(another, tmp_path).num_cached == 0


def test_one_wrong_bit_anywhere_is_noticed_and_the_shard_scored_again(reranker: Reranker, tmp_path: Path) -> None:
    whole = score(reranker, tmp_path, Asked(ROWS[:4]))
    [victim] = shards(tmp_path)
    data = victim.read_bytes()
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        victim.write_bytes(flipped)
        again = score(reranker, tmp_path, Asked(ROWS[:4]))
        assert again.damaged == (victim.name,) and again.num_scored == 4
        assert again.relevance_N.tobytes() == whole.relevance_N.tobytes()
    assert score(reranker, tmp_path, Asked(ROWS[:4])).num_cached == 4


KEYS, VALUES = np.zeros((2, 32), np.uint8), np.zeros(2, np.float32)


@pytest.mark.parametrize(
    "arrays",
    [
        (KEYS[:, :16], VALUES),
        (KEYS[:1], VALUES),
        (KEYS, VALUES.reshape(2, 1)),
        (KEYS, VALUES.astype(np.float64)),
        (KEYS.astype(np.int8), VALUES),
        (KEYS, VALUES - 1),
        (KEYS, VALUES + np.float32("nan")),
        (np.full((2, 32), None), VALUES),
        (KEYS,),
        (),
    ],
)
def test_a_whole_file_that_holds_something_else_is_damaged(
    reranker: Reranker, tmp_path: Path, arrays: tuple[np.ndarray, ...]
) -> None:
    body = io.BytesIO()
    for array in arrays:
        np.save(body, array, allow_pickle=True)
    home = tmp_path / reranker.fingerprint
    home.mkdir()
    (home / "a.shard").write_bytes(hashlib.sha256(body.getvalue()).digest() + body.getvalue())
    assert score(reranker, tmp_path).damaged == ("a.shard",)
    assert score(reranker, tmp_path).damaged == ()


def test_a_file_cut_short_is_damaged(reranker: Reranker, tmp_path: Path) -> None:
    score(reranker, tmp_path)
    for victim, size in zip(shards(tmp_path), (0, 20, 150), strict=True):
        os.truncate(victim, size)
    again = score(reranker, tmp_path)
    assert len(again.damaged) == 3 and again.num_scored == 20


def test_a_folder_that_cannot_be_used_is_one_line(reranker: Reranker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MiningError, match=r"relevance cache .* cannot be read"):
        score(reranker, tmp_path / "file")


def test_a_full_disk_is_one_line_and_keeps_what_was_written(reranker: Reranker, tmp_path: Path) -> None:
    score(reranker, tmp_path, Asked(ROWS[:8]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # no file may grow beyond 500 bytes
    try:
        with pytest.raises(MiningError, match=r"cannot be written.*what was written before is kept"):
            score(reranker, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert score(reranker, tmp_path).num_cached == 8
    assert not list(tmp_path.glob("*/*.part"))


def test_what_a_killed_run_left_half_written_is_swept_up_later(reranker: Reranker, tmp_path: Path) -> None:
    score(reranker, tmp_path, Asked(ROWS[:2]))
    home = shards(tmp_path)[0].parent
    old, fresh = home / "a.1.part", home / "b.2.part"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    score(reranker, tmp_path, Asked(ROWS[:2]))
    assert (old.exists(), fresh.exists()) == (False, True)


class Stopped(Exception):
    pass


def test_a_run_that_was_stopped_goes_on_and_ends_bit_for_bit_as_one_that_was_not(
    reranker: Reranker, tmp_path: Path
) -> None:
    def stop(ready: int) -> None:
        if ready:
            raise Stopped

    with pytest.raises(Stopped):
        score(reranker, tmp_path / "stopped", on_progress=stop)
    resumed = score(reranker, tmp_path / "stopped")
    assert (resumed.num_cached, resumed.num_scored) == (8, 12)
    assert resumed.relevance_N.tobytes() == score(reranker, tmp_path / "whole").relevance_N.tobytes()


LIGHT = """
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from mining import relevances
relevances.BLOCK_CPU, relevances.SHARD_SECONDS = 8, 0.0
folder, most = Path(sys.argv[1]), int(sys.argv[2])
scored = 0
def score(pairs):
    global scored
    if scored >= most:
        os.kill(os.getpid(), signal.SIGKILL)
    scored += len(pairs)
    return np.array([int(query) / 400 for query, _ in pairs], dtype=np.float32)
ids = np.frombuffer(b"".join(row.to_bytes(16, "big") for row in range(400)), np.uint8).reshape(-1, 16)
found = relevances.relevances_cached(
    SimpleNamespace(fingerprint="f", device="cpu", relevances=score),
    ids, ids, lambda rows: [(str(row), "") for row in rows], folder, lambda ready: None,
)
assert np.allclose(found.relevance_N, np.arange(400) / 400) and not found.damaged
print(found.num_cached, found.num_scored)
"""


def light(folder: Path, most: int) -> "subprocess.Popen[bytes]":
    """A process that scores 400 pairs with no model, and kills itself once it has scored as many as it may."""
    command = [sys.executable, "-c", LIGHT, str(folder), str(most)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)


def test_a_killed_run_keeps_its_finished_shards_and_nothing_is_scored_twice(tmp_path: Path) -> None:
    for most in (80, 160):
        with light(tmp_path, most) as killed:
            assert killed.wait() == -signal.SIGKILL
    with light(tmp_path, 400) as last:
        assert last.communicate()[0] == b"240 160\n"


def test_several_processes_may_score_the_same_at_once(tmp_path: Path) -> None:
    together = [light(tmp_path, 400) for _ in range(3)]
    told = [process.communicate()[0].split() for process in together]
    assert [process.returncode for process in together] == [0, 0, 0]
    assert all(int(cached) + int(scored) == 400 for cached, scored in told)
    assert not list(tmp_path.rglob("*.part"))
    with light(tmp_path, 0) as last:
        assert last.communicate()[0] == b"400 0\n"


CACHED = """
import sys
from pathlib import Path
import numpy as np
from mining.relevances import relevances_cached
from mining.rerank import load_reranker
model, folder = sys.argv[1:]
reranker = load_reranker(model, device="cpu", precision="fp32", cache=Path(folder))
relevances_cached(reranker, *np.load(folder + "/ids.npy"), None, Path(folder), print)
assert not {"sentence_transformers", "transformers"} & set(sys.modules)
"""


@pytest.mark.slow
def test_a_run_that_finds_all_on_disk_loads_no_model(model: str, tmp_path: Path) -> None:
    score(load_reranker(model, device="cpu", precision="fp32", cache=tmp_path), tmp_path)
    np.save(tmp_path / "ids.npy", Asked().ids)
    command = [sys.executable, "-c", CACHED, model, str(tmp_path)]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert found.stdout == "20\n", found.stderr

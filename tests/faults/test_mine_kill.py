"""Mining killed with SIGKILL in every step, and run again: the same result bit for bit, and nothing done twice."""

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from synth.settings import CONFIG
from synth.stages.ingest import ingest
from synth.store.console import query
from synth.workspace import Workspace
from tests.conftest import SAMPLE
from tests.faults.mine_process import SLOW_IMPORTS, Point, kept, shards, synth
from tests.mining.small_models import save_cross_encoder

pytestmark = pytest.mark.slow

PASSAGES, QUERIES = 166, 212  # texts; a block of them is 128
STORED = 200  # samples, in the first of two blocks
POSITIVES = 210  # of these, which are scored before any candidate
OPTIONS = ("--rank-min", "2", "--rank-max", "5", "--num-negatives", "2", "--device", "cpu")
NEGATIVES = "SELECT * EXCLUDE (negative_id, run_id, created_at) FROM negative ORDER BY ALL"
MINED = "SELECT * EXCLUDE (run_id, created_at) FROM mined ORDER BY ALL"
STATES = "SELECT * FROM sample_state ORDER BY ALL"
Fork = Callable[..., int | None]


@pytest.fixture
def fork() -> Fork:
    """Runs a function in a process of its own, which has the slow imports behind it. Returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)

    def run(function: Callable[..., object], *arguments: object) -> int | None:
        process = context.Process(target=function, args=arguments, daemon=True)
        process.start()
        process.join(300)
        assert process.exitcode is not None, "it hangs"
        return process.exitcode

    return run


@pytest.fixture
def opened(tmp_path: Path) -> Workspace:
    """A workspace with a real retrieval set, of which some queries have several positives."""
    workspace = Workspace.create(tmp_path / "killed")
    # Short texts are soon encoded; the reranker refuses nothing, so that chance has much to draw from.
    (workspace.root / CONFIG).write_text("[mine]\nmax_length = 64\nreranker_cap = 0.0\n")
    ingest(workspace.store, SAMPLE / "retrieval" / "fairytale-en", declared_use=None, on_progress=lambda _: None)
    return workspace


def rows(workspace: Workspace, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = query(workspace.store, sql).to_pylist()
    return found


def counted(workspace: Workspace) -> tuple[int, int, int]:
    """How many texts are encoded, pairs of texts scored and samples mined."""
    lengths = [len(key) for of_cache in kept(workspace.embeddings).values() for key in of_cache]
    return lengths.count(16), lengths.count(32), len(rows(workspace, MINED))


def test_mining_killed_in_every_step_ends_as_if_it_had_not_been_and_does_nothing_twice(
    opened: Workspace, tmp_path: Path, fork: Fork
) -> None:
    reranker, log = tmp_path / "reranker", tmp_path / "log"
    assert fork(save_cross_encoder, reranker) == 0
    whole = Workspace.open(copytree(opened.root, tmp_path / "whole"))

    def mine(workspace: Workspace, point: Point | None) -> int | None:
        return fork(synth, ["mine", "-w", str(workspace.root), "--rerank", str(reranker), *OPTIONS], log, point)

    def killed(event: str, number: int) -> tuple[int, int, int]:
        assert mine(opened, Point(event, number)) == -signal.SIGKILL, log.read_text()
        seen.append(shards(opened.embeddings))
        return counted(opened)

    seen: list[dict[Path, int]] = []
    assert killed("before", 2) == (128, 0, 0)
    assert killed("within", 2) == (PASSAGES, 0, 0)
    assert killed("before", 2) == (PASSAGES + 128, 0, 0)
    assert killed("before", 4) == (PASSAGES + QUERIES, POSITIVES, 0)
    *_, scored, mined = killed("stores", 1)
    assert scored > POSITIVES and mined == 0
    assert killed("before", 1) == (PASSAGES + QUERIES, scored, STORED)
    assert mine(opened, None) == mine(whole, None) == 0, log.read_text()

    for sql in (NEGATIVES, MINED, STATES):
        assert rows(opened, sql) == rows(whole, sql)
    assert len(rows(whole, MINED)) == QUERIES
    assert any(row["relevance"] for row in rows(whole, NEGATIVES))
    assert kept(opened.embeddings) == kept(whole.embeddings)
    for written in seen:  # and none of them again
        assert written.items() <= shards(opened.embeddings).items()
    unfinished = rows(opened, "SELECT * FROM runs WHERE kind = 'mine' AND status = 'unfinished'")
    assert len(unfinished) == len(seen)
    assert fork(synth, ["store", "verify", "-w", str(opened.root)], log, None) == 0, log.read_text()

"""Several processes do to a model what one does."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synth.records import Task
from tests.conftest import REPOSITORY
from tests.trainer import two_ranks
from tests.trainer.conftest import Write, command
from trainer.loop import read_log
from trainer.ranks import Ranks

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def torchrun(number: int, *line: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCHER, str(number), *map(str, line)], cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("number", [2, 3])
def test_the_gradients_of_several_processes_are_those_of_one(
    write_release: Write, write_config: Write, tmp_path: Path, number: int
):
    release, config = write_release(), write_config(model="bert" if number == 2 else "qwen")
    for name in ("alone", "together"):
        (tmp_path / name).mkdir()
    two_ranks.main(str(release), str(config), str(tmp_path / "alone"))
    outcome = torchrun(number, "-m", "tests.trainer.two_ranks", release, config, tmp_path / "together")
    assert outcome.returncode == 0, outcome.stderr
    for task in Task:
        for cached in (True, False):
            loss, tokens, alone = torch.load(tmp_path / "alone" / f"{task}-{cached}-0.pt")
            for rank in range(number):
                found = torch.load(tmp_path / "together" / f"{task}-{cached}-{rank}.pt")
                assert (found[0], found[1]) == (pytest.approx(loss, rel=1e-6), tokens)
                for name, gradient in alone.items():
                    assert (gradient is None) == (found[2][name] is None), name
                    if gradient is not None:
                        torch.testing.assert_close(found[2][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", ["false", "true"])
def test_a_run_of_two_processes_ends_where_one_process_ends(
    write_release: Write, write_config: Write, tmp_path: Path, sharded: str
):
    release, config = write_release(), write_config(("sharded = false", f"sharded = {sharded}"))
    line = ["run", "--release", release, "--config", config, "-w", tmp_path, "--output"]
    assert command(*line, tmp_path / "one").returncode == 0
    together = torchrun(2, "-m", "trainer", *line, tmp_path / "two", "--json")
    assert together.returncode == 0, together.stderr
    one, two = (read_log(tmp_path / name) for name in ("one", "two"))
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in two], rel=1e-3)
    assert [row["tokens"] for row in one] == [row["tokens"] for row in two]
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    for name in first:  # steps of 1e-3: AdamW divides by the gradient's size, however small that is
        torch.testing.assert_close(first[name], second[name], rtol=1e-2, atol=2e-3)
    assert not list(tmp_path.glob("*.training"))


def test_texts_are_dealt_out_evenly_in_number_and_size():
    hands = Ranks(0, 3).deal([5, 100, 7, 90, 95, 3, 6])
    assert sorted(place for hand in hands for place in hand) == list(range(7))
    assert sorted(map(len, hands)) == [2, 2, 3]
    assert [[[5, 100, 7, 90, 95, 3, 6][place] for place in hand] for hand in hands] == [[100, 5, 3], [95, 6], [90, 7]]


@pytest.mark.slow
def test_an_output_that_is_another_ones_ends_all_processes_with_the_reason(
    write_release: Write, write_config: Write, tmp_path: Path
):
    (tmp_path / "model.training" / "checkpoints" / "step-00000004").mkdir(parents=True)
    (tmp_path / "model.training" / "run.json").write_text('{"format": 0}')
    line = ["run", "--release", write_release(), "--config", write_config(), "--output", tmp_path / "model"]
    together = torchrun(2, "-m", "trainer", *line)
    assert together.returncode != 0
    assert "error: " in together.stderr and "holds a run with another format" in together.stderr
    assert "Connection" not in together.stderr and "gloo" not in together.stderr


@pytest.mark.slow
def test_processes_that_are_asked_to_stop_keep_one_step_and_go_on_after_it(
    write_release: Write, write_config: Write, tmp_path: Path
):
    config = write_config(("checkpoint_steps = 4", "checkpoint_steps = 100"))
    line = ["run", "--release", write_release(), "--config", config, "--output", tmp_path / "model"]
    launched = [*LAUNCHER, "2", "-m", "trainer", *map(str, line)]
    log = tmp_path / "model.training" / "metrics.jsonl"
    with subprocess.Popen(launched, cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        while not log.exists() or log.read_bytes().count(b"\n") < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=100)
    assert told.count("stopping after this step") == 1
    kept = re.search(r"stopped after step (\d+) of 16", told)
    assert kept
    again = torchrun(2, "-m", "trainer", *line, "--json")
    assert again.returncode == 0, again.stderr
    assert f"goes on after step {kept[1]}\n" in again.stderr

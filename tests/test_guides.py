"""The guides, followed to the letter: every command and every line of Python in them, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def follow(guide: str, folder: Path) -> str:
    """Run the blocks of a guide as one script each; all that they print. What fails ends it, with what it said."""
    (folder / "data").symlink_to(REPOSITORY / "data")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"}
    told = []
    for language, block in BLOCK.findall((REPOSITORY / "docs" / guide).read_text()):
        line = ["bash", "-euo", "pipefail", "-c", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(
            line, cwd=folder, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        told.append(done.stdout)
    return "".join(told)


@pytest.mark.slow
def test_from_documents_to_a_search_model(tmp_path: Path):
    told = follow("guide-documents.md", tmp_path)
    assert "questions  " in told and "nDCG@10" in told  # the reader's own questions were measured
    assert "tensor([[" in told
    assert len((tmp_path / "questions" / "qrels.jsonl").read_text().splitlines()) >= 4


@pytest.mark.slow
def test_from_public_data_sets_to_a_model(tmp_path: Path):
    told = follow("guide-datasets.md", tmp_path)
    assert (tmp_path / "scores.svg").stat().st_size > 5000
    for name in ("squad-en", "cmrc-zh", "fairytale-en", "stsb-zh", "banking77-en"):
        assert name in told

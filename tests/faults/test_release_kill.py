"""Kill -9 while a release is made, then the same command again: the same release, and nothing else in the folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synth.records import Source, Use, new_id
from synth.stages.release_check import verify_release
from synth.stages.review import apply_policy
from synth.store import sources
from synth.store.console import query
from synth.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.synth.stages.releasing import add, create, give_negatives, retrieval, sts

pytestmark = pytest.mark.slow
# Where the process stops for ever; it is killed there. `path` is where the release will be.
MOMENTS = {
    "selecting": "import synth.store.selection as m; m.choose = stop",
    "writing the samples": "import synth.stages.release_write as m; m._write_samples = stop",
    "writing the manifest": "import synth.stages.release_write as m; m.datasheet = stop",
    "complete, not recorded": "import synth.stages.release as m; m._record = stop",
    "recorded, not renamed": "import synth.stages.release as m; m.shutil.rmtree = late(m.shutil.rmtree)",
    "renamed, not committed": "import synth.stages.release as m; m._settle_name = stop",
}
SCRIPT = """
import sys, time
from pathlib import Path
from synth.stages.release import create_release
from synth.store.release_policy import ReleasePolicy
from synth.workspace import Workspace

def stop(*_, **__):
    Path(sys.argv[2]).touch()
    time.sleep(600)

def late(remove):
    return lambda path, **options: stop() if path.name == "first" else remove(path, **options)

{moment}
workspace = Workspace.open(Path(sys.argv[1]))
create_release(workspace.store, workspace.releases, "first", ReleasePolicy(), on_progress=lambda _: None)
"""


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace with approved samples and a held-out set."""
    store = workspace.store
    guide = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    held_out = Source("guide", "test", Use.EVAL, "retrieval", "a test", "CC0-1.0", "1")
    with store.write() as cursor:
        for each in (guide, held_out):
            sources.add_source(cursor, each, new_id())
    add(store, guide, *(retrieval(number) for number in range(4)), sts(1))
    add(store, held_out, retrieval(99))
    give_negatives(store, retrieval(0).query, [("No.", "mined", 1)])
    apply_policy(store, "everything", max_rank=20)
    return workspace


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_release_killed_at_any_moment_is_made_by_the_same_command(
    filled: Workspace, tmp_path: Path, moment: str
) -> None:
    reached = tmp_path / "reached"
    script = SCRIPT.format(moment=MOMENTS[moment])
    process = subprocess.Popen([sys.executable, "-c", script, str(filled.root), str(reached)], cwd=REPOSITORY)
    deadline = time.monotonic() + 90
    while not reached.exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    made = create(filled.store, filled.releases)
    assert made.digest == create(filled.store, tmp_path / "elsewhere", "second").digest
    assert [path.name for path in filled.releases.iterdir()] == ["first"]
    assert verify_release(made.path, made.digest).problems == []
    assert query(filled.store, "SELECT name FROM releases ORDER BY name").to_pylist() == [
        {"name": "first"},
        {"name": "second"},
    ]

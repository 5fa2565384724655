"""What `synth generate` says that it stored."""

import json
from collections.abc import Iterator

import pytest

from synth.workspace import Workspace
from tests.synth.conftest import Run
from tests.synth.serving import Served
from tests.synth.stages.judging import SAMPLES, fill


@pytest.fixture
def served(workspace: Workspace) -> Iterator[Served]:
    """Samples in the workspace, and a model whose hard negatives are the positives again."""
    fill(workspace.store)
    positives = [next(iter(passages)) for passages in SAMPLES.values()]
    passages = [{"kind": "inadequate", "missing": "the year", "passage": text} for text in positives]
    with Served(lambda messages: json.dumps({"passages": passages})) as found:
        (workspace.root / "synth.toml").write_text(f'[llm]\nbase_url = "{found.server.base_url}"\nmodel = "small"\n')
        yield found


def test_a_recipe_of_negatives_that_brought_none_stored_no_negatives(synth: Run, served: Served) -> None:
    code, out, _ = synth("generate", "--operation", "hard-negative", "--max-tries", 1)
    assert code == 0 and "stored 0 negatives from 3 samples; 0 were known\n" in out and "less than a tenth" in out

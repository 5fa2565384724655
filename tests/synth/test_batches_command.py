"""`synth batches`: what was handed in, how it is now, and giving it up."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synth.llm.batch.asking import refuse_pending
from synth.llm.batch.desk import BatchDesk
from synth.llm.batch.files import BatchFolder, Step
from synth.llm.config import Endpoint, LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.records import UserError
from synth.workspace import Workspace
from tests.synth.conftest import Run
from tests.synth.llm.batch.batches import AT_ONCE, MODEL, requests
from tests.synth.serving import serving

PRICES = "batch_price_in = 0.5\nbatch_price_out = 1.0\n"


@pytest.fixture
def lasts() -> dict[str, float]:
    return {"in_progress": 60}


@pytest.fixture
def server(tmp_path: Path, lasts: dict[str, float]) -> Iterator[str]:
    """A server whose batches take their time, in a process of its own; its base_url."""
    options = [f"--lasts={status}={seconds}" for status, seconds in lasts.items()]
    with serving(tmp_path, *options, program="batch_server.py") as base_url:
        yield base_url


def hand_in(workspace: Workspace, base_url: str, *, name: bool = True) -> None:
    """Three requests; `name`: synth.toml names the server."""
    if name:
        (workspace.root / "synth.toml").write_text(f'[llm]\nbase_url = "{base_url}"\nmodel = "{MODEL}"\n{PRICES}')

    async def submit() -> None:
        with Journal(workspace.journal) as journal:
            async with BatchDesk(Endpoint(base_url, MODEL), "", workspace.batches, journal) as desk:
                await desk.submit(requests(1, 2, 3))

    asyncio.run(submit())


def settle(workspace: Workspace, base_url: str) -> Any:
    async def wait() -> Any:
        with Journal(workspace.journal) as journal:
            async with BatchDesk(Endpoint(base_url, MODEL), "", workspace.batches, journal) as desk:
                return await desk.settle(poll_seconds=AT_ONCE)

    return asyncio.run(wait())


def test_a_workspace_without_batches_says_how_to_begin(synth: Run) -> None:
    assert synth("batches")[:2] == (0, "nothing was handed in yet; begin with: synth generate --batch\n")
    assert synth("batches", "--json")[1] == "[]\n"


def test_batches_are_listed_as_the_server_sees_them(synth: Run, workspace: Workspace, server: str) -> None:
    hand_in(workspace, server)
    code, out, _ = synth("batches")
    assert code == 0 and all(word in out for word in ("batch_0", MODEL, "3", "in_progress"))
    [batch] = json.loads(synth("batches", "--json")[1])
    expected = {"batch_id": "batch_0", "num_requests": 3, "status": "in_progress", "step": "sent", "done": 0}
    assert batch.items() >= expected.items()


@pytest.mark.parametrize("lasts", [{"in_progress": 12}])
def test_a_batch_that_ends_when_it_is_cancelled_is_fetched_by_the_same_command(
    synth: Run, workspace: Workspace, server: str
) -> None:
    hand_in(workspace, server)
    listed = json.loads(synth("batches", "--json")[1])
    while listed[0]["done"] < 2:
        time.sleep(0.1)
        listed = json.loads(synth("batches", "--json")[1])
    assert [batch["cost"] for batch in listed] == [None]
    code, out, _ = synth("batches", "cancel", "batch_0")
    paid = "2 of 3 requests are done and paid for, 4 tokens in, 10 out, $0.0000120"
    counts = "which the next run that asks this model there counts"
    assert code == 0 and f"batch_0 is cancelled: {paid}, {counts}; their replies are in the journal" in out
    with Journal(workspace.journal) as journal:
        assert len(journal) == 2
    shown = synth("batches")[1]
    assert "cancelled, fetched" in shown and "$0.0000120" in shown
    [batch] = json.loads(synth("batches", "--json")[1])
    assert batch["cost"] == pytest.approx(12e-6) and "unbooked" not in batch
    assert synth("batches", "cancel", "batch_0")[0] == 2


@pytest.mark.parametrize("lasts", [{"in_progress": 60, "cancelling": 1}])
def test_a_batch_that_is_still_being_cancelled_is_fetched_when_the_command_is_given_again(
    synth: Run, workspace: Workspace, server: str
) -> None:
    hand_in(workspace, server)
    code, out, _ = synth("batches", "cancel", "batch_0")
    assert code == 0 and "batch_0 is cancelling: 0 of 3 requests are done and paid for so far; once" in out
    assert online_is_refused(workspace, server) == (
        "batch batch_0 was cancelled; the same command with --batch, or `synth batches cancel batch_0` again, fetches"
        " what was done of it (0) first"
    )
    time.sleep(1)
    code, out, _ = synth("batches", "cancel", "batch_0")
    assert code == 0 and "batch_0 is cancelled: 0 of 3 requests are done and paid for; their replies" in out
    assert online_is_refused(workspace, server) == ""


@pytest.mark.parametrize("lasts", [{"in_progress": 0}])
def test_a_batch_that_was_over_before_it_could_be_cancelled_is_fetched(
    synth: Run, workspace: Workspace, server: str
) -> None:
    hand_in(workspace, server)
    code, out, _ = synth("batches", "cancel", "batch_0")
    assert code == 0 and "batch_0 is completed: 3 of 3 requests are done and paid for, 6 tokens in" in out


def test_a_batch_that_another_process_waits_for_is_cancelled_and_left_to_it(
    synth: Run, workspace: Workspace, server: str
) -> None:
    hand_in(workspace, server)
    with BatchFolder(workspace.batches, Endpoint(server, MODEL)).held():
        code, out, _ = synth("batches", "cancel", "batch_0")
    assert code == 0 and "batch_0 is cancelled: 0 of 3 requests are done and paid for so far" in out
    assert settle(workspace, server).causes == {"cancelled": 3}


def online_is_refused(workspace: Workspace, base_url: str) -> str:
    """Why nothing may be asked online; "" if it may."""
    with Journal(workspace.journal) as journal:
        try:
            refuse_pending(workspace.batches, Engine(LLMConfig.of(base_url, MODEL), journal))
        except UserError as error:
            return str(error)
    return ""


def test_a_batch_that_the_server_does_not_know_is_forgotten(synth: Run, workspace: Workspace, server: str) -> None:
    hand_in(workspace, server)
    [folder] = workspace.batches.iterdir()
    [state] = folder.glob("*.json")
    state.write_text(state.read_text().replace("batch_0", "batch_of_another_account"))
    code, out, _ = synth("batches", "cancel", "batch_of_another_account", "--json")
    assert (code, out) == (0, "null\n")
    assert not list(folder.glob("*.*"))


@pytest.mark.parametrize("step", [Step.WRITTEN, Step.SENDING])
def test_a_batch_that_was_never_sent_is_forgotten_and_one_that_was_is_looked_for(
    synth: Run, workspace: Workspace, server: str, step: Step
) -> None:
    hand_in(workspace, server)
    [folder] = workspace.batches.iterdir()
    [state] = folder.glob("*.json")
    batch = json.loads(state.read_text()) | {"step": step, "batch_id": "", "submitted": None}
    state.write_text(json.dumps(batch))
    code, out, _ = synth("batches", "cancel", state.stem)
    assert code == 0
    assert ("is forgotten" if step is Step.WRITTEN else "batch_0 is cancelled") in out
    assert bool(list(folder.glob("*.json"))) is (step is Step.SENDING)


def test_a_server_that_the_workspace_does_not_name_gets_no_key(synth: Run, workspace: Workspace, server: str) -> None:
    hand_in(workspace, server, name=False)
    code, out, err = synth("batches")
    assert code == 0 and "batch_0" in out and "is not asked, since [llm] names no endpoint there" in err
    code, _, err = synth("batches", "cancel", "batch_0")
    assert code == 2 and "put it there, with api_key_env" in err


def test_a_server_that_is_away_leaves_what_was_known(synth: Run, workspace: Workspace, server: str) -> None:
    hand_in(workspace, server)
    [folder] = workspace.batches.iterdir()
    away = "http://127.0.0.1:9/v1"
    (workspace.root / "synth.toml").write_text(f'[llm]\nbase_url = "{away}"\nmodel = "{MODEL}"\n')
    folder.rename(BatchFolder(workspace.batches, Endpoint(away, MODEL)).path)
    [state] = workspace.batches.glob("*/*.json")
    state.write_text(state.read_text().replace(server, away))
    code, out, err = synth("batches")
    assert code == 0 and "batch_0" in out and "does not say how its batches are" in err
    code, _, err = synth("batches", "cancel", "batch_0")
    assert code == 1 and "does not cancel batch batch_0" in err


def test_a_batch_that_is_not_there_and_options_in_the_wrong_place_are_user_errors(synth: Run) -> None:
    code, _, err = synth("batches", "cancel", "batch_7")
    assert code == 2 and "there is no batch batch_7 in this workspace" in err
    assert synth("batches", "--json", "cancel", "batch_7")[0] == 2

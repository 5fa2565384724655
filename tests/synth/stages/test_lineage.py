"""From a sample or a negative that an LLM wrote back to its seed, its source, its prompt and its reply."""

import json
from pathlib import Path

import pytest

from synth.recipes import RECIPES
from synth.records import Draft, Retrieval, Source, Task, Use, new_id, text_id
from synth.stages.generate.plan import Wanted, plan_generate
from synth.stages.generate.run import generate_samples
from synth.store import samples, sources
from synth.store.console import query
from synth.store.sources import NewPassage
from synth.workspace import Workspace
from tests.chat_server import ChatServer
from tests.synth.conftest import Run
from tests.synth.stages.generating import asking

SKIFF = "A skiff is a small flat boat. One person rows it with two oars."
EXAMPLE = {
    "query": "why do barges drift?",
    "passage": "Heavy barges drift sideways because wind pushes their hulls.",
    "kind": "inadequate",
    "missing": "the reason \x1b[31m[bold]why[/bold]",
    "hard_negative": "Old ferries anchor overnight since harbours close locks early.",
}
REPLY = json.dumps({"examples": [EXAMPLE]})


@pytest.fixture
async def told(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A workspace with a passage, a sample that asks for it, and one that an LLM made of that."""
    source = Source("boats", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    draft = Draft(Retrieval("how is a skiff rowed?", (SKIFF,)), source.source_id, "query", seed_id=text_id(SKIFF))
    with workspace.store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, [NewPassage(text_id(SKIFF), SKIFF, "", "")])
        samples.add_drafts(cursor, [draft], new_id())
    async with ChatServer(lambda _: REPLY) as server:
        asked = asking(workspace.root, server.base_url)
        plan = plan_generate(workspace.store, Wanted(operation="augment", per_seed=1), asked)
        assert (await generate_samples(workspace.store, plan)).num_negatives == 1
    return workspace


async def test_a_sample_made_of_a_sample_shows_both_and_its_negative_how_it_came(told: Workspace, synth: Run) -> None:
    [made] = query(told.store, "SELECT * FROM samples WHERE operation = 'augment'").to_pylist()
    code, out, _ = synth("show", made["sample_id"])
    lines = [line.lstrip("│├└─ ") for line in out.splitlines()]
    assert code == 0
    assert f"seed passage {str(text_id(SKIFF))[:13]}: {SKIFF}" in lines
    [parent] = [line for line in lines if line.startswith("made from sample")]
    assert parent.endswith("revision 1: how is a skiff rowed?")
    assert any(RECIPES[Task.RETRIEVAL, "augment"].prompt_version in line for line in lines)
    assert [line for line in lines if line.startswith("reply: ")] == [f"reply: {REPLY}"[:239] + "…"]  # told once
    assert "generated, inadequate, lacks: the reason \ufffd[31m[bold]why[/bold]" in "\n".join(lines)
    assert "\x1b" not in out


async def test_json_has_every_reply_whole_and_what_was_made_of_it(told: Workspace, synth: Run) -> None:
    [made] = query(told.store, "SELECT * FROM samples WHERE operation = 'augment'").to_pylist()
    life = json.loads(synth("show", made["sample_id"], "--json")[1])
    [negative] = life["negatives"]
    assert negative["prompt_version"] == RECIPES[Task.RETRIEVAL, "augment"].prompt_version
    assert negative["call"]["reply"] == life["revisions"][0]["call"]["reply"] == REPLY
    call = json.loads(synth("show", made["call_id"], "--json")[1])
    assert (call["reply"], call["seed_text"], call["made"]["num_samples"]) == (REPLY, "how is a skiff rowed?", 1)
    assert [(each["kind"], each["text"]) for each in call["negatives"]] == [("inadequate", EXAMPLE["hard_negative"])]
    [parent] = life["made_from"]
    of = json.loads(synth("show", parent["sample_id"], "--json")[1])["made_of_it"]
    assert [(each["sample_id"], each["operation"]) for each in of] == [(made["sample_id"], "augment")]


async def test_a_reply_that_the_journal_lost_is_not_told(told: Workspace, synth: Run) -> None:
    for path in told.journal.glob("*.jsonl"):
        path.unlink()
    [made] = query(told.store, "SELECT * FROM samples WHERE operation = 'augment'").to_pylist()
    code, out, _ = synth("show", made["sample_id"])
    assert code == 0 and "reply:" not in out and f"call {made['call_id']}" in out

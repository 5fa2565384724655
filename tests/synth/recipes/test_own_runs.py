"""The recipes that docs/recipes.md shows, in a run against a server whose replies are good, in prose, and refusals."""

import json
from pathlib import Path

from synth.recipes.folder import recipes_with
from synth.store.connection import Store
from synth.store.console import query
from tests.chat_server import ChatServer, Messages
from tests.synth.recipes.test_e5_runs import add_passages
from tests.synth.recipes.test_folder import ASK, TITLES
from tests.synth.stages.generating import plan, run, samples

PROSE = "A skiff draws little water, which is why fishermen row it."
REFUSAL = "Sorry, as an AI I cannot help with that."
PASSAGES = ["A skiff is a small flat boat.", "A punt is pushed with a pole.", "A ketch has two masts."]


async def test_of_a_reply_in_prose_a_recipe_for_json_asks_once_more_and_the_run_goes_on(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "ask.py").write_text(ASK)
    add_passages(store, PASSAGES)

    def reply(messages: Messages) -> str:
        skiff, punt, _ = (text in messages[0]["content"] for text in PASSAGES)
        if punt or (skiff and len(messages) == 1):  # of the punt it never comes to JSON
            return PROSE
        assert len(messages) == 1 or "the reply is no JSON object" in messages[-1]["content"]
        return json.dumps({"questions": [f"how does one {'row' if skiff else 'sail'} it?", REFUSAL]})

    async with ChatServer(reply) as server:
        made = plan(store, tmp_path, server.base_url, operation="ask", recipes=recipes_with(tmp_path), per_seed=2)
        outcome = await run(store, made)
    assert [row["query"] for row in samples(store)] == ["how does one row it?", "how does one sail it?"]
    assert outcome.rejections == {"leakage": 2} and sum(outcome.failures.values()) == 1


async def test_a_refusal_becomes_no_title_and_is_told_among_the_rejections(store: Store, tmp_path: Path) -> None:
    (tmp_path / "title.py").write_text(TITLES)
    add_passages(store, PASSAGES)
    async with ChatServer(lambda _: REFUSAL) as server:
        made = plan(store, tmp_path, server.base_url, operation="title", recipes=recipes_with(tmp_path), per_seed=1)
        outcome = await run(store, made)
    assert samples(store) == [] and outcome.rejections == {"leakage": 3}
    assert {row["text"] for row in query(store, "SELECT text FROM rejections").to_pylist()} == {REFUSAL}

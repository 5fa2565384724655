"""`synth generate` as people use it: a workspace, a server in a process of its own, and what the screen says."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth.workspace import Workspace
from tests.conftest import REPOSITORY, SAMPLE
from tests.synth.conftest import Run
from tests.synth.serving import serving

NAMES = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir")
PRICES = "price_in = 2.0\nprice_out = 8.0\n"
GONE = "http://127.0.0.1:9/v1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that wants a key."""
    with serving(tmp_path_factory.mktemp("locked"), "--key", "the right one") as base_url:
        yield base_url


def num_asked(base_url: str) -> int:
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/stats", timeout=10) as reply:
        return int(json.load(reply)["asked"])


@pytest.fixture(autouse=True)
def with_passages(synth: Run, tmp_path: Path) -> None:
    """Six passages in the workspace."""
    (tmp_path / "harbours").mkdir()
    for year, name in enumerate(NAMES, start=1780):
        (tmp_path / "harbours" / f"{name}.md").write_text(
            f"# Harbour {name}\n\nThe harbour of {name} was dug in {year} by hand. Its lighthouse guides every skiff at"
            f" night. Fishermen of {name} sell their catch on the quay before sunrise, whatever the weather brings.\n"
        )
    assert synth("ingest", tmp_path / "harbours")[0] == 0


def configure(workspace: Workspace, base_url: str, settings: str = PRICES, *, model: str = "small") -> None:
    text = f'[llm]\nbase_url = "{base_url}"\nmodel = "{model}"\nmax_retries = 1\n{settings}'
    (workspace.root / "synth.toml").write_text(text)


def test_passages_are_asked_for_once_and_the_same_command_again_costs_nothing(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    before = num_asked(server)
    code, out, err = synth("generate")
    assert (code, num_asked(server) - before) == (0, 6)
    assert f"engine: small at {server}\n" in out and "samples from 6 passages; 0 were known\n" in out
    assert re.search(r"^paid [\d,]+ tokens in, [\d,]+ out: \$0\.0\d+$", out, re.MULTILINE)
    assert err.splitlines()[0].startswith("about 6 requests, ")
    code, out, _ = synth("generate", "--json")
    assert (code, num_asked(server) - before) == (0, 6)
    again = json.loads(out)
    assert (again["num_seeds"], again["cost"], again["usage"]["cost"]) == (0, 0.0, 0.0)


def test_a_dry_run_asks_and_writes_nothing(synth: Run, workspace: Workspace, server: str) -> None:
    configure(workspace, server, settings="")
    before, files = num_asked(server), sorted(workspace.root.iterdir())
    code, out, _ = synth("generate", "--dry-run")
    assert (code, num_asked(server), sorted(workspace.root.iterdir())) == (0, before, files)
    assert out.count("=== prompt ") == 6  # of the system and of the user
    assert out.splitlines()[-1].startswith("about 6 requests, ") and "no price stated" in out and "$" not in out


def test_a_language_that_cannot_be_told_is_said_before_anything_is_asked_and_beside_what_was_made(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    said = "'Frensh' is not a language that can be told: replies are not checked for it; did you mean French?"
    _, out, err = synth("generate", "--language", "Frensh", "--limit", 1)
    assert err.splitlines()[0] == said and said in " ".join(out.split())
    assert said in " ".join(synth("generate", "--language", "Frensh", "--dry-run")[1].split())
    assert "is not a language" not in "".join(map(str, synth("generate", "--language", "French", "--limit", 1)))


def test_a_sample_is_stored_and_the_two_estimates_stand_side_by_side(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    before = num_asked(server)
    code, out, _ = synth("generate", "--dry-run", "--sample", 2)
    assert (code, num_asked(server) - before) == (0, 2)
    said = out.splitlines()
    starts = (
        "about 6 requests, ",
        "asked for a sample of 2 passages",
        "stored ",
        "paid ",
        "the rest: about 4 requests, ",
    )
    assert all(line.startswith(start) for line, start in zip(said, starts, strict=True)), said
    found = json.loads(synth("generate", "--dry-run", "--sample", 1, "--json")[1])
    assert (found["before"]["requests"], found["num_seeds"], found["sample"]["num_done"]) == (4, 3, 1)
    assert json.loads(synth("generate", "--json")[1])["num_seeds"] == 3
    assert "paid and stored" in " ".join(synth("generate", "--help")[1].split())


def test_a_sample_that_reaches_a_ceiling_says_so(synth: Run, workspace: Workspace, server: str) -> None:
    configure(workspace, server)
    code, out, _ = synth("generate", "--dry-run", "--sample", 3, "--max-requests", 2)
    assert code == 3 and "--max-requests 2 is reached: 2 requests are sent" in out
    assert out.splitlines()[-2].startswith("the rest: about 4 requests, ")  # and none of them is known already
    assert out.splitlines()[-1] == "--max-requests 2 would end the run before all of it"


def test_a_dry_run_says_which_ceilings_the_run_would_not_keep_below(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    assert synth("generate", "--limit", 2)[0] == 0
    code, out, _ = synth("generate", "--dry-run", "--max-requests", 5, "--max-cost", 0.0001)
    assert code == 0
    assert out.splitlines()[-1] == "--max-cost 0.0001 and --max-requests 5 would end the run before all of it"
    assert "would end" not in synth("generate", "--dry-run", "--max-requests", 6)[1]
    assert json.loads(synth("generate", "--dry-run", "--max-requests", 5, "--json")[1])["passed"] == [
        "--max-requests 5"
    ]


def test_a_dry_run_without_an_llm_says_where_to_name_one(synth: Run) -> None:
    code, _, err = synth("generate", "--dry-run")
    assert code == 2 and "name base_url and model in [llm] of synth.toml, or leave --dry-run out" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "4 passages are left: the same command goes on"),
        (("--limit", 3), "4 passages are left: the same command takes the next 3"),
    ],
)
def test_a_ceiling_ends_with_code_3_and_says_how_to_go_on(
    synth: Run, workspace: Workspace, server: str, options: tuple[object, ...], said: str
) -> None:
    configure(workspace, server)
    code, out, _ = synth("generate", "--max-requests", 2, *options)
    assert code == 3 and out.splitlines()[-1].endswith(said)
    assert synth("generate", "--max-requests", 2, *options)[0] == 3
    assert synth("generate", "--max-requests", 6)[0] == 0


def test_a_ceiling_on_money_is_kept_and_its_line_names_money(synth: Run, workspace: Workspace, server: str) -> None:
    configure(workspace, server)
    code, out, _ = synth("generate", "--max-cost", 0.02, "--json")
    told = json.loads(out)
    assert (code, told["exit_code"]) == (3, 3) and "--max-cost" in told["ended"] and told["cost"] <= 0.02
    configure(workspace, server, settings="")
    code, _, err = synth("generate", "--max-cost", 0.02)
    assert code == 2 and "price_in and price_out" in err


def test_a_run_that_fails_is_an_object_with_the_error_and_one_line(
    synth: Run, workspace: Workspace, locked: str
) -> None:
    configure(workspace, locked)
    code, out, err = synth("generate", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], told["cost"]) == (1, 1, 0.0)
    assert locked in told["error"]
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [f"error: {told['error']}"]


def test_a_retry_of_a_run_that_came_to_nothing_says_what_to_run(
    synth: Run, workspace: Workspace, server: str, locked: str
) -> None:
    configure(workspace, locked)
    assert synth("generate")[0] == 1
    code, out, err = synth("runs", "retry", "last")
    assert (code, out) == (2, "")
    assert "did not finish 6 of its seeds: run `synth generate` again with its options" in err
    configure(workspace, server)
    assert synth("generate")[0] == 0
    assert "nothing of run" in synth("runs", "retry", "last")[2]


def two_endpoints(workspace: Workspace, first: str, second: str) -> None:
    (workspace.root / "synth.toml").write_text(
        f'[llm]\nmax_retries = 1\n[[llm.endpoints]]\nbase_url = "{first}"\nmodel = "small"\n{PRICES}'
        f'[[llm.endpoints]]\nbase_url = "{second}"\nmodel = "large"\n'
    )


def test_an_option_picks_the_endpoint_that_is_configured_with_its_price(
    synth: Run, workspace: Workspace, server: str
) -> None:
    two_endpoints(workspace, server, GONE)
    told = json.loads(synth("generate", "--model", "small", "--limit", 2, "--json")[1])
    assert told["engine"] == f"small at {server}" and told["cost"] > 0
    told = json.loads(synth("generate", "--base-url", server, "--limit", 1, "--json")[1])
    assert told["engine"] == f"small at {server}" and told["cost"] > 0
    code, _, err = synth("generate", "--model", "medium")
    assert code == 2 and f"which lists small at {server}, large at {GONE}" in err
    told = json.loads(synth("generate", "--model", "medium", "--base-url", server, "--limit", 1, "--json")[1])
    assert told["engine"] == f"medium at {server}" and told["cost"] is None


def test_an_endpoint_without_a_price_is_named(synth: Run, workspace: Workspace, server: str) -> None:
    second = server.replace("127.0.0.1", "localhost")
    two_endpoints(workspace, server, second)
    code, out, err = synth("generate")
    assert code == 0 and "no price stated" in out and "$" not in out
    assert f"unknown price of large at {second}: tokens only" in err


def test_failures_are_counted_and_explained_and_a_retry_asks_again(
    synth: Run, workspace: Workspace, tmp_path: Path
) -> None:
    with serving(tmp_path, "--fault", "withheld=0.5", "--seed", "3") as base_url:
        configure(workspace, base_url)
        code, out, _ = synth("generate")
        assert code == 0 and "withheld the reply" in out and "synth runs show last" in out
        left = int(re.findall(r"^left (\d+): ", out, re.MULTILINE)[0])
        [failure] = json.loads(synth("runs", "show", "last", "--json")[1])["failures"]
        assert (failure["kind"], failure["requests"]) == ("withheld", left)
        query = "SELECT DISTINCT attempts AS attempts FROM failures"
        assert json.loads(synth("sql", query, "--format", "json")[1]) == [{"attempts": 1}]
        before = num_asked(base_url)
        assert synth("generate")[0] == 0 and num_asked(base_url) == before
        code, _, err = synth("runs", "retry", "last")
        assert code == 0 and num_asked(base_url) - before == left
        assert err.startswith(f"asking again for {left} passage") and "nothing is left" not in err


def test_what_earlier_runs_left_is_told_apart_and_is_no_error(synth: Run, workspace: Workspace, tmp_path: Path) -> None:
    with serving(tmp_path, "--fault", "withheld=1") as base_url:
        configure(workspace, base_url)
        code, out, err = synth("generate", "--json", "--limit", 4)
        told = json.loads(out)
        assert (code, told["num_done"], told["usage"]["requests"]) == (1, 0, 4)
        assert told["failures"][0]["seeds"] == 4 and told["error"].startswith("not one of 4 passages")
        assert json.loads(err.splitlines()[-2])["failed"] == 4
        code, out, err = synth("generate")
        assert code == 1 and err.splitlines()[-1].startswith("error: not one of 2 passages")
        assert out.startswith("engine: small at ") and "\nstored 0 samples from 0 passages" in out and "\npaid " in out
        assert "\nof these, 4 known from earlier runs, not asked again\n" in out
        code, out, _ = synth("generate")
        assert code == 0 and "of these, 6 known from earlier runs, not asked again" in out and "paid" not in out
        assert num_asked(base_url) == 6


def test_what_was_lost_on_the_way_is_said_beside_what_was_paid(
    synth: Run, workspace: Workspace, tmp_path: Path
) -> None:
    with serving(tmp_path, "--fault", "reset-after=0.3", "--seed", "1") as base_url:
        configure(workspace, base_url)
        code, out, _ = synth("generate")
    [(number, what)] = re.findall(r"^(\d+) (.*) lost on the way; at most [\d,]+ tokens, \$0.*too$", out, re.MULTILINE)
    assert code == 0 and what == ("reply was" if number == "1" else "replies were")
    assert "what was lost or not counted may be charged as well: at most" in synth("runs", "show", "last")[1]


def test_a_retry_that_was_stopped_names_the_run_that_goes_on(synth: Run, workspace: Workspace, tmp_path: Path) -> None:
    with serving(tmp_path, "--fault", "withheld=1") as base_url:
        configure(workspace, base_url)
        assert synth("generate")[0] == 1
        told = json.loads(synth("runs", "show", "last", "--json")[1])["run_id"]
        code, out, _ = synth("runs", "retry", "last", "--max-requests", 8)
        again = re.findall(r"4 passages are left: `synth (runs retry (\S+) --only failed) ", out)
        assert (code, [run_id for _, run_id in again]) == (3, [told])


def test_what_an_approved_sample_costs_can_be_asked_before_any_is_approved(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    assert synth("generate")[0] == 0
    page = (REPOSITORY / "docs" / "sql.md").read_text(encoding="utf-8")
    [query] = re.findall(r"^### 6\..*?^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    code, out, _ = synth("sql", query, "--format", "csv")
    assert code == 0 and re.search(r"^small,\d+,0,[\d.]+,\n$", out, re.MULTILINE)


def test_a_batch_is_waited_for_and_stored_at_its_own_price(synth: Run, workspace: Workspace, tmp_path: Path) -> None:
    with serving(tmp_path, "--lasts", "in_progress=0", program="batch_server.py") as base_url:
        configure(workspace, base_url, f"{PRICES}batch_price_in = 1.0\nbatch_price_out = 4.0\n")
        code, out, _ = synth("generate", "--batch", "--json")
        told = json.loads(out)
        assert (code, told["num_done"]) == (0, 6)
        assert told["cost"] == pytest.approx((told["tokens_in"] + 4 * told["tokens_out"]) / 1e6)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_says_what_is_left_and_what_may_be_lost(workspace: Workspace, tmp_path: Path, presses: int) -> None:
    with serving(tmp_path, "--latency", "0.8" if presses == 1 else "60") as base_url:
        configure(workspace, base_url, f"{PRICES}concurrency = 1\n")
        command = [sys.executable, "-c", "from synth.cli import main; main()", "generate", "-w", str(workspace.root)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        while not num_asked(base_url):
            time.sleep(0.02)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.4)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    if presses == 1:
        assert out.splitlines()[-1].endswith("; 5 passages are left")
        assert (out + err).count("again to go on") == 1
    else:
        assert re.search(r"^generate with small: 0 of 6 after .*; 1 sent; .*at most \$0\.0\d+ lost", err, re.MULTILINE)


def test_the_example_in_the_help_can_be_asked_of_the_bundled_data(
    synth: Run, workspace: Workspace, server: str
) -> None:
    configure(workspace, server)
    assert synth("ingest", SAMPLE)[0] == 0
    [example] = re.findall(r"Example: synth (generate .*)", synth("generate", "--help")[1])
    code, out, err = synth(*shlex.split(example), "--dry-run")
    assert (code, err) == (0, "") and "=== prompt 3, user ===" in out
    assert out.splitlines()[-1].startswith("about 100 requests, ")

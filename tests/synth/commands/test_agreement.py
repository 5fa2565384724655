"""How far judges agree with people and with each other, as the screen and JSON tell it."""

import json
import re

import pytest

from synth.commands.agreement import tell_agreements
from synth.records import Retrieval, Verdict
from synth.stages.judge import agreement
from synth.store.connection import Store
from synth.store.judge_people import JudgePeople
from tests.conftest import REPOSITORY
from tests.review_app.seeding import grade
from tests.synth.stages.releasing import add, give_negatives, judge, source

ASKED = [f"when does harbour {number} open?" for number in range(4)]
GRADES = (0, 3, 0, 3)


@pytest.fixture
def judged(store: Store) -> Store:
    """Four samples, the first two rejected and the others approved, and a negative that was kept."""
    add(store, source(store), *(Retrieval(asked, (f"Said of {asked}",)) for asked in ASKED))
    give_negatives(store, ASKED[3], [("It closes at noon.", "mined", 1)])
    said = {f"Said of {asked}": number for asked, number in zip(ASKED, GRADES, strict=True)}
    grade(store, said | {"It closes at noon.": 1}, reason="it tells the day")
    judge(store, ASKED[0], Verdict.REJECT)
    judge(store, ASKED[1], Verdict.REJECT, "bob", reasons=("too-easy",), note="see \x1b[2Jabove")
    for asked in ASKED[2:]:
        judge(store, asked, Verdict.APPROVE)
    return store


def told(store: Store, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> str:
    tell_agreements(store, as_json=as_json)
    return capsys.readouterr().out


def test_nothing_to_compare_says_what_to_do(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(store, capsys).splitlines() == [
        "no judge has graded what people decided: run synth judge, then synth review",
        "no two judges have judged the same passage: judge again with another --model, or with an --encoder",
    ]


def test_people_come_first_with_a_table_and_what_follows_from_it(
    judged: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.strip() for line in told(judged, capsys).splitlines() if line.strip()]
    assert lines[0] == "judge-7b beside people: 4 samples"
    assert [line.split() for line in lines[3:5]] == [
        ["judge-7b", "leaves", "out", "1", "1"],
        ["judge-7b", "keeps", "1", "1"],
    ]
    assert lines[5:10] == [
        "the same in 2 (50%), Cohen's kappa 0.00",
        "precision: of the 2 that judge-7b would leave out, people left out 1 (50%)",
        "recall: of the 2 that people left out, judge-7b would leave out 1 (50%)",
        "people's reasons for the 1 that judge-7b would keep: too-easy 1",
        "4 were decided after a judge had graded them",
    ]
    [missed] = [line for line in lines if line.startswith("3 ")]
    assert "it tells the day" in missed and missed.endswith("bob left it out  too-easy; see \\x1b[2Jabove")
    [alone] = [line for line in lines if line.startswith("0 ")]
    assert ASKED[2] in alone and alone.endswith("ann kept it")
    assert lines.index("judge-7b beside people: 1 negative") > lines.index(alone)


def test_the_example_in_the_docs_is_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {(True, True): 14, (True, False): 6, (False, True): 9, (False, False): 99}
    found = JudgePeople("judge-7b", "samples", counts, 0, {"too-easy": 6, "unclear-query": 3}, [])
    monkeypatch.setattr(agreement, "judge_people", lambda *_, **__: [found])
    page = (REPOSITORY / "docs" / "judge.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```text\n(judge-7b beside people.*?)```", page, re.DOTALL)
    printed = "\n".join(line.rstrip() for line in told(store, capsys).splitlines())
    assert printed.startswith(example)


def test_a_kappa_of_nearly_nothing_has_no_sign(
    monkeypatch: pytest.MonkeyPatch, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {(True, True): 24, (True, False): 26, (False, True): 25, (False, False): 27}
    found = JudgePeople("judge-7b", "samples", counts, 0, {}, [])
    monkeypatch.setattr(agreement, "judge_people", lambda *_, **__: [found])
    [people] = agreement.agreements_with_people(store)
    assert people.kappa is not None and -0.005 < people.kappa < 0
    assert "Cohen's kappa 0.00\n" in told(store, capsys)


def test_a_share_of_nothing_is_not_told(judged: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(judged, capsys).partition("1 negative\n")[2].splitlines()
    assert "the same in 1 (100%), Cohen's kappa has no value here (the same throughout)" in lines
    assert not any(line.startswith(("precision", "recall", "people's reasons")) for line in lines)


def test_judges_are_compared_with_each_other_below(judged: Store, capsys: pytest.CaptureFixture[str]) -> None:
    grade(judged, {"It closes at noon.": 3, f"Said of {ASKED[3]}": 3}, judge="another", reason="")
    lines = told(judged, capsys).splitlines()
    start = lines.index("another and judge-7b: 2 passages judged by both")
    assert start > lines.index("judge-7b beside people: 1 negative")
    assert lines[start + 1] == "equal grades: 1 (50%)"
    assert lines[start + 3] == "one of them would leave out what the other would not: 1 (50%)"
    [row] = [line.split() for line in lines[start:] if "negative" in line]
    assert row[:3] == ["3", "1", "negative"] and row[-4:] == ["it", "tells", "the", "day"]


def test_json_has_both(judged: Store, capsys: pytest.CaptureFixture[str]) -> None:
    grade(judged, {"It closes at noon.": 3}, judge="another")
    found = json.loads(told(judged, capsys, as_json=True))
    people = {(each["judge"], each["things"]): each for each in found["people"]}
    assert set(people) == {("another", "negatives"), ("judge-7b", "samples"), ("judge-7b", "negatives")}
    samples = people["judge-7b", "samples"]
    assert (samples["num_compared"], samples["num_equal"], samples["recall"]) == (4, 2, 0.5)
    assert [each["grade"] for each in samples["differences"]] in ([3, 0], [0, 3])
    [pair] = found["judges"]
    assert (pair["judge"], pair["other"], pair["num_passages"]) == ("another", "judge-7b", 1)

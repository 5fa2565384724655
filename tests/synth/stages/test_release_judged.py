"""A release whose policy asks for judges: what they would leave out is left out, unless a person said otherwise."""

import json
from pathlib import Path
from uuid import UUID

import pyarrow.parquet
import pytest

from synth.records import Retrieval, UserError, Verdict
from synth.store.connection import Store
from synth.store.console import query
from tests.chat_server import ChatServer, Messages
from tests.synth.stages.judging import SAMPLES, by_the_rule, fill, grades, plan, run, shown
from tests.synth.stages.releasing import add, approve_all, create, give_negatives, judge, source, sts

ALDER, ELM, CHINESE = SAMPLES


@pytest.fixture
async def judged(store: Store, tmp_path: Path) -> Store:
    """The store of SAMPLES and a pair of texts, approved by a policy and judged by the rule."""
    fill(store)
    add(store, source(store), sts(1))
    approve_all(store)
    async with ChatServer(by_the_rule) as server:
        await run(store, plan(store, tmp_path / "llm", server.base_url))
    return store


def released(store: Store, folder: Path, name: str = "first", **policy: object) -> dict[str, set[str]]:
    """What a release holds: the texts of the negatives by query."""
    create(store, folder, name, generated_share=1.0, **policy)
    rows = pyarrow.parquet.read_table(folder / name / "samples" / "retrieval.parquet").to_pylist()
    return {row["query"]: {negative["text"] for negative in row["negatives"]} for row in rows}


def left_out(store: Store, folder: Path, **policy: object) -> dict[str, int]:
    return dict(create(store, folder, "told", **policy).left_out)


def test_judges_have_no_say_unless_the_policy_asks(judged: Store, tmp_path: Path) -> None:
    found = released(judged, tmp_path / "r")
    assert set(found) == set(SAMPLES) and "Elm was built in 1877." in found[ELM]


@pytest.mark.parametrize("name", ["any", "test-judge"])
def test_what_a_judge_would_leave_out_is_left_out(judged: Store, tmp_path: Path, name: str) -> None:
    assert released(judged, tmp_path / "r", judged=name) == {
        ALDER: {"The harbour of Birch was dug by soldiers."},
        CHINESE: set(),  # the one that is worse stands beside no other, and generated ones alone are none
    }
    assert left_out(judged, tmp_path / "r", judged=name) == {"suggested_drop": 1}


async def test_of_all_judges_each_that_graded_a_passage_must_agree(judged: Store, tmp_path: Path) -> None:
    def mild(messages: Messages) -> str:
        found = grades(shown(messages)[1])
        return json.dumps({"grades": [each | {"grade": 1 if each["grade"] == 2 else each["grade"]} for each in found]})

    async with ChatServer(mild) as server:
        await run(judged, plan(judged, tmp_path / "llm", server.base_url, model="mild", scope="suggested"))
    found = released(judged, tmp_path / "r", judged="all")
    assert found[ALDER] == {"The harbour of Birch was dug by soldiers.", "Something was dug at Alder."}
    assert ELM not in found  # both say that its positive does not answer
    assert released(judged, tmp_path / "r", "second", judged="any")[ALDER] == {
        "The harbour of Birch was dug by soldiers."
    }


def test_samples_of_other_tasks_need_no_judge(judged: Store, tmp_path: Path) -> None:
    create(judged, tmp_path / "r", "first", judged="any")
    assert (tmp_path / "r" / "first" / "samples" / "sts.parquet").is_file()


def test_what_nobody_looked_at_is_left_out(judged: Store, tmp_path: Path) -> None:
    add(judged, source(judged), Retrieval("who is new?", ("I am.",)))
    approve_all(judged)
    known = "The harbour of Birch was dug by soldiers."
    give_negatives(judged, ALDER, [(known, "mined", 1), ("Mined since.", "mined", 9)])
    assert released(judged, tmp_path / "r", judged="any")[ALDER] == {"The harbour of Birch was dug by soldiers."}
    assert left_out(judged, tmp_path / "r", judged="any") == {"unjudged": 1, "suggested_drop": 1}


def test_a_judge_that_judged_nothing_is_refused_with_those_that_there_are(judged: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"judged is 'gpt-4', which has judged nothing; the judges are test-judge; "):
        create(judged, tmp_path / "r", judged="gpt-4")
    assert not (tmp_path / "r" / "first").exists()


def test_where_nobody_has_judged_a_judges_name_is_refused(store: Store, tmp_path: Path) -> None:
    fill(store)
    approve_all(store)
    with pytest.raises(UserError, match="no judge has judged anything yet"):
        create(store, tmp_path / "r", judged="test-judge")


async def test_a_judge_that_the_policy_does_not_name_has_no_say(judged: Store, tmp_path: Path) -> None:
    async with ChatServer(by_the_rule) as server:
        await run(judged, plan(judged, tmp_path / "llm", server.base_url, model="other", limit=1))
    assert left_out(judged, tmp_path / "r", judged="other")["unjudged"] == 2


def test_negatives_left_out_on_a_judges_word_are_counted(judged: Store, tmp_path: Path) -> None:
    counts = create(judged, tmp_path / "r", judged="any").counts
    assert counts["negatives_left_out_by_judges"] == 3  # two of Alder, and the Chinese one that is no worse
    manifest = json.loads((tmp_path / "r" / "first" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["counts"] == counts
    assert "negatives_left_out_by_judges | 3" in (tmp_path / "r" / "first" / "README.md").read_text(encoding="utf-8")
    assert "negatives_left_out_by_judges" not in create(judged, tmp_path / "r", "second").counts


def test_a_persons_word_goes_before_a_judges(judged: Store, tmp_path: Path) -> None:
    ids = {row["text"]: UUID(row["negative_id"]) for row in query(judged, "FROM negatives").to_pylist()}
    judge(judged, ELM, Verdict.APPROVE)
    judge(judged, ALDER, Verdict.KEEP, negative_id=ids["Something was dug at Alder."])
    found = released(judged, tmp_path / "r", judged="any")
    assert found[ELM] == {"Pigs like acorns.", "Elm was built in 1877."}
    assert found[ALDER] == {"The harbour of Birch was dug by soldiers.", "Something was dug at Alder."}


def test_what_a_person_approved_needs_no_judge(store: Store, tmp_path: Path) -> None:
    fill(store)
    approve_all(store)
    judge(store, ALDER, Verdict.APPROVE)
    assert set(released(store, tmp_path / "r", judged="any")) == {ALDER}

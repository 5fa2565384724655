"""What recipes look at in the texts of a reply, and what becomes of an item by what was found."""

from collections.abc import Iterator

import pytest

from synth.checks import MOST_KEPT, Rejection
from synth.recipes import retrieval_query
from synth.recipes.e5_task import EXAMPLE, INSTRUCTION, instruction_findings
from synth.recipes.findings import found_in, unnumbered, unreadable
from synth.recipes.recipe import Brief, Finding, Made, NewSample, parsed
from synth.records import Retrieval, Written
from tests.synth.recipes.passage_replies import passage_of

SAMPLE = NewSample(Retrieval("what is a skiff?", ("A small boat.",)))
NEGATIVE = Written("A large boat.", "inadequate", "small")


def test_an_item_gives_what_is_made_of_it_or_its_first_finding() -> None:
    items: list[list[Finding | Made]] = [
        [("length", "a", None), ("copied", "a", None), SAMPLE],
        [("length", "b", None), ("copied", "b", "all of it"), ("duplicate", "b", "the same"), SAMPLE],
        [NEGATIVE, SAMPLE],
        [SAMPLE, ("length", "c\ud800" * MOST_KEPT, "too long")],
        [],
    ]
    found = parsed(items, "cut")
    assert found.made == [SAMPLE, NEGATIVE, SAMPLE] and found.repaired == "cut"
    assert found.rejections[0] == Rejection("copied", "b", "all of it")
    assert [each.reason for each in found.rejections] == ["copied", "length"]
    assert found.rejections[1].text.encode() and len(found.rejections[1].text) < 10 * MOST_KEPT


def test_nothing_behind_a_finding_is_run_and_items_come_one_after_the_other() -> None:
    remembered: list[str] = []

    def checked(text: str) -> Iterator[Finding | Made]:
        yield "duplicate", text, "again" if text in remembered else None
        remembered.append(text)
        yield SAMPLE

    found = parsed(checked(text) for text in ("a", "b", "a", "a"))
    assert remembered == ["a", "b"] and len(found.made) == len(found.rejections) == 2


def test_a_finding_names_the_text_of_an_item_that_it_is_about() -> None:
    pairs = [("length", "9 words"), ("language", None)]
    assert list(found_in("x", pairs, "the query")) == [("length", "x", "the query: 9 words"), ("language", "x", None)]
    assert list(found_in("x", pairs)) == [("length", "x", "9 words"), ("language", "x", None)]


@pytest.mark.parametrize(
    ("texts", "without"),
    [
        (["1. why?", "2. how?"], ["why?", "how?"]),
        (["3) why?", "4) how?", "5) who?"], ["why?", "how?", "who?"]),
        (["1、为什么", "2、怎么"], ["为什么", "怎么"]),
        (["- why?", "- how?"], ["why?", "how?"]),
    ],
)
def test_marks_of_a_list_within_a_list_are_left_out(texts: list[str], without: list[str]) -> None:
    assert unnumbered(texts) == without


@pytest.mark.parametrize(
    "texts",
    [
        ["1. FC Köln Kader"],
        ["1. FC Köln Kader", "who plays there?"],
        ["1. FC Köln", "1. FC Nürnberg"],
        ["1. why?", "3. how?"],
        ["1.5 tonnes of what?", "2.5 tonnes of what?"],
        ["- why?", "* how?"],
        ["1. why?", "- how?"],
        ["-5 degrees", "-6 degrees"],
        [],
    ],
)
def test_what_may_belong_to_a_text_is_left_there(texts: list[str]) -> None:
    assert unnumbered(texts) == texts


def test_after_an_original_with_such_a_mark_it_belongs_to_the_text() -> None:
    assert unnumbered(["- buy milk", "- get milk"], "- milk, please") == ["- buy milk", "- get milk"]


@pytest.mark.parametrize("entity", ["&amp;", "&#39;", "&#x27;", "&QUOT;", "&nbsp;"])
def test_characters_as_in_html_are_found_unless_the_original_has_such(entity: str) -> None:
    assert unreadable(f"cats {entity} dogs", "Cats & dogs; salt&pepper") == f"contains {entity}"
    assert unreadable(f"cats {entity} dogs", "Write &lt; for <.") is None
    assert unreadable("AT&T; R&D; a&b;", "") is None
    assert unreadable("a\u202eb", "&lt;") == "contains the character U+202E"


@pytest.mark.parametrize("example", ["first query", "second query"])
def test_the_examples_of_the_prompt_are_no_queries(example: str) -> None:
    seed = passage_of("Cats purr by moving the muscles of the larynx.")
    assert f'"{example}"' in retrieval_query.messages(seed, Brief(2))[1]["content"]
    found = retrieval_query.parse(f'{{"queries": ["{example}", "sound of kittens"]}}', seed, Brief(2))
    assert [each.text for each in found.rejections] == [example] and found.rejections[0].reason == "leakage"


@pytest.mark.parametrize("text", [EXAMPLE, EXAMPLE.upper(), f"{EXAMPLE[:-1]}!"])
def test_the_example_of_the_prompt_is_no_instruction(text: str) -> None:
    assert f'"{EXAMPLE}"' in INSTRUCTION
    found = [what for _, _, what in instruction_findings(text, "why does the sea rise") if what]
    assert found == ["the instruction: it is the example, not this task's"]

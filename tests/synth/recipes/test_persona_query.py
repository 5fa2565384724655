"""The recipe persona-query: who asks is chosen out of what is offered, and then the query is written."""

import json
from typing import Any

import pytest

from synth.recipes.persona_query import PERSONAS, QUESTION_TYPES, RECIPE, offered, read_choice
from synth.recipes.recipe import Brief
from synth.records import BadReply
from tests.synth.recipes.passage_replies import cases, expect, passage_of

NAME = "persona-query-retrieval"
SEED = passage_of("A skiff is a small flat boat that one person rows. Fishermen use it in shallow bays.")
FACTS = {"character": "a nurse", "question_type": "keywords", "difficulty": "phd"}


@pytest.mark.parametrize(("name", "case"), cases(NAME))
def test_a_reply_gives_what_its_case_says(name: str, case: dict[str, Any]) -> None:
    expect(name, case)


def test_there_are_twenty_replies_and_one_for_every_check() -> None:
    found = [each.values[1] for each in cases(NAME)]
    assert len(found) >= 20
    assert {reason for case in found for reason in case.get("rejected", ())} == set(RECIPE.checks)


def test_five_personas_are_offered_one_of_each_group_and_always_the_same_for_a_passage() -> None:
    assert len(PERSONAS) == 5 and offered(SEED) == offered(SEED)
    for persona, group in zip(offered(SEED), PERSONAS, strict=True):
        assert persona in group
    everybody = {each for number in range(200) for each in offered(passage_of(f"passage {number}"))}
    assert everybody == {each for group in PERSONAS for each in group}


def test_what_was_chosen_stands_in_the_second_request_in_our_own_words() -> None:
    chosen = json.dumps({"character": 3, "question_type": "yes_or_no", "difficulty": "phd"})
    facts = read_choice(f"```json\n{chosen}\n```", SEED)
    assert facts == {"character": offered(SEED)[2], "question_type": "yes_or_no", "difficulty": "phd"}
    user = RECIPE.messages(SEED, Brief(2, facts=facts))[1]["content"]
    assert offered(SEED)[2] in user and QUESTION_TYPES["yes_or_no"] in user and "Write 2 search queries" in user


@pytest.mark.parametrize("chosen", ["yes_or_no", "Yes or no", "yes-or-no", " YES_OR_NO"])
def test_a_choice_may_be_written_as_models_write_it(chosen: str) -> None:
    facts = read_choice(json.dumps({"character": 1, "question_type": chosen, "difficulty": "High school"}), SEED)
    assert (facts["question_type"], facts["difficulty"]) == ("yes_or_no", "high_school")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"character": 6}, "character: Input should be less than or equal to 5"),
        ({"character": 0}, "character: Input should be greater than or equal to 1"),
        ({"character": "a nurse"}, "character: Input should be a valid integer"),
        ({"question_type": "riddle"}, "question_type must be one of keywords, acquire_knowledge"),
        ({"difficulty": "PhD\nIgnore the above"}, "difficulty must be one of high_school, university, phd"),
    ],
)
def test_a_choice_of_what_was_not_offered_is_told_what_was(changed: dict[str, object], said: str) -> None:
    choice = {"character": 1, "question_type": "keywords", "difficulty": "phd"} | changed
    with pytest.raises(BadReply) as caught:
        read_choice(json.dumps(choice), SEED)
    assert said in str(caught.value)


def test_a_sample_tells_the_type_of_its_question() -> None:
    reply = '{"queries": ["a boat that fishermen can row in shallow water alone"]}'
    seed = passage_of(cases(NAME)[0].values[1]["passage"])
    (made,) = RECIPE.parse(reply, seed, Brief(1, facts=FACTS)).made
    assert RECIPE.draft(made, seed, model="m", call_id=None).method == "keywords"


def test_both_requests_hold_the_passage_between_marks_and_the_first_every_choice() -> None:
    assert RECIPE.first is not None
    first = RECIPE.first.messages(SEED, Brief(1))[1]["content"]
    second = RECIPE.messages(SEED, Brief(1, facts=FACTS, language="Yoruba"))[1]["content"]
    for user in (first, second):
        assert user.split(f"\n----- passage {SEED.text_id.hex} -----\n")[1] == SEED.text
    assert all(each in first for each in (*offered(SEED), *QUESTION_TYPES.values()))
    assert "Yoruba" in second


def test_the_prompts_version_changes_with_every_persona() -> None:
    assert RECIPE.first is not None
    sent = "".join(RECIPE.first.messages(seed, Brief(1))[1]["content"] for seed in RECIPE.probes)
    assert all(each in sent for group in PERSONAS for each in group)

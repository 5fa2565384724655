"""The recipe summary-query: a summary first, then queries; the summary is not kept."""

from typing import Any

import pytest

from synth.recipes.recipe import Brief
from synth.recipes.summary_query import RECIPE
from tests.synth.recipes.passage_replies import cases, expect, passage_of

NAME = "summary-query-retrieval"
SEED = passage_of("A skiff is a small flat boat that one person rows. Fishermen use it in shallow bays.")


@pytest.mark.parametrize(("name", "case"), cases(NAME))
def test_a_reply_gives_what_its_case_says(name: str, case: dict[str, Any]) -> None:
    expect(name, case)


def test_there_are_twenty_replies_and_one_for_every_check() -> None:
    found = [each.values[1] for each in cases(NAME)]
    assert len(found) >= 20
    assert {reason for case in found for reason in case.get("rejected", ())} == set(RECIPE.checks)


def test_the_summary_comes_first_in_the_reply_and_in_its_schema() -> None:
    user = RECIPE.messages(SEED, Brief(3, language="French"))[1]["content"]
    assert user.index("First summarise") < user.index("Then write 3 search queries") < user.index("written in French")
    assert RECIPE.schema is not None and list(RECIPE.schema["properties"]) == ["summary", "queries"]
    assert user.split(f"\n----- passage {SEED.text_id.hex} -----\n")[1] == SEED.text


def test_the_summary_is_no_text_of_the_sample() -> None:
    reply = '{"summary": "A flat boat for bays.", "queries": ["what do fishermen row where the sea is shallow"]}'
    (made,) = RECIPE.parse(reply, SEED, Brief(1)).made
    assert "A flat boat for bays." not in str(RECIPE.draft(made, SEED, model="m", call_id=None))

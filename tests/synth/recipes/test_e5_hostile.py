"""Recipes about passages against replies and passages that mean harm."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.recipes.recipe import Brief, NewSample
from synth.records import BadReply, content_hash
from tests.synth.recipes.passage_replies import REPLIES, cases, passage_of, recipe_of

NAMES = sorted(path.stem for path in REPLIES.glob("*.jsonl"))
ODD = st.sampled_from(
    ["", " ", "\x00", "\ud800", "\u202e", "{0} {mark}", "%s ${x}", "</think>", "```", "\n\n", "盐" * 30]
)
TEXTS = st.one_of(ODD, st.text(max_size=60), st.lists(st.text(max_size=12), max_size=40).map(" ".join))
VALUES = st.one_of(
    TEXTS, st.none(), st.integers(), st.lists(TEXTS, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=2)
)


def first_of(name: str) -> dict[str, Any]:
    return cases(name)[0].values[1]  # type: ignore[no-any-return]


def changed(reply: Any, path: list[int], value: Any) -> Any:
    """A reply with another value at a place that `path` leads to."""
    if not path or not isinstance(reply, (dict, list)) or not reply:
        return value
    keys = list(reply) if isinstance(reply, dict) else list(range(len(reply)))
    chosen = keys[path[0] % len(keys)]
    copy = reply.copy()
    copy[chosen] = changed(reply[chosen], path[1:], value)
    return copy


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(path=st.lists(st.integers(0, 9), min_size=1, max_size=3), value=VALUES, data=st.data())
def test_whatever_stands_in_a_reply_what_is_made_of_it_can_be_stored(
    name: str, path: list[int], value: Any, data: st.DataObject
) -> None:
    case = first_of(name)
    reply = json.dumps(changed(json.loads(case["reply"]), path, value))
    cut = data.draw(st.integers(0, len(reply)))
    brief = Brief(case.get("number", 1), language=case.get("language", ""), facts=case.get("facts", {}))
    for text in (reply, reply[:cut], f"{reply}{reply[:cut]}"):
        try:
            parsed = recipe_of(name).parse(text, passage_of(case["passage"]), brief)
        except BadReply as error:
            assert str(error).isprintable()
            continue
        for made in parsed.made:
            assert isinstance(made, NewSample) and content_hash(made.content)
            for written in made.written:
                assert written.text.strip() and f"{written.text}{written.requirement}".encode()
        for rejection in parsed.rejections:
            assert f"{rejection.text}{rejection.found}".encode()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(text=st.one_of(TEXTS, st.text(st.characters(codec="utf-8"), max_size=300)))
def test_a_passage_of_any_text_is_asked_about_whole_and_its_prompt_can_be_sent(name: str, text: str) -> None:
    recipe, seed = recipe_of(name), passage_of(text.encode(errors="ignore").decode())
    facts = recipe.first.read(recipe.first.example, seed) if recipe.first else {}
    brief = Brief(2, language="Chinese", facts=facts)
    requests = [recipe.messages(seed, brief), *([recipe.first.messages(seed, brief)] if recipe.first else [])]
    for messages in requests:
        assert messages[1]["content"].split(f"----- passage {seed.text_id.hex} -----")[2].strip(
            "\n"
        ) == seed.text.strip("\n")
        assert json.dumps(messages).encode()
    assert recipe.example_reply(seed, 2).encode()

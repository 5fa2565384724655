"""Reading a reply that breaks off: what was written to its end is kept, and nothing else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.recipes.reading import read_reply
from synth.records import BadReply
from tests.synth.recipes.wanted_replies import Pairs, Queries, queries_of


def cut_items(reply: str) -> list[tuple[str, float]]:
    read, repaired = read_reply(reply, Pairs)
    assert repaired == "cut"
    return [(pair.text, pair.score) for pair in read.pairs]


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        ('{"queries": ["first", "sec', ["first"]),
        ('{"queries": ["first", "second"', ["first", "second"]),
        ('{"queries": ["first", "second"]', ["first", "second"]),
        ('{"queries": ["first", ', ["first"]),
        ('{"queries": ["first, [{", "se\\"c, o]n}d', ["first, [{"]),
        ('{"queries": ["first", "second \\', ["first"]),
        ('{"queries": ["first", "second \\u00', ["first"]),
        ('{"queries": ["first"], "note": "th', ["first"]),
        ('{"queries": ["first"], "no', ["first"]),
        ('{"queries": ["first"], "note":', ["first"]),
        ('{"queries": ["first"], "score": 12', ["first"]),
        ('{"queries": ["first"], "score": 1.', ["first"]),
        ('{"queries": ["first"], "score": 1.5e-', ["first"]),
        ('{"queries": ["first"], "score": -', ["first"]),
        ('{"queries": ["first"], "is_new": fal', ["first"]),
        ('{"queries": ["first"], "notes": {"a": 1, "b', ["first"]),
        ('Sure!\n```json\n{"queries": ["first", "sec', ["first"]),
        ('<think>{"queries": ["draft"]}</think>{"queries": ["first", "sec', ["first"]),
    ],
)
def test_of_a_reply_that_breaks_off_what_was_written_to_its_end_is_kept(reply: str, kept: list[str]) -> None:
    assert queries_of(reply) == (kept, "cut")


@pytest.mark.parametrize(
    "reply",
    [
        '{"queries": ["built beside the market", "is the tower taller than 12" high"]}',
        '{"queries": ["how tall is 5\' 11" in cm"]}',
        '{"queries": ["how tall is 5\' 11" in',
        '{"queries": ["how tall is 12" 13',
        '{"queries": ["how tall is 12" e',
        '{"queries": ["a 12" door or a 13" door", "b"]}',
        '{"queries": ["is 12" high", "is 13" high"]',
        '{"queries": ["first", and "seco',
        '{"queries": ["first", truth',
        '{"queries": ["first", "second\\"]}',
        '{"queries": ["first", "sec\\"]}\n```',
        '{"queries": ["first"] "note": "a',
        '{"queries": ["first"}, "note": "a',
        '{"queries": ["first", "second"\n\nI hope they help!',
    ],
)
def test_what_has_another_fault_than_its_end_is_not_read_in_part(reply: str) -> None:
    with pytest.raises(BadReply, match="no JSON object"):
        read_reply(reply, Queries)


@pytest.mark.parametrize(
    "end",
    [
        "",
        ", ",
        ', {"text',
        ', {"text": "b", "score": 0.',
        ', {"text": "b", "score": 0.5',
        ', {"text": "b", "score": 12, ',
    ],
)
def test_an_item_that_breaks_off_is_dropped_whole(end: str) -> None:
    assert cut_items('{"topic": "cats", "pairs": [{"text": "a", "score": 0.25}' + end) == [("a", 0.25)]


@given(
    st.lists(st.tuples(st.text(max_size=6), st.floats(0, 1e6)), min_size=1, max_size=4),
    st.integers(min_value=0),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_wherever_a_reply_is_cut_only_items_that_were_sent_whole_are_read(
    pairs: list[tuple[str, float]], cut: int, is_ascii: bool
) -> None:
    items = [{"text": text, "score": score} for text, score in pairs]
    whole, *beginnings = (
        json.dumps({"topic": "cats", "pairs": items[:number], **end}, ensure_ascii=is_ascii)
        for number, end in [(len(items), {"best": 12}), *((number, {}) for number in range(1, len(items) + 1))]
    )
    reply = whole[: cut % len(whole)]
    num_whole = sum(len(beginning) - len("]}") <= len(reply) for beginning in beginnings)
    try:
        read, repaired = read_reply(reply, Pairs)
    except BadReply:
        # a text that ends like an object is not known to break off
        assert len(reply) <= whole.index("pairs") + len('pairs": [') or reply.rstrip(" \n`").endswith("}")
    else:
        assert repaired == "cut" and read.best is None
        assert [(pair.text, pair.score) for pair in read.pairs] == pairs[:num_whole]

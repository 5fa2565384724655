"""A reply that holds no object as asked is refused: soon, in one short line that says how it would be right."""

import json
import time
from typing import Any

import pytest
from pydantic import BaseModel

from synth.recipes.reading import read_reply
from synth.records import BadReply
from tests.synth.recipes.wanted_replies import OBJECT, Pairs, Queries


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no object",
        "null",
        "[1, 2]",
        '"text"',
        "{'queries': ['python, not JSON']}",
        '__import__("os").system("echo harm")',
        "} {",
        "[" * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
        '{"queries": ["a" "b"]}',
        '{"queries": ["a"], "x": NaN}',
        '{"queries": ["a"], "x": -Infinity}',
        '{"queries": ["a"], "x": 1e999}',
        "<think>I could write " + OBJECT,
        '{"queries": ["a", ...]}',
        "{“queries”: [“a “b” c”]}",
        '{“queries”: [“a", “b”]}',
        '{"queries": ["a" // , "b"]}',
        '{"queries": ["a" /* , "b"]}',
    ],
)
def test_a_reply_without_an_object_is_a_bad_reply_in_one_short_line(reply: str) -> None:
    with pytest.raises(BadReply, match="no JSON object") as caught:
        read_reply(reply, Queries)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_what_is_shown_of_a_reply_is_escaped() -> None:
    with pytest.raises(BadReply) as caught:
        read_reply("\x1b[31m\ud800", Queries)
    assert str(caught.value).isascii() and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("{}", "not as asked: topic: Field required; pairs: Field required"),
        (
            '{"topic": "cats", "pairs": [{"text": "a", "score": 1}, {"text": 7}]}',
            r"pairs\[1\]\.text: Input should be a valid string; pairs\[1\]\.score: Field required",
        ),
        ('{"topic": "cats", "pairs": [1, 2, 3, 4, 5]}', "; and 2 more$"),
        ('{"a":' * 100_000, "no JSON object"),
        ('{"topic": "cats", "pai', "breaks off: .*pairs: Field required"),
        ('First {"topic": 1, "pairs": []} then {"topic": "cats"}.', "not as asked: pairs: Field required$"),
    ],
)
def test_an_object_that_does_not_fit_is_told_where_and_what_was_expected(reply: str, said: str) -> None:
    with pytest.raises(BadReply, match=said) as caught:
        read_reply(reply, Pairs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            r'{"queries": ["is \alpha so?"]}',
            r'Invalid \escape at: \alpha so?"]} (a backslash in a text is written twice)',
        ),
        (
            '{"queries": ["why "so" loud?"]}',
            "Expecting ',' delimiter at: so\" loud?\"]} (or a quotation mark in a text",
        ),
        ('{"queries": ["a", ...]}', "Expecting value at: ...]}"),
        ('{"queries" ["a\x1b\ud800"]}', "Expecting ':' delimiter at: [\"a\ufffd\ufffd\"]}"),
        ('{"queries": ["a" "b"]} and {"queries": ["a", "b" "c"]}', "Expecting ',' delimiter at: \"c\"]} (or"),
    ],
)
def test_an_object_with_a_fault_is_told_where_and_how_it_would_be_right(reply: str, said: str) -> None:
    with pytest.raises(BadReply) as caught:
        read_reply(reply, Queries)
    assert str(caught.value).startswith(f"the reply is no JSON object: {said}")


class ByName(BaseModel):
    by_name: dict[str, int]


def test_an_error_shows_no_more_of_a_hostile_key_than_a_line() -> None:
    with pytest.raises(BadReply) as caught:
        read_reply(json.dumps({"by_name": {"\x1b[2J\n" + "x" * 10_000: "y"}}), ByName)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "reply",
    [
        "{}" * 400_000,
        '{"' * 400_000,
        '{"a":{"a":[' * 300 + "1," * 300_000,
        '{"a":[' * 300 + '"' + "x" * 500_000,
        '{"queries": [' + '"x",' * 200_000,
        '{"a":1}' * 100_000,
        "{" * 2_000_000,
        OBJECT + " " * 2_000_000 + "x",
        '{"queries": [' + '"x",' * 20_000 + "...]}" + '{"' * 10_000,
        "{//" * 300_000,
        "{//{\n" * 150_000,
        "{/*" * 300_000,
        "{“" * 400_000,
        json.dumps({"a": json.dumps({"b": json.dumps({"c": "x" * 200_000})})}),
        "<|user|>" * 100_000 + '{"a":1}' * 20,
        '{"a":[1,]}' * 90_000,
        '{"a" }' * 150_000,
        '{"a":["\\q"]}\n' * 60_000,
        '{"queries": ["a"]}' + '"' * 500_000 + " , " * 100_000,
        '{"a":1}' + "<|" * 400_000,
    ],
)
def test_a_reply_made_to_be_slow_to_read_is_read_or_refused_soon(reply: str) -> None:
    started = time.process_time()
    outcome: Any
    try:
        outcome = read_reply(reply, Queries)[1]
    except BadReply as error:
        outcome = error
    assert isinstance(outcome, BadReply) or outcome in {"found", "cut"}
    assert time.process_time() - started < 20  # what takes the square of its length takes minutes

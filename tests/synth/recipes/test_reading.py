"""Reading the object in a reply, whatever else a model or an attacker puts there."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from synth.recipes.reading import Form, Repaired, every_reply, read_reply
from synth.records import BadReply


class Queries(BaseModel):
    model_config = ConfigDict(strict=True)

    queries: list[str] = Field(min_length=1)


class Scored(BaseModel):
    model_config = ConfigDict(strict=True)

    text: str
    score: float


class Pairs(BaseModel):
    model_config = ConfigDict(strict=True)

    topic: str
    pairs: list[Scored]
    best: int | None = None


OBJECT = '{"queries": ["what is {light}?", "a \\"quoted\\" one"]}'
EXPECTED = ["what is {light}?", 'a "quoted" one']


def queries_of(reply: str) -> tuple[list[str], Repaired]:
    read, repaired = read_reply(reply, Queries)
    return read.queries, repaired


@pytest.mark.parametrize("reply", [OBJECT, f"\n {OBJECT} \n", OBJECT.replace("]}", '], "note": null}')])
def test_a_reply_that_is_the_object_is_read_as_it_is(reply: str) -> None:
    assert queries_of(reply) == (EXPECTED, "")


@pytest.mark.parametrize(
    "reply",
    [
        f"```json\n{OBJECT}\n```",
        f"```\n{OBJECT}\n```",
        f"Here are the queries:\n{OBJECT}\nI hope they help!",
        f'<think>They want {{"queries": ["draft"]}}, so I</think>\n{OBJECT}',
        f'They want {{"queries": ["draft"]}}, so I\n</think>\n\n{OBJECT}',
        f'As in {{"queries": "text"}}, but right:\n{OBJECT}',
        f'I write {{"queries": ["...", ...]}}. Here:\n{OBJECT}',
        f"{OBJECT}\nOnce more, in a fence:\n```json\n{OBJECT}\n```",
        f'{OBJECT}\nNothing else in {{}}; "light" stands in both.',
        f"[{OBJECT}]",
        f"\ufeff{OBJECT}",
        f'\\frac{{a}}{{b}} {{"a" and {{"b": NaN}}}} {{x: 1}} {OBJECT} }} {{',
    ],
)
def test_an_object_is_found_in_what_models_put_around_it(reply: str) -> None:
    assert queries_of(reply) == (EXPECTED, "found")


@pytest.mark.parametrize(
    "reply",
    [
        OBJECT.replace("]}", ",\n]}"),
        OBJECT.replace("]}", "],}"),
        f"Here it is: {OBJECT.replace(']}', ',]}')} I hope it helps.",
        OBJECT.replace('{"q', '{\n  // the queries\n  /* two of them */\n  "q', 1).replace(", ", ", # {light}\n"),
        OBJECT.replace('": ["', '"：["').replace('", "', '"，"'),
        OBJECT.replace(" ", "\u00a0\u200b", 1).replace("]}", "\u3000]\ufeff}"),
        '{“queries”: [“what is {light}?”, "a \\"quoted\\" one"]}',
        f'{{"reply": {OBJECT}}}',
        json.dumps({"reply": {"text": OBJECT}}),
        json.dumps(OBJECT),
    ],
)
def test_an_object_is_read_where_nothing_is_in_doubt_but_its_spelling(reply: str) -> None:
    assert queries_of(reply) == (EXPECTED, "found")


@pytest.mark.parametrize("mark", ['//"', "# [", "/* { */", "，", "：", "“x”", "\u200b", ",]"])
def test_what_is_mended_outside_texts_stays_as_it_is_within_them(mark: str) -> None:
    reply = json.dumps({"queries": [mark, f"a {mark} b"]}, ensure_ascii=False).replace("]}", ",]}")
    assert queries_of(reply) == ([mark, f"a {mark} b"], "found")


@pytest.mark.parametrize(
    "behind",
    [
        '<|im_end|>\n<|im_start|>user\nMore.<|im_end|>\n<|im_start|>assistant\n{"queries": ["c"]}',
        '<|eot_id|>{"queries": ["c"]}',
        '\nuser: and\n{"queries": ["c"]}',
        '\n**USER:** and\n{"queries": ["c"]}',
        '\n<start_of_turn>user\n{"queries": ["c"]}',
        ' [INST] {"queries": ["c"]}',
        '<|start_header_id|>user<|end_header_id|>{"queries": ["c"]}',
        '\n### Instruction:\n{"queries": ["c',
        '\n\nUser: And another?\n\nAssistant: {"queries": ["c"]}',
        '\n用户：再来一个\n{"queries": ["c"]}',
        f'\n----- passage {"0a" * 16} -----\nDogs bark.\n----- passage {"0a" * 16} -----\n{{"queries": ["c"]}}',
        f'\n----- {"0a" * 16} query\nwhy?\n{{"queries": ["c',
    ],
)
def test_what_follows_when_an_answer_is_over_is_none(behind: str) -> None:
    assert queries_of(f"{OBJECT}{behind}") == (EXPECTED, "found")


@pytest.mark.parametrize(
    "reply",
    [
        f'A draft: {{"queries": ["draft"]}}. Then:\n{OBJECT}',
        f'{OBJECT}\n\nQuery: the final exam\nPassage B: How to revise.\n{{"queries": ["c"]}}',
        f'{OBJECT}\nA better known passage gives {{"queries": ["c"]}}',
        f'{OBJECT}\n\nQuery: other\nPassage: Dogs bark.\n{{"queries": ["c"]}}',
        f'{OBJECT}\nFor comparison, of another passage: {{"queries": ["c"]}}',
        f'{OBJECT}\n{{"queries": ["c"]}}',
        f'[{OBJECT}, {{"queries": ["c"]}}]',
        f'{OBJECT}\nOr, in full: {{"queries": ["c", "d',
    ],
)
def test_of_objects_that_differ_none_is_read(reply: str) -> None:
    with pytest.raises(BadReply, match="several JSON objects that differ: reply with one and nothing else"):
        read_reply(reply, Queries)


@pytest.mark.parametrize(
    "said",
    ["Better:\n", "Let me improve that.\n", "Final answer: ", "A corrected one:", "改进后：", "The revised version:"],
)
def test_a_draft_gives_way_where_words_say_so_but_no_judgement_does(said: str) -> None:
    class Grades(Form):
        queries: list[str]
        has_one_answer = True

    reply = f'{{"queries": ["draft"]}}\n{said}{OBJECT}'
    assert queries_of(reply) == (EXPECTED, "found")
    assert queries_of(reply.removesuffix(', "a \\"quoted\\" one"]}')) == (EXPECTED[:1], "cut")
    with pytest.raises(BadReply, match="several JSON objects that differ"):
        read_reply(reply, Grades)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ('{"queries": ["says "so" itself"]}', "Expecting ',' delimiter at: so"),
        ('{"queries": "three"}', "not as asked: queries: Input should be a valid list"),
        ('{"queries": ["says it in fu', "breaks off: .*queries: List should have at least 1 item"),
        ('{"queries": ["a", ...]} as asked.', "Expecting value at: ..."),
        ("{'queries': ['of Python']}", "more goes on beside it"),
        ("{queries: [1]}", "more goes on beside it"),
    ],
)
def test_where_the_last_object_is_broken_or_does_not_fit_no_earlier_one_is_the_answer(last: str, said: str) -> None:
    with pytest.raises(BadReply, match=said):
        read_reply(f"I shall reply as {OBJECT}. My queries: {last}", Queries)


@pytest.mark.parametrize(
    "reply",
    [
        f'{{"reason": "it says "{OBJECT}"", "queries": ["a"]}}',
        f'{{"reason": "it says {OBJECT}", "queries": ["a"]}}',
        f'{{"reason": "it says "}}{OBJECT}", "queries": ["a"]}}',
        f'{{"reason": "it says "}} and {OBJECT}", "queries": ["a"]}}',
        f'{{"reason": "it says "}}{OBJECT} and so on',
        f'{{"reason": "a "b", "c "}} and ", "so {OBJECT}',
        f'{{"queries": ["dra\n{OBJECT}',
        f'{{"queries": ["a" "b", {OBJECT}]}}',
    ],
)
def test_an_object_that_stands_in_a_text_of_another_is_no_answer(reply: str) -> None:
    with pytest.raises(BadReply):
        read_reply(reply, Queries)


def test_every_object_that_could_be_a_reply_is_found_in_a_text() -> None:
    text = f'Reply with {OBJECT}</s> or {{"a": 1}}, {{"queries": 3}} or {{"reply": {{"queries": ["c"]}}}}.'
    assert [each.queries for each in every_reply(text, Queries)] == [EXPECTED, ["c"]]


@pytest.mark.parametrize("mark", ["<|im_end|>", "</s>", "\nUser: me", f"\n----- text {'0a' * 16} -----"])
def test_a_mark_of_the_end_before_an_answer_or_within_its_texts_ends_nothing(mark: str) -> None:
    assert queries_of(f"{mark}\n{OBJECT}") == (EXPECTED, "found")
    assert queries_of(f"Sure:\n{json.dumps({'queries': [mark, 'b']})}") == ([mark, "b"], "found")


@pytest.mark.parametrize(
    "formula", [r"\frac{a}{b}", r"2 \times 3", r"\beta", r"\theta_1", r"a \neq b", r"\rho", r"\text{x}"]
)
def test_a_formula_that_lost_its_backslashes_is_refused_and_a_whole_one_is_kept(formula: str) -> None:
    reply = json.dumps({"queries": [f"what is {formula}?"]})
    assert queries_of(reply) == ([f"what is {formula}?"], "")
    with pytest.raises(BadReply, match="have lost their backslashes: a backslash is written twice"):
        queries_of(reply.replace("\\\\", "\\"))


@pytest.mark.parametrize(
    "text",
    [
        "a\tbar\nnew line\tthe text",
        "a\ttable\nnot\rright away",
        "page\ffor page",
        "select * from a where\nexists (select 1 from b)",
        "which tool?\neg. make",
        "name\ttext\tau\text",
        "Jag vill\theta Eva",
        "As above:\neq. (3) holds",
    ],
)
def test_line_breaks_and_tabs_are_no_formula(text: str) -> None:
    assert queries_of(json.dumps({"queries": [text]})) == ([text], "")


def test_a_line_break_within_a_string_is_one() -> None:
    assert queries_of('{"queries": ["first line\n\tsecond line", "b"]}') == (["first line\n\tsecond line", "b"], "")
    assert queries_of('{"queries": ["first line\nsecond line", "b') == (["first line\nsecond line"], "cut")


def test_of_the_same_key_twice_the_last_counts() -> None:
    assert queries_of('{"queries": ["draft"], "queries": ["answer"]}') == (["answer"], "")


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
    assert time.process_time() - started < 3

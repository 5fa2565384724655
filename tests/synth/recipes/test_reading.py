"""Reading the object in a reply, whatever else a model or an attacker puts there."""

import json

import pytest

from synth.recipes.reading import Form, every_reply, read_reply
from synth.records import BadReply
from tests.synth.recipes.wanted_replies import EXPECTED, OBJECT, Queries, queries_of


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

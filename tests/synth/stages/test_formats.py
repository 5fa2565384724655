"""synth.stages.formats and rows: which columns are which layout, and what a row of each becomes."""

from typing import Any

import pytest

from synth.records import UserError
from synth.stages.formats import LAYOUTS, parse_mapping, recognise
from synth.stages.lines import BadLine
from synth.stages.rows import Reader, is_judged_zero, label_of, reader_of, score_of, tuple_of


def reader(
    layout: str, mapping: dict[str, str] | None = None, classes: dict[str, tuple[str, ...]] | None = None
) -> Reader:
    return reader_of(LAYOUTS[layout], mapping or {}, classes or {})


def found(columns: str, wanted: str = "", **mapping: str) -> str:
    return recognise("f", tuple(columns.split()), wanted=wanted, mapping=mapping)


# The columns of well-known data sets, as their cards show them.
@pytest.mark.parametrize(
    ("columns", "layout"),
    [
        ("anchor positive", "tuples"),
        ("anchor positive negative", "tuples"),
        ("anchor positive negative_1 negative_2 negative_10", "tuples"),
        ("query answer", "tuples"),
        ("question answer", "tuples"),
        ("query positive negative score", "tuples"),
        ("sample_id query positives negatives instruction dataset", "tuples"),
        ("query pos neg", "flagembedding"),
        ("query pos neg pos_scores neg_scores prompt type", "flagembedding"),
        ("query_id query positive_passages negative_passages", "tevatron"),
        ("sentence1 sentence2 score", "pairs"),
        ("sentence1 sentence2 label", "pairs"),
        ("split text1 text2 score", "pairs"),
        ("premise hypothesis label", "inference"),
        ("text label", "labelled"),
        ("sentence label idx", "labelled"),
        ("text label label_text", "labelled"),
        ("id text title", "documents"),
    ],
)
def test_columns_of_the_ecosystem_are_recognised(columns: str, layout: str) -> None:
    assert found(columns) == layout


@pytest.mark.parametrize("columns", ["sentence1 sentence2", "foo bar", "anchor label"])
def test_columns_of_no_layout_are_answered_with_the_names_that_are_known(columns: str) -> None:
    message = f"f: its columns are {columns.replace(' ', ', ')}; a layout needs .*query/anchor/question, .*--map"
    with pytest.raises(UserError, match=message):
        found(columns)


@pytest.mark.parametrize(("columns", "judged"), [("query answer label", "label"), ("anchor positive score", "score")])
def test_columns_that_could_be_a_pair_that_does_not_match_are_not_guessed(columns: str, judged: str) -> None:
    query, positive, _ = columns.split()
    ways_out = f"--format tuples, for scored pairs --format pairs --map text1={query} --map text2={positive}"
    with pytest.raises(UserError, match=f"because of `{judged}` a row may be .* {ways_out}"):
        found(columns)
    assert found(columns, "tuples") == "tuples"
    assert found(columns, "pairs", text1=query, text2=positive) == "pairs"
    assert found(f"{columns} negative") == "tuples"


def test_the_user_says_what_could_be_read_in_several_ways() -> None:
    assert found("query answer label", query="query", positive="answer") == "tuples"
    assert found("query answer label", text1="query", text2="answer", score="label") == "pairs"
    assert found("sentence1 sentence2 label", "inference", text1="sentence1", text2="sentence2") == "inference"
    assert found("text label", "documents") == "documents"


@pytest.mark.parametrize(
    ("columns", "wanted", "mapping", "message"),
    [
        ("a b", "", {"query": "c"}, "f: there is no column 'c'; its columns are a, b"),
        ("a b", "", {"anchor": "a"}, "'anchor' is no role; the roles are query, positive, negative"),
        (
            "a b",
            "pairs",
            {},
            "f: its columns are a, b; pairs needs text1/sentence1/sentence_A, text2/.*; say which",
        ),
        ("a b", "csv", {}, "'csv' is no layout of a table; they are tevatron, "),
    ],
)
def test_what_the_user_names_must_be_there(columns: str, wanted: str, mapping: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(columns, wanted, **mapping)


@pytest.mark.parametrize("said", ["query", "=a", "query=", ""])
def test_a_mapping_is_a_role_and_a_column(said: str) -> None:
    with pytest.raises(UserError, match="write ROLE=COLUMN"):
        parse_mapping([said])
    with pytest.raises(UserError, match="has the column a already"):
        parse_mapping(["query=a", "query=b"])
    assert parse_mapping(["query=a=b"]) == {"query": "a=b"}


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ("tuples", {"anchor": "q", "positive": "p", "negative": "n"}),
        ("tuples", {"query": "q", "positive": ["p"], "negative_1": "n", "negative_2": None, "negative_3": ""}),
        ("tuples", {"query": "q", "positives": ["p"], "negatives": [{"text": "n", "origin": "mined", "rank": 3}]}),
        ("flagembedding", {"query": "q", "pos": ["p"], "neg": ["n", "n", "p"]}),
        ("tevatron", {"query": "q", "positive_passages": [{"text": "p"}], "negative_passages": [{"text": "n"}]}),
    ],
)
def test_a_query_comes_with_its_passages_each_once(layout: str, row: dict[str, Any]) -> None:
    content = tuple_of(reader(layout), row)
    assert content.query == "q"
    assert [each.text for each in content.positives] == ["p"]
    assert [each.text for each in content.negatives] == ["n"]


@pytest.mark.parametrize("text", ["?", "э", "轻", "안녕", "สวัสดี", "😀", "\u200dx", "…", "1"])
def test_a_text_of_any_script_or_of_signs_alone_is_a_text(text: str) -> None:
    assert tuple_of(reader("tuples"), {"query": text, "positive": text}).query == text


def test_a_title_is_the_first_line_of_its_passage() -> None:
    row = {"query": "q", "positive_passages": [{"docid": "7", "title": "A \n title", "text": "Body."}]}
    [passage] = tuple_of(reader("tevatron"), row).positives
    assert (passage.text, passage.title, passage.external_id) == ("A title\nBody.", "A title", "7")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": " ", "positive": "p"}, "`query` must be a text that is not empty, not ' '"),
        ({"query": "\u200b\u2060 \ufeff", "positive": "p"}, "`query` must be a text that is not empty"),
        ({"query": "q", "positive": ["p", "\u3164"]}, "`positive` must be texts that are not empty"),
        ({"positive": "p"}, "`query` must be a text that is not empty, not None"),
        ({"query": 3, "positive": "p"}, "`query` must be a text"),
        ({"anchor": "q", "positive": None}, "`positive` must be texts that are not empty, not None"),
        ({"anchor": "q", "positive": []}, "`positive` holds no passage"),
        ({"anchor": "q", "positive": ["p", ""]}, "`positive` must be texts that are not empty, not ''"),
        ({"anchor": "q", "positive": {"title": "t"}}, "`positive` must be texts"),
        ({"anchor": "q", "positive": {"title": 3, "text": "t"}}, "`positive` must be texts"),
        ({"anchor": "q", "positive": "p", "negative_2": 5}, "`negative_2` must be texts that are not empty, not 5"),
        ({"anchor": "q", "positive": "p", "negative": [["n"]]}, "`negative` must be texts"),
    ],
)
def test_a_tuple_without_its_texts_is_a_bad_line(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadLine, match=message):
        tuple_of(reader("tuples"), row)


@pytest.mark.parametrize("value", [0, 0.0, False, "0", " 0.0 ", "False", "-0"])
def test_a_judgement_of_zero_is_seen_however_it_is_written(value: object) -> None:
    assert is_judged_zero({"query": "q", "label": value})
    assert not is_judged_zero({"query": value})


@pytest.mark.parametrize("value", [1, "1", 0.1, None, "", "no", [0], "00x"])
def test_other_judgements_are_not_zero(value: object) -> None:
    assert not is_judged_zero({"score": value})


@pytest.mark.parametrize(("value", "score"), [(1, 1.0), ("4.5", 4.5), (" -3e-1 ", -0.3), ("0", 0.0)])
def test_a_score_may_be_written_as_text(value: object, score: float) -> None:
    assert score_of(reader("pairs"), {"score": value}) == score


@pytest.mark.parametrize("value", [True, "high", "nan", "inf", "1_0", "١", "", None, "1e400", float("inf"), 10**400])
def test_what_is_no_finite_number_is_no_score(value: object) -> None:
    with pytest.raises(BadLine, match="`score` must be a number"):
        score_of(reader("pairs"), {"score": value})


def test_classes_of_inference_become_scores_by_name_or_by_number() -> None:
    plain = reader("inference")
    assert [score_of(plain, {"label": label}) for label in (0, "1", "Contradiction")] == [1.0, 0.5, 0.0]
    named = reader("inference", classes={"label": ("contradiction", "entailment", "neutral")})
    assert [score_of(named, {"label": label}) for label in (0, 1, 2)] == [0.0, 1.0, 0.5]
    for label in (-1, "-", 3, None, 0.5, True):
        with pytest.raises(BadLine):
            score_of(plain, {"label": label})


def test_numbers_of_classes_get_their_names_where_the_data_set_has_them() -> None:
    assert label_of(reader("labelled"), {"label": 2}) == "2"
    named = reader("labelled", classes={"label": ("a", "b")})
    assert label_of(named, {"label": 1}) == "b"
    with pytest.raises(BadLine, match="a class that is none of the 2 that are named"):
        label_of(named, {"label": -1})

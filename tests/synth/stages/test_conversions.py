"""Rows that become queries with passages: reading comprehension, conversations, claims with evidence, titles."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from synth.records import UserError, is_plain_name
from synth.stages.conversions import (
    AGAINST,
    FOR,
    READ_AND_ANSWER,
    READ_AND_ANSWER_ZH,
    chat_of,
    gathered_claims,
    reading_of,
)
from synth.stages.formats import LAYOUTS, recognise
from synth.stages.ingest import Outcome, read_checked, store_checked
from synth.stages.instructions import KNOWN, known_instruction
from synth.stages.layouts import Described
from synth.stages.lines import BadLine, Rows
from synth.stages.rows import Reader, reader_of
from synth.stages.spool import OnError
from synth.store.connection import Store
from synth.store.console import query

SAMPLES = (
    "SELECT query, list_sort(positives) AS positives, instruction, source, split, list_sort((SELECT list(text) FROM"
    " negatives n WHERE n.sample_id = s.sample_id)) AS negatives FROM samples s ORDER BY query"
)


def reader(layout: str, **classes: tuple[str, ...]) -> Reader:
    return reader_of(LAYOUTS[layout], {}, classes)


def ingest(store: Store, path: Path, *, skip: bool = False, **said: Any) -> Outcome:
    on_error = OnError.SKIP if skip else OnError.REFUSE
    options: dict[str, Any] = {"declared_use": None, "on_progress": lambda _: None, "on_error": on_error}
    with read_checked(store, path, given=Described(**said), **options) as checked:
        return store_checked(store, checked, on_progress=lambda _: None)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def stored(store: Store) -> list[dict[str, Any]]:
    return query(store, SAMPLES).to_pylist()


@pytest.mark.parametrize(
    ("columns", "layout"),
    [
        ("id title context question answers", "reading"),
        ("context question answer", "reading"),
        ("claim evidence label", "claims"),
        ("claim_id claim evidence_id evidence evidence_label", "claims"),
        ("messages", "chat"),
        ("id conversations", "chat"),
        ("question answers", "tuples"),
        ("query response", "tuples"),
        ("title abstract keywords", "titled"),
        ("headline body", "titled"),
        ("title text", "documents"),
    ],
)
def test_columns_of_well_known_sets_are_recognised(columns: str, layout: str) -> None:
    assert recognise("f", tuple(columns.split()), wanted="", mapping={}) == layout


def test_titles_and_texts_are_documents_unless_the_user_says_otherwise() -> None:
    assert recognise("f", ("title", "text"), wanted="titled", mapping={}) == "titled"


def test_a_title_and_a_text_with_a_class_are_not_guessed() -> None:
    columns = ("label", "title", "content")
    ways_out = "--format labelled --map text=content, for titles as queries of their texts --format titled"
    with pytest.raises(UserError, match=f"because of `label` its texts may have a class: .* {ways_out}"):
        recognise("f", columns, wanted="", mapping={})
    assert recognise("f", columns, wanted="titled", mapping={}) == "titled"
    assert recognise("f", columns, wanted="labelled", mapping={"text": "content"}) == "labelled"


def test_a_reading_with_a_judgement_is_not_guessed() -> None:
    columns = ("context", "question", "answer", "label")
    with pytest.raises(UserError, match="because of `label` a row may be a pair that does not match"):
        recognise("f", columns, wanted="", mapping={})
    assert recognise("f", columns, wanted="reading", mapping={}) == "reading"


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ("Who rows it?", READ_AND_ANSWER),
        ("谁来划？", READ_AND_ANSWER_ZH),
        ("Skiff是什么船，谁来划？", READ_AND_ANSWER_ZH),
        ("誰が漕ぎますか", READ_AND_ANSWER),
        ("1974?", READ_AND_ANSWER),
    ],
)
def test_a_question_stands_below_its_text_and_a_line_in_its_language(question: str, line: str) -> None:
    found = reading_of(reader("reading"), {"context": "A skiff. \n", "question": f" {question} ", "answer": "one"})
    assert found is not None and found.query == f"A skiff.\n{line}{question}"


@pytest.mark.parametrize(
    ("answers", "positives"),
    [
        ("one man", ["one man"]),
        (["one man", "a fisherman"], ["one man", "a fisherman"]),
        ({"text": ["one man", "one man", "a man"], "answer_start": [0, 0, 2]}, ["one man", "a man"]),
        ([{"text": "one man"}], ["one man"]),
    ],
)
def test_answers_come_in_many_forms(answers: object, positives: list[str]) -> None:
    found = reading_of(reader("reading"), {"context": "c", "question": "q", "answers": answers})
    assert found is not None and [each.text for each in found.positives] == positives


@pytest.mark.parametrize("answers", [None, "", [], {"text": []}, {"text": [], "answer_start": []}, {}])
def test_a_question_without_an_answer_gives_nothing(answers: object) -> None:
    assert reading_of(reader("reading"), {"context": "c", "question": "q", "answers": answers}) is None


@pytest.mark.parametrize("row", [{"question": "q", "answer": "a"}, {"context": "c", "question": "q", "answer": 3}])
def test_a_reading_without_its_texts_is_a_bad_line(row: dict[str, Any]) -> None:
    with pytest.raises(BadLine):
        reading_of(reader("reading"), row)


USER, ANSWER = {"role": "user", "content": "what is a skiff?"}, {"role": "assistant", "content": "a boat"}


@pytest.mark.parametrize(
    ("messages", "has_more"),
    [
        ([USER, ANSWER], False),
        ([{"role": "system", "content": "be brief"}, USER, ANSWER], False),
        ([ANSWER, USER, ANSWER], False),
        ([USER, ANSWER, USER], True),
        ([{"from": "human", "value": "what is a skiff?"}, {"from": "gpt", "value": "a boat"}], False),
        (
            [{"role": "User", "content": [{"type": "text", "text": "what is a skiff?"}, {"type": "image"}]}, ANSWER],
            False,
        ),
        ([USER, {"role": "tool", "content": "{}"}, ANSWER], False),
    ],
)
def test_the_first_question_of_a_conversation_and_its_answer_are_read(messages: object, has_more: bool) -> None:
    found = chat_of(reader("chat"), {"messages": messages})
    assert found is not None and (found.query, found.has_more) == ("what is a skiff?", has_more)
    assert [each.text for each in found.positives] == ["a boat"]


@pytest.mark.parametrize("messages", [[USER], [USER, USER, ANSWER], [USER, {"role": "assistant", "content": " "}]])
def test_a_question_that_nobody_answers_gives_nothing(messages: object) -> None:
    assert chat_of(reader("chat"), {"messages": messages}) is None


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("hello", "must be a list of messages, not 'hello'"),
        ([["user", "hello"]], "must be a list of messages"),
        (None, "must be a list of messages, not None"),
        ([], "holds no message of a user"),
        ([ANSWER], "holds no message of a user"),
        ([{"role": "user", "content": None}, ANSWER], "begins with an empty message"),
        ([{"role": "user", "content": 7}, ANSWER], "begins with an empty message"),
    ],
)
def test_what_is_no_conversation_is_a_bad_line(messages: object, said: str) -> None:
    with pytest.raises(BadLine, match=said):
        chat_of(reader("chat"), {"messages": messages})


def claim(text: str, evidence: object, label: object) -> dict[str, Any]:
    return {"claim": text, "evidence": evidence, "label": label}


def gathered(*rows: dict[str, Any], **classes: tuple[str, ...]) -> list[tuple[int, Any]]:
    numbered: Rows = iter(enumerate(rows, start=1))
    return list(gathered_claims(reader("claims", **classes), numbered))


def test_rows_of_a_claim_that_follow_each_other_are_one_with_evidence_for_and_against() -> None:
    found = gathered(
        claim("a", "for", "SUPPORTS"),
        claim("a", ["against", "more"], "REFUTES"),
        claim("a", "", "NOT ENOUGH INFO"),
        claim("b", "against b", "CONTRADICT"),
        claim("a", "late", "supports"),
    )
    assert [(number, row["claim"], row[FOR], row[AGAINST]) for number, row in found] == [
        (1, "a", ["for"], ["against", "more"]),
        (4, "b", [], ["against b"]),
        (5, "a", ["late"], []),
    ]


@pytest.mark.parametrize("told", [{"split": "test"}, {"instruction": "another"}])
def test_a_claim_of_another_split_or_instruction_is_another_claim(told: dict[str, str]) -> None:
    found = gathered(claim("b", "for training", 0), claim("b", "held out", 0) | told)
    assert [row[FOR] for _, row in found] == [["for training"], ["held out"]]


@pytest.mark.parametrize(
    ("label", "evidence", "negative"),
    [("Supported", ["e"], []), (0, ["e"], []), ("1", [], ["e"]), ("NOT_SUPPORTED", [], []), ("disputed", [], [])],
)
def test_labels_of_claims_are_read_as_documented(label: object, evidence: list[str], negative: list[str]) -> None:
    [(_, row)] = gathered(claim("a", "e", label))
    assert (row[FOR], row[AGAINST]) == (evidence, negative)


def test_labels_of_claims_that_the_data_set_names_are_read_by_their_names() -> None:
    [(_, row)] = gathered(claim("a", "e", 0), label=("REFUTES", "SUPPORTS"))
    assert (row[FOR], row[AGAINST]) == ([], ["e"])


@pytest.mark.parametrize(
    "row", [claim("a", "e", "perhaps"), claim("a", "e", 7), claim("a", "e", None), claim("", "e", 0), claim("a", "", 0)]
)
def test_a_broken_row_among_claims_is_told_and_the_others_are_read(row: dict[str, Any]) -> None:
    found = gathered(claim("b", "for", 0), row, claim("b", "more", 0))
    assert sorted(number for number, _ in found) == [1, 2]
    assert isinstance(dict(found)[2], BadLine) and dict(found)[1][FOR] == ["for", "more"]


def test_a_claim_with_endless_evidence_takes_no_endless_memory() -> None:
    rows: Rows = ((number, claim("a", f"{number}" * 20_000, 0)) for number in range(1000, 4000))
    tracemalloc.start()
    try:
        total = sum(len(row[FOR]) for _, row in gathered_claims(reader("claims"), rows) if isinstance(row, dict))
        assert total == 3000 and tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()


def test_claims_come_into_the_store_with_their_evidence_and_without_those_that_nothing_supports(
    store: Store, tmp_path: Path
) -> None:
    rows = [claim("a", "for", "SUPPORTS"), claim("a", "against", "REFUTES"), claim("b", "against b", "REFUTES")]
    outcome = ingest(store, write(tmp_path / "claims.jsonl", *rows))
    [row] = stored(store)
    assert (row["query"], row["positives"], row["negatives"]) == ("a", ["for"], ["against"])
    assert "claims: 1 query without a positive passage was passed over" in outcome.notes
    assert not any("label or score of 0" in note for note in outcome.notes)


def test_evidence_of_both_sides_counts_for_the_claim_and_the_outcome_says_so(store: Store, tmp_path: Path) -> None:
    rows = [claim("a", ["for", "both"], 0), claim("a", ["both", "against"], 1)]
    outcome = ingest(store, write(tmp_path / "claims.jsonl", *rows), map={"query": "claim"})
    [row] = stored(store)
    assert (row["positives"], row["negatives"]) == (["both", "for"], ["against"])
    assert any("1 negative that repeats a positive" in note for note in outcome.notes)


def test_lists_and_objects_are_read_from_parquet_too(store: Store, tmp_path: Path) -> None:
    reading = {
        "context": "A skiff is rowed.",
        "question": "How?",
        "answers": {"text": ["by oars"], "answer_start": [0]},
    }
    for name, row in (("reading", reading), ("chats", {"id": "7", "messages": [USER, ANSWER]})):
        parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / f"{name}.parquet")
    ingest(store, tmp_path)
    assert [row["positives"] for row in stored(store)] == [["by oars"], ["a boat"]]


def test_a_broken_label_is_named_by_file_and_line_or_left_out(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "claims.jsonl", claim("a", "for", "SUPPORTS"), claim("a", "x", "perhaps"))
    with pytest.raises(UserError, match=r"claims.jsonl:2: `label` must say whether the evidence supports or refutes"):
        ingest(store, path)
    assert sum(ingest(store, path, skip=True).left_out.values()) == 1
    assert stored(store)[0]["positives"] == ["for"]


def test_a_claim_that_is_left_out_is_found_by_its_line_and_its_text(store: Store, tmp_path: Path) -> None:
    rows = [
        claim("one", "for", 0),
        claim("one", "more", "perhaps"),
        claim("二", "", 0),
        claim("three", "for", 0) | {"split": 7},
        claim("three", "more", 0) | {"split": 7},
    ]
    report = ingest(store, write(tmp_path / "claims.jsonl", *rows), skip=True).report
    assert report is not None
    told = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [(each["line"], json.loads(each["text"])["claim"]) for each in told] == [(2, "one"), (3, "二"), (4, "three")]


def test_conversations_and_readings_say_what_was_passed_over(store: Store, tmp_path: Path) -> None:
    chats = ingest(store, write(tmp_path / "chats.jsonl", {"messages": [USER, ANSWER, USER]}, {"messages": [USER]}))
    assert any("1 conversation goes on after the first question" in note for note in chats.notes)
    assert any("1 query without a positive passage was passed over" in note for note in chats.notes)
    reading = {"context": "A skiff is rowed.", "question": "How?", "answers": {"text": ["by oars"]}}
    outcome = ingest(store, write(tmp_path / "reading.jsonl", reading))
    assert any("--format reading" in note for note in outcome.notes)
    assert [row["query"] for row in stored(store)] == [f"A skiff is rowed.\n{READ_AND_ANSWER}How?", "what is a skiff?"]


def test_questions_that_the_context_answers_are_had_by_naming_the_columns(store: Store, tmp_path: Path) -> None:
    reading = {"context": "A skiff is rowed.", "question": "How?", "answers": {"text": ["by oars"]}}
    path = write(tmp_path / "squad-dev.jsonl", reading)
    ingest(store, path, map={"query": "question", "positive": "context"})
    [row] = stored(store)
    assert (row["query"], row["positives"]) == ("How?", ["A skiff is rowed."])


def test_a_column_with_a_role_is_not_read_as_the_instruction_too(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "alpaca.jsonl", {"instruction": "Name a boat.", "output": "A skiff."})
    ingest(store, path, map={"query": "instruction", "positive": "output"})
    [row] = stored(store)
    assert (row["query"], row["instruction"]) == ("Name a boat.", "")


@pytest.mark.parametrize(
    ("name", "layout", "instruction"),
    [
        ("fever", "tuples", "Given a claim, retrieve documents that support or refute the claim"),
        ("FEVER", "claims", "Given a claim, retrieve documents that support the claim"),
        ("scifact", "claims", "Given a scientific claim, retrieve documents that support the claim"),
        ("all-nli", "inference", "Retrieve semantically similar text"),
        ("all-nli", "tuples", "Given a premise, retrieve a hypothesis that is entailed by the premise"),
        ("squad", "reading", ""),
        ("squad-en", "tuples", ""),
        ("my-faq", "tuples", ""),
    ],
)
def test_the_instruction_of_a_known_set_fits_what_its_layout_makes_of_it(
    name: str, layout: str, instruction: str
) -> None:
    assert known_instruction(name, layout) == instruction


def test_known_names_are_such_as_a_source_can_have_and_instructions_are_one_line() -> None:
    assert all(name == name.casefold() and is_plain_name(name) for name in KNOWN)
    assert all(text.isprintable() and not text.endswith(".") for text in KNOWN.values())


def test_a_known_set_gets_its_usual_instruction_where_nobody_says_one_and_the_outcome_says_so(
    store: Store, tmp_path: Path
) -> None:
    rows = [{"query": "a", "positive": "b"}, {"query": "c", "positive": "d", "instruction": "Find it."}]
    outcome = ingest(store, write(tmp_path / "msmarco.jsonl", *rows))
    usual = KNOWN["msmarco"]
    assert [row["instruction"] for row in stored(store)] == [usual, "Find it."]
    assert any(f'its samples get the instruction "{usual}", as usual for msmarco' in note for note in outcome.notes)


def test_what_the_user_says_goes_before_the_usual_instruction(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "msmarco.jsonl", {"query": "a", "positive": "b"})
    (tmp_path / "sources.toml").write_text('["msmarco.jsonl"]\ninstruction = "Search the web."\n')
    assert not any("as usual" in note for note in ingest(store, path.parent).notes)
    assert stored(store)[0]["instruction"] == "Search the web."

"""
Replies as LLMs write them, and what is made of each: tests/replies, one file for each operation and task.

A file is text. A line `seed NAME {...}` gives a seed. A case is a line `case WHAT`, `of SEED`, perhaps `asked NUMBER`
(else 5), `language NAME` or `after TEXT` (what an earlier reply gave, as JSON like a seed), then `reply`, the reply as
it is, and `end`. Then what is expected, in order: `+ TEXT` for a sample or negative that is taken, by its first
rewritten or new text (`…` stands for the rest of it), `- REASON: TEXT` for one that is rejected, `! WORDS` for a reply
that cannot be read, `~ found` or `~ cut` for what was done to read it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.checks import Rejection
from synth.recipes import RECIPES, hard_negative
from synth.recipes.recipe import Brief, Made, NewSample
from synth.records import (
    BadReply,
    Classification,
    Content,
    Passage,
    Retrieval,
    Sample,
    Seed,
    Sts,
    Task,
    Written,
    text_id,
)
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "tests" / "replies"
FILES = {(Task(path.stem.rpartition("-")[2]), path.stem.rpartition("-")[0]): path for path in FOLDER.glob("*.txt")}


@dataclass
class Case:
    what: str
    seed: dict[str, Any] = field(default_factory=dict)
    brief: Brief = field(default_factory=lambda: Brief(5))
    reply: str = ""
    expected: list[str] = field(default_factory=list)


def cases_of(path: Path) -> Iterator[Case]:
    seeds: dict[str, dict[str, Any]] = {}
    case = Case("")
    lines = iter(path.read_text(encoding="utf-8").split("\n"))
    for line in lines:
        word, _, rest = line.partition(" ")
        match word:
            case "" | "#":
                continue
            case "seed":
                name, _, given = rest.partition(" ")
                seeds[name] = json.loads(given)
            case "case":
                if case.what:
                    yield case
                case = Case(rest)
            case "of":
                case.seed = seeds[rest]
            case "asked":
                case.brief = replace(case.brief, number=int(rest))
            case "language":
                case.brief = replace(case.brief, language=rest)
            case "after":
                case.brief = replace(case.brief, made=(*case.brief.made, made_of(json.loads(rest))))
            case "reply":
                case.reply = "\n".join(iter(lambda: next(lines), "end"))
            case "+" | "-" | "!" | "~":
                case.expected.append(line)
            case _:
                raise AssertionError(f"{path}: {line}")
    yield case


def content_of(given: dict[str, Any]) -> Content:
    kind = Retrieval if "query" in given else Sts if "text1" in given else Classification
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


def made_of(given: dict[str, Any]) -> Made:
    return Written(given["negative"], "inadequate") if "negative" in given else NewSample(content_of(given))


def seed_of(given: dict[str, Any]) -> Seed:
    if "passage" in given:
        return Passage(text_id(given["passage"]), given["passage"], "", UUID(int=0))
    return Sample(UUID(int=6), UUID(int=7), content_of(given), UUID(int=0))


CASES = [(key, case) for key, path in sorted(FILES.items()) for case in cases_of(path)]


@pytest.mark.parametrize(("key", "case"), CASES, ids=[f"{key[1]}-{key[0]}: {case.what}" for key, case in CASES])
def test_a_reply_gives_what_stands_beside_it(key: tuple[Task, str], case: Case) -> None:
    seed, told = seed_of(case.seed), []
    try:
        parsed = RECIPES[key].parse(case.reply, seed, case.brief)
    except BadReply as error:
        assert [line[:1] for line in case.expected] == ["!"] and case.expected[0][2:] in str(error)
        return
    told = [f"+ {new_text(made, seed)}" for made in parsed.made] + [shown(each) for each in parsed.rejections]
    told += [f"~ {parsed.repaired}"] if parsed.repaired else []
    expected = sorted(case.expected, key=lambda line: "+-~".index(line[0]))
    assert [as_expected(line, of) for line, of in zip(told, [*expected, *told], strict=False)] == expected
    assert all(each.reason in RECIPES[key].checks for each in parsed.rejections)
    assert all(kept(made) == kept(seed) for made in parsed.made if isinstance(made, NewSample))


def new_text(made: Made, seed: Seed) -> str:
    """The first text of what was made that is not the seed's."""
    if isinstance(made, Written):
        return made.text
    match made.content:
        case Retrieval(query):
            return query
        case Sts(text1, text2):
            assert isinstance(seed, Sample) and isinstance(seed.content, Sts)
            assert text1 == seed.content.text1 or text2 == seed.content.text2
            return text2 if text1 == seed.content.text1 else text1
        case Classification(text):
            return text


def shown(rejection: Rejection) -> str:
    return f"- {rejection.reason}: {rejection.text}"


def as_expected(line: str, expected: str) -> str:
    """As it is expected, if that is its beginning and `…`."""
    beginning = expected.removesuffix("…")
    return expected if beginning != expected and line.startswith(beginning) else line


def kept(of: NewSample | Seed) -> tuple[Task, str, object]:
    """What every sample has of its seed."""
    if isinstance(of, Passage):
        return Task.RETRIEVAL, "", None
    match of.content:
        case Retrieval(instruction=instruction):
            return Task.RETRIEVAL, instruction, None
        case Sts(instruction=instruction, score=score):
            return Task.STS, instruction, score
        case Classification(instruction=instruction, label=label):
            return Task.CLASSIFICATION, instruction, label


@pytest.mark.parametrize("key", FILES, ids="-".join)
def test_there_are_twenty_replies_or_more_good_and_bad_and_in_both_languages(key: tuple[Task, str]) -> None:
    cases = [case for of, case in CASES if of == key]
    marks = {line[0] for case in cases for line in case.expected}
    is_chinese = ["一" <= char <= "鿿" for case in cases for char in str(case.seed)]
    assert len(cases) >= 20 and marks == set("+-!~") and any(is_chinese) and not all(is_chinese)
    reasons = {line[2:].partition(":")[0] for case in cases for line in case.expected if line[0] == "-"}
    assert reasons == set(RECIPES[key].checks)


def test_every_recipe_of_samples_has_its_replies() -> None:
    assert {key for key, recipe in RECIPES.items() if recipe.seeds == "samples"} <= set(FILES)


@pytest.mark.parametrize(
    ("missing", "kept"),
    [
        ("  the year\nit was dug ", "the year it was dug"),
        ("\x1b[2Jyear\ud800", "\ufffd[2Jyear\ufffd"),
        ("x" * 9_000, "x" * 300),
    ],
)
def test_what_a_negative_lacks_is_stored_as_one_printable_line(missing: str, kept: str) -> None:
    assert hard_negative.requirement(missing) == kept

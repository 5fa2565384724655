"""synth.llm.extractive on the bundled documents and sets, in English and in Chinese, and on texts that are no prose."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from synth.llm.extractive import METHODS, MIN_QUERY_UNITS, ExtractedQuery, ExtractiveEngine
from synth.records import Passage, normalise, text_id
from synth.stages.documents import cut_document
from synth.units import count_units

SAMPLE = Path(__file__).parents[3] / "data" / "sample"
SOURCE = UUID(int=1)


def passage(body: str, title: str = "") -> Passage:
    text = f"{title}\n{body}" if title else body
    return Passage(text_id(text), text, title, SOURCE)


def documents(language: str) -> list[Passage]:
    return [
        passage(cut.body, cut.title)
        for path in sorted((SAMPLE / "documents" / language).iterdir())
        for cut in cut_document(path.read_text(encoding="utf-8"), suffix=path.suffix)
    ]


def corpus(name: str) -> list[Passage]:
    lines = (SAMPLE / "retrieval" / name / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return [passage(row["text"], row["title"]) for row in map(json.loads, lines)]


CORPORA = {
    "documents-en": lambda: documents("en"),
    "documents-zh": lambda: documents("zh"),
    "squad-en": lambda: corpus("squad-en"),
    "cmrc-zh": lambda: corpus("cmrc-zh"),
}


def made_of(passages: list[Passage], seed: int = 0, num_queries: int = 3) -> list[tuple[Passage, ExtractedQuery]]:
    engine = ExtractiveEngine(passages, seed=seed, num_queries=num_queries)
    return [(each, query) for each in passages for query in engine.queries(each)]


@pytest.mark.parametrize("name", CORPORA)
def test_real_passages_give_queries_that_are_no_junk(name: str) -> None:
    passages = CORPORA[name]()
    made = made_of(passages)
    assert len(made) > 1.5 * len(passages)
    assert len({query.method for _, query in made}) >= 3
    for source, query in made:
        assert count_units(query.query) >= MIN_QUERY_UNITS
        assert normalise(query.query) not in (normalise(query.positive), normalise(source.text))
        assert "\n" not in query.query
        assert not re.search(r"[{}`|<>]|\]\(|\*\*|^\s*[-*#]\s|^\d+[.)]\s|[:：]$", query.query), query
        assert sum(map(str.isalpha, query.query)) > 0.5 * len(query.query.replace(" ", ""))


@pytest.mark.parametrize("name", CORPORA)
def test_a_passage_gives_at_most_as_many_queries_as_asked_and_no_two_alike(name: str) -> None:
    made = made_of(CORPORA[name](), num_queries=2)
    assert max(Counter(source.text_id for source, _ in made).values()) == 2
    assert len({(source.text_id, query.query.lower()) for source, query in made}) == len(made)


def test_the_result_depends_on_the_seed_and_not_on_the_order_of_passages() -> None:
    passages = documents("en")
    assert made_of(passages) == made_of(passages)
    assert sorted(made_of(passages), key=str) == sorted(made_of(passages[::-1]), key=str)
    assert made_of(passages) != made_of(passages, seed=1)


def only(method: str, passages: list[Passage], asked: Passage, num_queries: int = 9) -> list[ExtractedQuery]:
    made = ExtractiveEngine(passages, seed=3, num_queries=60).queries(asked)
    return [query for query in made if query.method == method][:num_queries]


BOATS = passage(
    "A skiff is a light boat for a single person. The oars of a skiff are made of spruce wood. "
    "Spruce wood is chosen because it bends before it breaks. The hull is varnished every spring, in the shed.",
    "Light boats > Skiff",
)
RAFTS = passage(
    "A raft is made of logs. It floats, but nobody can steer it against the stream of a river.", "Boats > Raft"
)


def test_inverse_cloze_takes_the_sentence_out_of_the_passage_nine_times_in_ten() -> None:
    passages = corpus("squad-en")
    made = [query for each in passages for query in only("inverse-cloze", passages, each, num_queries=1)]
    assert len(made) > 150
    left_in = sum(query.query in query.positive for query in made)
    assert 0.03 < left_in / len(made) < 0.2


def test_inverse_cloze_keeps_the_title_and_the_other_sentences() -> None:
    made = [query for query in only("inverse-cloze", [BOATS, RAFTS], BOATS) if query.query not in query.positive]
    assert made
    for query in made:
        assert query.positive.startswith("Light boats > Skiff\n")
        assert normalise(query.positive) == normalise(BOATS.text.replace(query.query, ""))


@pytest.mark.parametrize(
    "sentence",
    [
        "This is why the second one of them should be preferred.",
        "The table below lists all the boats that we have seen.",
        "因此该方法在以下情况下不适用于用户的所有数据。",
        "The boat is one of the following three kinds of boats:",
        "for (int i = 0; i < n; i++) { boat(i); } // row.",
        "12.5 13.5 14.5 15.5 16.5 17.5 18.5 19.5 20.5 21.5.",
        "The boat (which they had painted blue was sold again.",
    ],
)
def test_a_sentence_that_cannot_stand_alone_is_no_query(sentence: str) -> None:
    asked = passage(f"{sentence}\n{BOATS.text}")
    made = only("inverse-cloze", [asked, RAFTS], asked) + only("cropping", [asked, RAFTS], asked)
    assert made
    assert not [query for query in made if query.query in sentence]


def test_what_several_passages_say_is_no_query_of_any() -> None:
    shared = "The harbour office answers all questions of visitors in the morning."
    passages = [passage(f"{shared} {each.text}") for each in (BOATS, RAFTS)]
    made = [query for each in passages for query in only("inverse-cloze", passages, each)]
    assert made
    assert shared not in [query.query for query in made]


def test_a_crop_keeps_to_clauses_and_its_positive_to_sentences() -> None:
    made = only("cropping", [BOATS, RAFTS], BOATS)
    assert made
    for query in made:
        assert query.query in BOATS.text
        assert query.positive.startswith("Light boats > Skiff\n")
        assert query.positive.endswith((".", "shed."))
        assert count_units(query.positive) >= 0.4 * count_units(BOATS.text)


def test_a_sentence_is_not_cut_at_an_abbreviation_or_a_file_name() -> None:
    text = "Mr. Smith keeps his list of boats in the file fleet.toml, i.e. in a text file. " + BOATS.text
    asked = passage(text)
    made = [query.query for query in only("inverse-cloze", [asked, RAFTS], asked)]
    assert "Mr. Smith keeps his list of boats in the file fleet.toml, i.e. in a text file." in made


def test_the_title_is_a_query_whose_positive_does_not_hold_it() -> None:
    (made,) = only("title", [BOATS, RAFTS], BOATS)
    assert made == ExtractedQuery("Light boats Skiff", BOATS.text.partition("\n")[2], "title")


def test_a_heading_that_says_enough_stands_alone_without_its_number() -> None:
    asked = passage(BOATS.text, "Boats > 3. How to varnish a skiff in spring")
    (made,) = only("title", [asked, RAFTS], asked)
    assert made.query == "How to varnish a skiff in spring"


def test_a_title_of_several_passages_is_no_query() -> None:
    twice = passage("Another text of some length about the same skiff, its oars and its hull, and about its owner.")
    twin = passage(twice.text, BOATS.title)
    assert only("title", [BOATS, twin], BOATS) == []


def test_keywords_are_terms_of_the_passage_in_their_order() -> None:
    (made,) = only("keywords", [BOATS, RAFTS], BOATS)
    terms = made.query.split()
    assert 3 <= len(terms) <= 5
    places = [BOATS.text.lower().index(term.lower()) for term in terms]
    assert all(first < second for first, second in pairwise(places))
    assert made.positive == BOATS.text


def test_chinese_keywords_are_words_of_the_corpus() -> None:
    queries = [query.query for _, query in made_of(documents("zh")) if query.method == "keywords"]
    terms = Counter(term for query in queries for term in query.split() if re.fullmatch("[\u4e00-\u9fff]+", term))
    assert {"慢查询", "执行计划", "全局排序"} <= set(terms)
    assert all(2 <= len(term) <= 6 for term in terms)
    assert not [term for term in terms if term[0] in "的了是在" or term[-1] in "的了是在"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Boats.",
        "短。",
        "| a | b |\n| 1 | 2 |\n" * 10,
        "def f(x):\n    return {x: 1}\n" * 10,
        "3.14 2.72 1.41 " * 30,
        "https://example.org/a/b?c=d\n" * 20,
        "!!! ??? ... ;;; " * 20,
        "\x00\u202e\ufffd" * 50,
        "word " * 2000,
        "，。；！？" * 200,
    ],
)
def test_a_text_that_is_too_short_or_no_prose_gives_no_query(text: str) -> None:
    asked = passage(text)
    assert ExtractiveEngine([asked, BOATS, RAFTS], seed=0, num_queries=5).queries(asked) == []
    assert ExtractiveEngine([asked], seed=0, num_queries=5).queries(asked) == []


@pytest.mark.parametrize(
    "text", ["甲" * 100_000, "a" * 100_000, "(" * 100_000, "a. " * 30_000, "，甲" * 20_000, "a-" * 50_000]
)
def test_a_hostile_passage_does_not_stall_the_engine(text: str) -> None:
    asked = passage(text)
    assert len(ExtractiveEngine([asked, BOATS], seed=0, num_queries=3).queries(asked)) <= 3


def test_every_method_is_offered_by_name() -> None:
    assert list(METHODS) == ["inverse-cloze", "cropping", "title", "keywords"]
    assert (ExtractiveEngine.name, ExtractiveEngine.version) == ("extractive", "extractive-1")

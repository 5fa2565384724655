"""What counts as the same text, as a copy of an evaluation text, and as a near-duplicate."""

import json
import os
import random
import subprocess
import sys
import time
from typing import Any
from uuid import UUID

import pytest

from synth.overlaps import EvalIndex, EvalText, asked_texts, fold, near_duplicates, near_text, ngrams
from tests.conftest import REPOSITORY, SAMPLE

QUESTION = "Who led the expedition that first reached the South Pole on skis?"


def uid(number: int) -> UUID:
    return UUID(int=number)


def index(*texts: str, **options: Any) -> EvalIndex:
    return EvalIndex((EvalText(uid(1), uid(100 + number), text) for number, text in enumerate(texts)), **options)


def row(task: str, **columns: Any) -> dict[str, Any]:
    names = ("instruction", "query", "positives", "text1", "text2", "score", "text", "label")
    return {"task": task} | dict.fromkeys(names) | columns


def duplicates_of(*rows: dict[str, Any]) -> dict[int, int]:
    """Dropped -> kept, as numbers of the rows."""
    found = near_duplicates((uid(number), near_text(each)) for number, each in enumerate(rows))
    return {dropped.int: kept.int for dropped, (kept, _) in found.items()}


@pytest.mark.parametrize(
    "same",
    [
        "WHO LED THE EXPEDITION THAT FIRST REACHED THE SOUTH POLE ON SKIS",
        "who led the expedition that first reached the South Pole, on skis",
        "  Who led the\texpedition that first\nreached the South Pole on skis ?!",
        "Ｗｈｏ led the expedition that first reached the South Pole on skis?",
        "W\u200bho led the exp\u00adedition\ufeff that first reached the South Pole on skis\ufe0f?",
        "\u202eWho led the expedition that first reached the South Pole on skis?\u202c",
    ],
)
def test_case_punctuation_space_width_and_invisible_characters_hide_no_copy(same: str) -> None:
    found = index(QUESTION).find(same)
    assert found is not None
    assert (found.kind, found.value, found.eval_source_id, found.eval_id) == ("exact", 1.0, uid(1), uid(100))


@pytest.mark.parametrize("other", ["C", "C#", "c--"])
def test_signs_that_carry_meaning_are_not_punctuation(other: str) -> None:
    assert index("C++").find("c++!")
    assert index("C++").find(other) is None


@pytest.mark.parametrize("text", ["", "   ", "\0\0", "\u200b\u202e"])
def test_a_text_of_nothing_overlaps_with_nothing(text: str) -> None:
    assert fold(text) == ""
    assert index("", " ", "\0").find(text) is None
    assert near_duplicates([(uid(1), text), (uid(2), text)]) == {}


def test_a_text_of_punctuation_alone_is_only_like_itself() -> None:
    assert index("?!").find(" ？！ ")
    assert index("?!").find("...") is None


def test_a_quoted_evaluation_text_is_found_whatever_stands_around_it() -> None:
    found = index("Where do penguins live?", QUESTION).find(f"I wonder: {QUESTION.lower()} Please tell me.")
    assert found is not None
    assert (found.kind, found.value, found.eval_id) == ("ngram", 1.0, uid(101))


def test_the_value_is_the_shared_part_of_the_shorter_texts_runs_of_words() -> None:
    held_out = "one two three four five six seven eight nine ten"  # 5 runs of 6 words
    found = index(held_out).find("zero one two three four five six seven eight a b c d e f g h")
    assert found is not None
    assert found.value == 3 / 5


def test_below_the_threshold_there_is_no_overlap() -> None:
    held_out, text = "a b c d e f g h", "a b c d e f x y z"  # 1 of 3 runs
    assert index(held_out).find(text) is None
    assert index(held_out, threshold=0.3).find(text) is not None
    assert index(held_out, ngram=3, threshold=0.6).find(text) is not None


@pytest.mark.parametrize(
    ("text", "held_out"),
    [
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("When was the University of Chicago founded?", "When was the University of Warsaw founded?"),
        ("中国的首都是哪里？", "法国的首都是哪里？"),
        ("What is the height of the Eiffel Tower in metres?", "What is the weight of the Eiffel Tower in tonnes?"),
    ],
)
def test_questions_that_share_a_stock_phrase_do_not_overlap(text: str, held_out: str) -> None:
    assert index(held_out).find(text) is None


def test_a_run_of_words_that_many_evaluation_texts_have_shows_no_copy() -> None:
    diseases = ["gout", "measles", "mumps", "rabies"]
    template = "what research (or clinical trials) is being done for {} ?"
    assert index(*(template.format(name) for name in diseases[:3])).find(template.format("scurvy"))
    assert index(*(template.format(name) for name in diseases)).find(template.format("scurvy")) is None
    assert index(*(template.format(name) for name in diseases)).find(template.format("Gout")) is not None


@pytest.mark.parametrize(
    ("held_out", "text"),
    [
        ("世界上第一座使用混凝土建成的拱坝在哪个国家？", "请问，世界上第一座使用混凝土建成的拱坝在哪里"),
        ("日本で最初に鉄道が開通したのはいつですか", "質問：日本で最初に鉄道が開通したのはいつでしょう"),
        ("ประเทศไทยมีพรมแดนติดต่อกับประเทศใดบ้าง", "ช่วยบอกหน่อยว่าประเทศไทยมีพรมแดนติดต่อกับประเทศใดบ้างครับ"),
        (
            "Quelle est la plus ancienne université d'Écosse encore ouverte ?",
            "quelle est la plus ancienne université d’écosse ?",
        ),
        ("من هو أول إنسان وصل إلى القطب الجنوبي سيرا", "سؤال: من هو أول إنسان وصل إلى القطب الجنوبي سيرا؟"),
    ],
)
def test_runs_of_words_are_found_in_scripts_with_and_without_spaces(held_out: str, text: str) -> None:
    found = index(held_out).find(text)
    assert found is not None
    assert found.kind == "ngram"


def test_a_run_of_six_words_is_twelve_chinese_characters() -> None:
    assert ngrams("一二三四五六七八九十百千", 6) == {"一 二 三 四 五 六 七 八 九 十 百 千"}
    assert ngrams("一二三四五六七八九十百", 6) == frozenset()
    assert ngrams("iphone 十五 pro 多少钱", 3) == {"iphone 十 五 pro", "十 五 pro 多 少", "五 pro 多 少 钱"}


def test_a_short_text_is_found_as_a_whole_only() -> None:
    held_out = index("Who lived in the North?")
    assert held_out.find("who lived in the north")
    assert held_out.find("Who lived in the North of the great forest?") is None


def test_the_strongest_overlap_comes_first_one_for_each_evaluation_set() -> None:
    near = QUESTION.replace("skis", "dog sledges")
    texts = [(2, 9, near), (1, 7, QUESTION), (1, 5, QUESTION), (3, 8, near), (1, 1, near)]
    held_out = EvalIndex(EvalText(uid(source), uid(number), text) for source, number, text in texts)
    found = held_out.find_all(QUESTION)
    assert [(each.eval_source_id.int, each.eval_id.int, each.kind) for each in found] == [
        (1, 5, "exact"),
        (3, 8, "ngram"),
        (2, 9, "ngram"),
    ]
    assert held_out.find(QUESTION) == found[0]


def test_the_asked_texts_of_a_sample_are_not_its_positives() -> None:
    assert asked_texts(row("retrieval", query="q", positives=["p"])) == {"query": "q"}
    assert asked_texts(row("sts", text1="a", text2="b", score=1.0)) == {"text1": "a", "text2": "b"}
    assert asked_texts(row("classification", text="t", label="c")) == {"text": "t"}


LONG = "I have done a transfer within the country the day before yesterday but it is still not there, please check"


def test_of_near_duplicates_the_first_is_kept_with_a_true_similarity() -> None:
    found = near_duplicates([(uid(3), LONG), (uid(1), f"{LONG}!"), (uid(2), f"{LONG} now"), (uid(4), "something else")])
    assert found == {uid(1): (uid(3), 1.0), uid(2): (uid(3), 18 / 19)}


def test_a_duplicate_of_a_dropped_text_is_compared_with_what_was_kept() -> None:
    words = [f"w{number}" for number in range(40)]
    chain = [" ".join(words[start : start + 25]) for start in range(4)]  # each is near the next, not the one after
    found = near_duplicates(((uid(number), text) for number, text in enumerate(chain)), threshold=0.9)
    assert {dropped.int: kept.int for dropped, (kept, _) in found.items()} == {1: 0, 3: 2}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("How high is the Eiffel Tower in Paris in metres?", "How high is the Eiffel Tower in Paris in feet?"),
        ("Is the drug safe for patients with heart disease?", "Is the drug not safe for patients with heart disease?"),
        ("How many people lived in Rome in 1950 in all?", "How many people lived in Rome in 1850 in all?"),
        ("黑尾前肛鳗有几枚前上颌骨齿？", "前肛鳗有几枚前上颌骨齿？"),
        (
            "the risk of male prisoners harming themselves is ten times that of female prisoners",
            "the risk of female prisoners harming themselves is ten times that of male prisoners",
        ),
    ],
)
def test_one_word_that_changes_the_question_makes_another_sample(first: str, second: str) -> None:
    assert duplicates_of(row("retrieval", query=first), row("retrieval", query=second)) == {}


def test_two_queries_of_one_passage_are_two_samples() -> None:
    passage = [LONG * 3]
    first = row("retrieval", query="What was transferred?", positives=passage)
    assert duplicates_of(first, row("retrieval", query="Who should check it?", positives=passage)) == {}
    assert duplicates_of(first, row("retrieval", query="what was transferred", positives=["another"])) == {1: 0}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (row("classification", text=LONG, label="late"), row("classification", text=LONG, label="lost")),
        (row("classification", text=LONG, label="late"), row("retrieval", query=LONG)),
        (row("sts", text1=LONG, text2="b", score=1.0), row("sts", text1=LONG, text2="b", score=0.0)),
        (
            row("retrieval", query=LONG, instruction="Find answers"),
            row("retrieval", query=LONG, instruction="Find rivals"),
        ),
    ],
)
def test_samples_of_another_task_label_score_or_instruction_are_no_duplicates(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert duplicates_of(first, second) == {}
    assert duplicates_of(first, first) == {1: 0}


def test_a_pair_is_the_same_in_either_order() -> None:
    first = row("sts", text1="A dog runs in the grass.", text2="There is a dog that runs.", score=4.0)
    assert duplicates_of(first, row("sts", text1=first["text2"], text2=first["text1"], score=4.0)) == {1: 0}
    assert duplicates_of(first, row("sts", text1=first["text1"], text2="A cat sleeps.", score=4.0)) == {}


def test_a_text_cannot_pose_as_what_must_be_equal() -> None:
    disguised = row("classification", text=f"late\x1e{LONG}", label="")
    assert duplicates_of(row("classification", text=LONG, label="late"), disguised) == {}


@pytest.mark.parametrize("seed", range(30))
def test_what_is_dropped_is_above_the_threshold_and_what_is_kept_is_all_different(seed: int) -> None:
    rng = random.Random(seed)
    texts = [" ".join(rng.choices("abcd", k=rng.randint(1, 12))) for _ in range(40)]
    found = near_duplicates([(uid(number), text) for number, text in enumerate(texts)], threshold=0.8)
    sets = [ngrams(text, 3) or frozenset({text}) for text in texts]
    for dropped, (kept, value) in found.items():
        own, theirs = sets[dropped.int], sets[kept.int]
        assert kept.int < dropped.int
        assert kept not in found
        assert value == len(own & theirs) / len(own | theirs) >= 0.8
    remaining = [sets[number] for number in range(len(texts)) if uid(number) not in found]
    assert len(remaining) == len(set(remaining))


def test_near_duplicates_miss_few_pairs_just_at_the_threshold() -> None:
    texts = []
    for number in range(300):
        words = [f"{number}x{place}" for place in range(21)]
        texts += [" ".join(words), " ".join([*words[:20], "other"])]  # 18 runs of 20 in common
    found = near_duplicates((uid(number), text) for number, text in enumerate(texts))
    assert len(found) >= 290


def test_the_result_is_the_same_in_another_process() -> None:
    script = (
        "import json, sys; from uuid import UUID; from synth.overlaps import near_duplicates\n"
        "texts = [json.loads(line)['text'] for line in open(sys.argv[1])]\n"
        "found = near_duplicates(((UUID(int=n), text) for n, text in enumerate(texts)), threshold=0.5, seed=3)\n"
        "print(json.dumps([[a.int, b.int, s] for a, (b, s) in found.items()]))"
    )
    path = str(SAMPLE / "retrieval" / "squad-en" / "queries.jsonl")
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, path],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert json.loads(runs[0])


@pytest.mark.parametrize("text", ["x" * 10_000_000, "a b " * 2_500_000, "的" * 10_000_000, "。" * 10_000_000])
def test_a_text_of_ten_million_characters_takes_no_longer_than_its_beginning(text: str) -> None:
    held_out = index(QUESTION)
    started = time.monotonic()
    assert held_out.find(text) is None
    assert near_duplicates([(uid(1), text), (uid(2), text)]) == {uid(2): (uid(1), 1.0)}
    assert time.monotonic() - started < 20


def test_real_questions_of_other_articles_are_not_flagged_and_copies_among_them_are() -> None:
    lines = (SAMPLE / "retrieval" / "squad-en" / "queries.jsonl").read_text().splitlines()
    queries = [json.loads(line) for line in lines]
    held_out = index(*(query["text"] for query in queries if query["split"] == "test"))
    to_train_on = [query["text"] for query in queries if query["split"] == "train"]
    flagged = [text for text in to_train_on if held_out.find(text)]
    assert len(flagged) <= len(to_train_on) / 500
    asked = [query["text"] for query in queries if query["split"] == "test"]
    assert all(held_out.find(text.upper().replace(" ", "  ")) for text in asked)

"""How many negatives are positives that nobody has labelled: few by the defaults, many among the first ranks."""

import zlib
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np

from benchmarks.false_negatives import NAIVE, OURS, Planted, Rule, Tally, plant, read_set, rules, tally_of
from mining.search import Floats, Searcher
from tests.conftest import SAMPLE

SEARCHER = Searcher("torch", ("cpu",), "fp32", "a test")
NUM_QUERIES, SIZE = 100, 2048
TEXTS = [("", f"Passage {number}. It has two sentences.") for number in range(9)]
ANSWERS = {"one": [0], "three": [1, 2, 3], "four": [4, 5, 6, 7]}


@cache
def planted() -> Planted:
    return plant(*read_set(SAMPLE / "retrieval" / "cmrc-zh"), name="cmrc-zh", num_queries=NUM_QUERIES, seed=0)


@cache
def vectors() -> tuple[Floats, Floats]:
    """Of queries and passages: pairs of characters, the rarer the heavier."""
    queries = planted().queries
    texts = [*queries, *(passage.text for passage in planted().passages)]
    counts_ND = np.zeros((len(texts), SIZE), dtype=np.float32)
    for row, text in enumerate(texts):
        for first, second in pairwise(text):
            counts_ND[row, zlib.crc32(f"{first}{second}".encode()) % SIZE] += 1
    found_ND = np.log1p(counts_ND) * np.log(len(texts) / (1 + (counts_ND > 0).sum(axis=0)))
    found_ND = (found_ND / np.linalg.norm(found_ND, axis=1, keepdims=True)).astype(np.float32)
    return found_ND[: len(queries)], found_ND[len(queries) :]


def tallied(rule: Rule) -> Tally:
    return tally_of(SEARCHER, planted(), *vectors(), rule)


def test_the_defaults_choose_at_most_half_as_many_false_negatives_as_the_first_ranks_and_starve_no_query() -> None:
    naive, ours = tallied(rules()[NAIVE]), tallied(rules()[OURS])
    assert naive.share > 0.1
    assert ours.share <= naive.share / 2
    assert ours.num_full == naive.num_full == NUM_QUERIES


def test_a_cap_below_the_positive_and_a_mask_of_its_copies_each_leave_out_false_negatives() -> None:
    naive = rules()[NAIVE]
    capped = replace(naive, window=replace(naive.window, relative_cap=0.95, ranks="survivors"))
    masked = replace(capped, masks_copies=True)
    flagged = replace(masked, window=replace(masked.window, rank_max=20), leaves_out_flagged=True)
    numbers = [tallied(rule).num_false for rule in (naive, capped, masked, flagged)]
    assert numbers == sorted(set(numbers), reverse=True)


def test_half_of_a_query_s_positives_are_hidden_and_one_that_is_the_only_one_has_an_edited_copy() -> None:
    found = plant(TEXTS, ANSWERS, name="made", num_queries=3, seed=0)
    told = dict(zip(found.queries, found.known, strict=True))
    assert {query: len(rows) for query, rows in told.items()} == {"one": 1, "three": 2, "four": 2}
    for query, known, hidden in zip(found.queries, found.known, found.hidden, strict=True):
        assert set(ANSWERS[query]) <= {*known, *hidden} and not hidden & {*known}
    [copy] = found.hidden[found.queries.index("one")]
    assert copy >= len(TEXTS)
    edits = {TEXTS[0][1].upper(), "Passage 0 It has two sentences", "Passage 0.", "It has two sentences."}
    assert found.passages[copy].text in edits


def test_copies_answer_every_query_that_their_originals_answer() -> None:
    found = plant(TEXTS, {"one": [0], "another": [0]}, name="made", num_queries=2, seed=0)
    assert list(found.hidden) == [frozenset({len(TEXTS)})] * 2
    assert Counter(passage.text for passage in found.passages).most_common(1)[0][1] == 1

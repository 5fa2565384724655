"""The rules for rewrites, by texts alone."""

import pytest

from synth.records import Classification, Retrieval, Sts
from synth.stages.triage.rewriting import changed_digits, changed_names, changed_negation, rule_hits

ORIGINAL = "The harbour of Bremen opens at 6 and is never closed to Danish ships."
SAME = "From 6 on ships may enter Bremen's port, and Danish ones were never refused."


@pytest.mark.parametrize(
    ("text", "original", "is_changed"),
    [
        ("at 7", "at 6", True),
        ("it costs 1,200 euros", "1200 euros is the price", False),
        ("it costs 12.5", "12.5 it is", False),
        ("at six", "at 6", True),  # a reason to look, no more
        ("２ ships", "2 ships", False),  # of another width
        ("2024年", "2024 was the year", False),
        ("3 of 3", "3", False),
    ],
)
def test_a_number_that_came_or_went_is_seen(text: str, original: str, is_changed: bool) -> None:
    assert changed_digits(text, original) is is_changed
    assert changed_digits(original, text) is is_changed


@pytest.mark.parametrize(
    ("text", "original", "is_changed"),
    [
        ("It is open.", "It isn't open.", True),
        ("It isn\u2019t open.", "It is not open.", False),
        ("Ships go without lights.", "Ships have no lights.", False),
        ("Das ist kein Hafen.", "Das ist ein Hafen.", True),
        ("这里不能停船。", "这里可以停船。", True),
        ("这里非常不同。", "这里的差别很大。", False),  # words with the character that deny nothing
        ("他没有来。", "他未曾来过。", False),
        ("An annotation of knots.", "A note on knots.", False),
    ],
)
def test_a_negation_that_came_or_went_is_seen(text: str, original: str, is_changed: bool) -> None:
    assert changed_negation(text, original) is is_changed
    assert changed_negation(original, text) is is_changed


@pytest.mark.parametrize(
    ("text", "original", "is_changed"),
    [
        (SAME, ORIGINAL, False),
        ("Ships enter Hamburg at 6.", "Ships enter Bremen at 6.", True),
        ("Bremen opens. Ships enter.", "Ships enter. It is Bremen.", False),  # at a beginning in one of the two
        ("What I know of NASA today is little.", "Little is known of nasa today.", False),
        ("Der Hafen und das Schiff am Kai", "Am Kai das Boot und der Hafen", False),  # every noun has a capital
        ("港口在 Bremen 附近。", "港口在 Hamburg 附近。", True),
    ],
)
def test_a_name_that_came_or_went_is_seen(text: str, original: str, is_changed: bool) -> None:
    assert changed_names(text, original) is is_changed


def test_a_good_paraphrase_hits_no_rule() -> None:
    assert set(rule_hits("paraphrase", Classification(SAME, "port"), Classification(ORIGINAL, "port")).values()) == {0}


def test_each_rewritten_text_counts_and_the_text_of_a_pair_that_stayed_does_not() -> None:
    before = Retrieval("When does Bremen open?", (ORIGINAL,))
    wrong = Retrieval("At what hour, 7 or 8, does Bremen open?", (SAME.replace("6", "9"),))
    assert rule_hits("paraphrase", wrong, before)["digits"] == 2
    pair = Sts(ORIGINAL, "A port in Bremen.", 3.0)
    assert rule_hits("paraphrase", Sts(SAME, "A port in Bremen.", 3.0), pair)["copy"] == 0
    copied = ORIGINAL.replace("harbour", "port")
    assert rule_hits("paraphrase", Sts(copied, "A port in Bremen.", 3.0), pair)["copy"] == 1
    assert rule_hits("paraphrase", pair, pair)["copy"] == 1  # nothing was rewritten at all


def test_another_language_is_found_and_what_asks_something_else_is_held_to_no_number() -> None:
    before = Classification("At 6 the ships leave the harbour in the morning fog.", "port")
    after = Classification("Um 7 Uhr verlassen die Schiffe im Nebel den Hafen der Stadt.", "port")
    assert rule_hits("paraphrase", after, before)["language"] == 1
    assert rule_hits("augment", after, before) == {"copy": 0, "language": 1}

"""What a mixed queue is made of: suspicious samples, a random part, second opinions, gold and repeats."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

import pytest

from synth.records import Classification, Retrieval, ReviewEvent, Sts, Task, Verdict, new_id
from synth.store import queues
from synth.store.connection import Store
from synth.store.guidelines import ReviewSettings
from synth.store.queues import Queue, cards, review_progress
from synth.store.reviews import add_reviews
from synth.store.samples import refresh_state
from tests.review_app.seeding import add_samples, add_unmined

NONE = ReviewSettings(overlap_first=0, overlap_share=0.0, gold_share=0.0, repeat_share=0.0)


def settle(store: Store, settings: ReviewSettings) -> None:
    with store.write() as cursor:
        cursor.execute(
            "INSERT INTO guideline BY NAME SELECT coalesce(max(number), 0) + 1 AS number, ? AS settings,"
            " now()::TIMESTAMP AS created_at FROM guideline",
            [settings.as_json()],
        )


def questions(number: int) -> list[str]:
    return [f"When does harbour {place} open?" for place in range(number)]


def say(
    store: Store, ids: Iterable[UUID], verdict: Verdict = Verdict.APPROVE, reviewer: str = "ann", **fields: object
) -> list[ReviewEvent]:
    events = [ReviewEvent(new_id(), reviewer, each, each, verdict, **fields) for each in ids]  # type: ignore[arg-type]
    add_reviews(store, events)
    return events


def shown(store: Store, reviewer: str = "ann", limit: int = 25, **options: object) -> list[UUID]:
    return [card.sample_id for card in cards(store, reviewer=reviewer, limit=limit, **options)]  # type: ignore[arg-type]


def draws(store: Store) -> dict[UUID, float]:
    with store.read() as cursor:
        return dict(cursor.execute("SELECT sample_id, draw FROM sample_state").fetchall())


def triage(store: Store, priorities: dict[UUID, float]) -> None:
    with store.write() as cursor:
        for sample_id, priority in priorities.items():
            cursor.execute(
                "INSERT INTO triage BY NAME SELECT $id::UUID AS sample_id, $id::UUID AS revision_id,"
                " $priority AS priority,"
                " [{'name': 'near_positive', 'value': 0.9, 'score': $priority}] AS parts, uuid() AS run_id,"
                " now()::TIMESTAMP AS created_at",
                {"id": sample_id, "priority": priority},
            )
        refresh_state(cursor, list(priorities))


def test_the_draw_depends_on_the_id_alone_and_parts_a_fifth(store: Store) -> None:
    ids = add_samples(store, questions(1000))
    before = draws(store)
    assert 140 < sum(draw < 0.2 for draw in before.values()) < 260
    say(store, ids[:20])
    assert draws(store) == before


def test_one_card_in_five_comes_from_the_random_part_in_its_own_order(store: Store) -> None:
    add_samples(store, questions(300))
    settle(store, NONE)
    drawn = draws(store)
    found = shown(store, limit=50)
    by_chance = [each for each in found if drawn[each] < 0.2]
    assert len(by_chance) == 10
    assert by_chance == sorted((each for each in drawn if drawn[each] < 0.2), key=drawn.__getitem__)[:10]
    assert [place % 5 for place, each in enumerate(found) if drawn[each] < 0.2] == [found.index(by_chance[0]) % 5] * 10


def test_the_share_holds_however_few_cards_are_asked_for_at_a_time(store: Store) -> None:
    add_samples(store, questions(300))
    settle(store, NONE)
    drawn = draws(store)
    found: list[UUID] = []
    for _ in range(50):
        [each] = shown(store, limit=1)
        say(store, [each])
        found.append(each)
    assert sum(drawn[each] < 0.2 for each in found) == 10


def test_where_one_part_has_nothing_left_the_other_fills_in(store: Store) -> None:
    ids = add_samples(store, questions(40))
    settle(store, NONE)
    assert set(shown(store, limit=100)) == set(ids)
    drawn = draws(store)
    say(store, [each for each in ids if drawn[each] >= 0.2], Verdict.REJECT)
    left = [each for each in ids if drawn[each] < 0.2]
    assert shown(store, limit=100) == sorted(left, key=drawn.__getitem__)


def test_the_suspicious_come_before_those_that_no_triage_found_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "RANDOM_SHARE", 0.0)
    ids = add_samples(store, questions(4))
    settle(store, NONE)
    triage(store, {ids[3]: 2.5, ids[0]: -1.0})
    first, *rest = cards(store, reviewer="ann")
    assert [first.sample_id, *(card.sample_id for card in rest)] == [ids[3], ids[1], ids[2], ids[0]]
    assert [(part.name, part.score) for part in first.parts] == [("near_positive", 2.5)]


def test_a_second_opinion_is_asked_of_somebody_else_once(store: Store) -> None:
    ids = add_samples(store, questions(3))
    settle(store, ReviewSettings(overlap_first=2, overlap_share=0.0, gold_share=0.0, repeat_share=0.0))
    say(store, ids, reviewer="ann")
    assert shown(store, "ann") == []
    assert set(shown(store, "bob")) == set(ids[:2])  # of the third enough is known
    assert review_progress(store, reviewer="ann", queue=Queue.UNREVIEWED).left == 0
    assert review_progress(store, reviewer="bob", queue=Queue.UNREVIEWED).left == 2
    held = shown(store, "bob", claim_for=timedelta(minutes=15))
    assert shown(store, "eve") == []  # two people at once would make three opinions
    say(store, held, reviewer="bob")
    assert shown(store, "eve") == []


def test_the_very_suspicious_and_a_share_by_chance_get_a_second_opinion(store: Store) -> None:
    ids = add_samples(store, questions(200))
    settle(store, ReviewSettings(overlap_first=0, overlap_share=0.1, gold_share=0.0, repeat_share=0.0))
    say(store, ids, reviewer="ann")
    by_chance = set(shown(store, "bob", limit=200))
    assert 5 <= len(by_chance) <= 40
    suspicious = next(each for each in ids if each not in by_chance)
    triage(store, {suspicious: 3.5})
    assert set(shown(store, "bob", limit=200)) == by_chance | {suspicious}


def test_gold_and_repeats_are_among_the_cards_and_say_so_to_nobody_but_the_browser(store: Store) -> None:
    ids = add_samples(store, questions(400))
    settle(store, NONE)
    settled = ids[:20]
    say(store, settled, reviewer="eve", adjudicates=True)
    say(store, ids[100:160], reviewer="ann")
    settle(store, ReviewSettings(overlap_first=0, overlap_share=0.0, gold_share=0.05, repeat_share=0.02))
    found = cards(store, reviewer="ann", limit=100)
    assert sum(card.sample_id in settled for card in found) == 5
    repeats = [card for card in found if card.is_repeat]
    assert len(repeats) == 2 and {card.sample_id for card in repeats} <= set(ids[100:110])  # more than 50 verdicts ago
    say(store, [card.sample_id for card in repeats], Verdict.REJECT, reviewer="ann")
    again = cards(store, reviewer="ann", limit=100)
    assert not {card.sample_id for card in repeats} & {card.sample_id for card in again}  # twice is enough


def test_every_task_has_cards_with_what_its_reviewer_needs(store: Store) -> None:
    add_samples(store, ["When does it open?"])
    add_unmined(store, Sts("A boat.", "A ship.", 4.0))
    add_unmined(store, Sts("A boat.", "A pen.", 1.0))
    add_unmined(store, Classification("It rains.", "weather"))
    found = cards(store, reviewer="ann")
    assert {card.task for card in found} == set(Task)
    tasks = [card.task for card in found]
    assert tasks == sorted(tasks, key=tasks.index)  # those of a task together
    assert {card.score_range for card in found} == {None, (1.0, 4.0)}
    [labelled] = cards(store, reviewer="ann", task=Task.CLASSIFICATION)
    assert (labelled.content, labelled.labels) == (Classification("It rains.", "weather"), ("weather",))
    assert review_progress(store, reviewer="ann", queue=Queue.UNREVIEWED, task=Task.STS).left == 2


def test_a_label_is_offered_among_the_likeliest_and_then_the_usual_ones(store: Store) -> None:
    for number in range(6):
        for time in range(6 - number):
            add_unmined(store, Classification(f"Text {number} {time}", f"label {number}"))
    found = {card.content.label: card.labels for card in cards(store, reviewer="ann", limit=50)}  # type: ignore[union-attr]
    assert found["label 0"] == tuple(f"label {number}" for number in range(5))
    assert found["label 5"] == ("label 0", "label 1", "label 2", "label 3", "label 5")


def test_what_a_rewrite_was_made_from_is_on_its_card(store: Store) -> None:
    [asked] = add_samples(store, ["When does it open?"])
    add_unmined(store, Retrieval("At which hour does it open?", ("The harbour opens at six.",)))
    with store.write() as cursor:
        cursor.execute("UPDATE revision SET parent_id = ? WHERE query LIKE 'At%'", [asked])
    made = {card.content.query: card.made_from for card in cards(store, reviewer="ann")}  # type: ignore[union-attr]
    assert made["When does it open?"] is None
    original = made["At which hour does it open?"]
    assert isinstance(original, Retrieval) and original.query == "When does it open?"

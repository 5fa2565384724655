"""Review events: append-only, idempotent, undoable; the rules of docs/reviews.md."""

import math
from dataclasses import replace
from uuid import UUID

import pytest

from synth.records import (
    Classification,
    Content,
    Draft,
    Negative,
    Retrieval,
    ReviewEvent,
    Source,
    Sts,
    UserError,
    Verdict,
    key_of,
    new_id,
    text_id,
)
from synth.store import minings, reviews, rows, samples, sources
from synth.store.connection import Store
from synth.store.minings import Mined
from synth.store.sources import NewPassage

PASSAGES = ("A dog barks.", "A cow moos.")
QUESTION = Retrieval("what purrs?", ("A cat purrs.",))
MORE = Retrieval("what purrs?", ("A cat purrs.", "A lion purrs too."))


@pytest.fixture
def sample(store: Store, training_source: Source) -> minings.Minable:
    """A mined sample with two negatives, the dog nearer than the cow."""
    with store.write() as cursor:
        samples.add_drafts(
            cursor, [Draft(QUESTION, training_source.source_id, "query", "llm", None, "m1", "p1")], new_id()
        )
        passages = [NewPassage(text_id(text), text, "", "") for text in PASSAGES]
        sources.add_passages(cursor, training_source.source_id, passages)
    mine(store, "first")
    [found] = minings.minable(store, key_of("another"))
    return found


def mine(store: Store, stage: str) -> None:
    """Give every sample that this stage has not mined its two negatives."""
    results = []
    for each in minings.minable(store, key_of(stage)):
        found = [
            Negative(each.sample_id, each.revision_id, text_id(text), "mined", rank, 0.5 - rank / 10, 0.8)
            for rank, text in enumerate(PASSAGES, start=1)
        ]
        results.append(Mined(each, "full", "", 1, tuple(found)))
    with store.write() as cursor:
        minings.add_mined(cursor, key_of(stage), new_id(), results)


def event(sample: minings.Minable, verdict: Verdict, reviewer: str = "ann", **fields: object) -> ReviewEvent:
    return replace(ReviewEvent(new_id(), reviewer, sample.sample_id, sample.revision_id, verdict), **fields)


def edit(sample: minings.Minable, content: Content, reviewer: str = "ann", **fields: object) -> ReviewEvent:
    return event(sample, Verdict.APPROVE, reviewer, edited_id=new_id(), edit=content, **fields)


def undo(said: ReviewEvent, **fields: object) -> ReviewEvent:
    return replace(
        ReviewEvent(new_id(), said.reviewer, said.sample_id, said.revision_id, Verdict.SKIP, undoes=said.review_id),
        **fields,
    )


def send(store: Store, *events: ReviewEvent) -> int:
    return reviews.add_reviews(store, events)


def state(store: Store, columns: str = "status, decided_by") -> tuple[object, ...]:
    """Columns of the view `samples` for the one sample there is."""
    with store.read() as cursor:
        [row] = cursor.execute(f"SELECT {columns} FROM samples").fetchall()
    return tuple(row)


def negatives(store: Store) -> dict[str, UUID]:
    """The ids of the latest revision's negatives, by text."""
    with store.read() as cursor:
        found = cursor.execute(
            "SELECT t.text, n.negative_id FROM negative n JOIN text t USING (text_id) JOIN sample_state st"
            " ON st.revision_id = n.revision_id ORDER BY n.negative_id"
        ).fetchall()
    return dict(found)


def dropped(store: Store) -> list[str]:
    """The texts that DROPPED leaves out."""
    with store.read() as cursor:
        found = cursor.execute(f"SELECT text FROM text SEMI JOIN ({reviews.DROPPED}) d USING (text_id) ORDER BY text")
        return [text for (text,) in found.fetchall()]


def test_an_event_sent_twice_is_stored_once(store: Store, sample: minings.Minable) -> None:
    approval = event(sample, Verdict.APPROVE)
    assert [send(store, approval, approval), send(store, approval)] == [1, 0]
    assert state(store) == ("approved", "ann")


def test_the_latest_verdict_counts_and_undo_brings_the_one_before_back(store: Store, sample: minings.Minable) -> None:
    approval, rejection = event(sample, Verdict.APPROVE), event(sample, Verdict.REJECT)
    send(store, approval)
    send(store, rejection)
    assert state(store)[0] == "rejected"
    send(store, undo(rejection))
    assert state(store)[0] == "approved"
    send(store, undo(approval))
    assert state(store) == ("pending", None)


def test_events_of_a_batch_count_in_their_order(store: Store, sample: minings.Minable) -> None:
    both = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}
    for _ in range(3):
        for first, last in (list(both), list(both)[::-1]):
            send(store, event(sample, first), event(sample, last))
            assert state(store, "status, num_approvals + num_rejections") == (both[last], 1)


def test_an_event_counts_after_those_before_it_though_the_clock_went_back(
    store: Store, sample: minings.Minable, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(store, event(sample, Verdict.APPROVE))
    past = rows.now().replace(year=2001)
    monkeypatch.setattr("synth.store.events.now", lambda: past)
    send(store, event(sample, Verdict.REJECT))
    assert state(store)[0] == "rejected"


def test_a_person_overrules_a_policy_whoever_came_last(store: Store, sample: minings.Minable) -> None:
    send(store, event(sample, Verdict.REJECT))
    send(store, event(sample, Verdict.APPROVE, "policy:all", reviewer_kind="policy"))
    assert state(store) == ("rejected", "ann")


def test_a_policy_changes_its_mind_and_another_policys_but_no_persons(store: Store, sample: minings.Minable) -> None:
    def policy(name: str, verdict: Verdict) -> int:
        return send(store, event(sample, verdict, f"policy:{name}", reviewer_kind="policy", reasons=("its own words",)))

    assert [policy("one", Verdict.REJECT), policy("one", Verdict.REJECT)] == [1, 0]
    assert (policy("two", Verdict.APPROVE), state(store)) == (1, ("approved", "policy:two"))
    assert len(reviews.undecided(store)) == 1
    send(store, event(sample, Verdict.REJECT))
    assert (reviews.undecided(store), state(store)) == ([], ("rejected", "ann"))


def test_the_majority_decides_and_as_many_of_both_is_a_dispute(store: Store, sample: minings.Minable) -> None:
    send(store, event(sample, Verdict.APPROVE, "ann", difficulty=1), event(sample, Verdict.SKIP, "dan"))
    send(store, event(sample, Verdict.REJECT, "bob", difficulty=4))
    columns = "status, decided_by, num_approvals, num_rejections, difficulty, num_reviews"
    assert state(store, columns) == ("disputed", "ann, bob", 1, 1, 3, 3)
    assert reviews.undecided(store) == []  # people are at it: no policy comes between
    send(store, event(sample, Verdict.REJECT, "eve", difficulty=2))
    assert state(store, columns) == ("rejected", "bob, eve", 1, 2, 3, 4)


def test_a_dropped_negative_counts_no_more_until_its_reviewer_takes_that_back(
    store: Store, sample: minings.Minable
) -> None:
    def say(verdict: Verdict, reviewer: str = "ann") -> ReviewEvent:
        said = event(sample, verdict, reviewer, negative_id=negatives(store)["A dog barks."])
        send(store, said)
        return said

    before = state(store, "num_negatives, hardness")
    say(Verdict.PARTIAL)
    assert dropped(store) == ["A dog barks."]
    assert state(store, "status, num_negatives, round(hardness, 2)") == ("pending", 1, -0.5)
    say(Verdict.KEEP, "bob")
    mine(store, "again")  # the same text, another negative
    assert (dropped(store), state(store, "num_negatives")) == (["A dog barks."], (1,))
    say(Verdict.KEEP)
    assert (dropped(store), state(store, "num_negatives, hardness")) == ([], before)
    send(store, undo(say(Verdict.REJECT)))
    assert dropped(store) == []


def test_an_edit_makes_a_revision_for_which_the_verdict_counts(store: Store, sample: minings.Minable) -> None:
    send(store, event(sample, Verdict.REJECT, "bob"))
    edited = edit(sample, MORE, reasons=("wrong-positive",), note="lions do")
    send(store, edited)
    columns = "revision_id, status, decided_by, operation, method, model, prompt_version, positives"
    assert state(store, columns) == (
        edited.edited_id, "approved", "ann", "edit", "llm", "m1", "p1", list(MORE.positives),
    )  # fmt: skip
    with store.read() as cursor:
        life = cursor.execute(
            "SELECT number, parent_id, actor, method, seed_text FROM lineage ORDER BY number"
        ).fetchall()
    assert life == [(1, None, "m1", "llm", None), (2, sample.revision_id, "ann", "llm", None)]
    assert samples.rebuild_state(store) == 0


def test_an_edit_keeps_the_negatives_of_the_same_query_but_none_that_became_a_positive(
    store: Store, sample: minings.Minable
) -> None:
    mine(store, "again")
    latest = (
        "SELECT n.origin, n.rank, n.score, n.run_id FROM negative n JOIN text t USING (text_id)"
        " WHERE t.text = 'A cow moos.' ORDER BY n.negative_id DESC LIMIT 1"
    )
    with store.read() as cursor:
        before = cursor.execute(latest).fetchall()
    send(store, edit(sample, replace(QUESTION, positives=("A dog barks.",), instruction="Find it")))
    assert list(negatives(store)) == ["A cow moos."]
    assert state(store, "num_negatives") == (1,)
    with store.read() as cursor:
        assert cursor.execute(latest).fetchall() == before


def test_an_edit_of_the_query_leaves_the_negatives_behind_and_is_mined_anew(
    store: Store, sample: minings.Minable
) -> None:
    send(store, edit(sample, replace(QUESTION, query="which animal purrs?")))
    assert state(store, "num_negatives, hardness, status") == (0, None, "approved")
    assert [each.query for each in minings.minable(store, key_of("first"))] == ["which animal purrs?"]


def test_an_edit_of_white_space_alone_is_a_verdict_on_what_is_there(store: Store, sample: minings.Minable) -> None:
    send(store, edit(sample, replace(QUESTION, query="what   purrs? ")))
    assert state(store, "revision_id, status, query") == (sample.revision_id, "approved", "what purrs?")
    with store.read() as cursor:
        assert cursor.execute("SELECT edited_id FROM reviews").fetchall() == [(None,)]


def test_an_edit_goes_back_to_what_the_sample_once_said(store: Store, sample: minings.Minable) -> None:
    first = edit(sample, MORE)
    assert first.edited_id
    send(store, first, replace(edit(sample, QUESTION, "bob"), revision_id=first.edited_id))
    assert state(store, "positives, decided_by") == (list(QUESTION.positives), "bob")


def test_an_edit_of_what_somebody_else_edited_meanwhile_is_refused(store: Store, sample: minings.Minable) -> None:
    send(store, edit(sample, MORE))
    with pytest.raises(UserError, match="changed meanwhile"):
        send(store, edit(sample, replace(QUESTION, query="who purrs?"), "bob"))
    assert state(store, "decided_by, num_reviews") == ("ann", 1)


def test_an_edit_to_what_another_sample_says_is_refused(
    store: Store, sample: minings.Minable, training_source: Source
) -> None:
    with store.write() as cursor:
        samples.add_drafts(cursor, [Draft(MORE, training_source.source_id, "query")], new_id())
    with pytest.raises(UserError, match=f"sample {sample.sample_id} would say what sample .* as a duplicate"):
        send(store, edit(sample, MORE))


def test_a_promotion_makes_the_text_a_positive_and_waits_for_a_verdict(store: Store, sample: minings.Minable) -> None:
    negative = negatives(store)["A dog barks."]
    promotion = event(sample, Verdict.PROMOTE, negative_id=negative, edited_id=new_id())
    send(store, event(sample, Verdict.APPROVE), promotion)
    assert state(store, "status, positives, num_negatives") == ("pending", ["A cat purrs.", "A dog barks."], 1)
    assert promotion.edited_id
    send(store, replace(event(sample, Verdict.APPROVE), revision_id=promotion.edited_id))
    assert state(store)[0] == "approved"
    send(store, undo(promotion))
    assert state(store, "revision_id, status, num_negatives") == (sample.revision_id, "approved", 2)


def test_undoing_an_edit_withdraws_it_but_not_what_was_made_of_it(store: Store, sample: minings.Minable) -> None:
    first = edit(sample, MORE)
    assert first.edited_id
    second = replace(edit(sample, replace(MORE, query="who purrs?"), "bob"), revision_id=first.edited_id)
    send(store, first, second)
    send(store, undo(first))
    assert state(store, "revision_id, decided_by") == (second.edited_id, "bob")
    send(store, undo(second))
    assert state(store, "revision_id, status") == (sample.revision_id, "pending")
    third = edit(sample, replace(MORE, query="who is it that purrs?"))
    send(store, third)
    with store.read() as cursor:
        assert cursor.execute("SELECT number FROM revision ORDER BY number").fetchall() == [(1,), (2,), (3,), (4,)]
    assert state(store, "revision_id") == (third.edited_id,)


def test_only_ones_own_events_can_be_undone_and_no_undo(store: Store, sample: minings.Minable) -> None:
    approval = event(sample, Verdict.APPROVE)
    undone = undo(approval)
    send(store, approval)
    for wrong, message in (
        (undo(approval, reviewer="bob"), "only ann can undo it"),
        (undo(approval, reviewer_kind="policy"), "only ann can undo it"),
        (undo(event(sample, Verdict.APPROVE)), "to undo"),
    ):
        with pytest.raises(UserError, match=message):
            send(store, wrong)
    send(store, undone)
    with pytest.raises(UserError, match="is an undo"):
        send(store, undo(undone))
    assert state(store) == ("pending", None)


BAD: list[tuple[dict[str, object], str]] = [
    ({"reviewer": ""}, "a name of one line"),
    ({"reviewer": "ann\nbob"}, "a name of one line"),
    ({"reviewer_kind": "robot"}, "a name of one line"),
    ({"reasons": ("because",)}, "'because' is none for approve"),
    ({"verdict": Verdict.SKIP, "reasons": ("too-easy",)}, "none for skip; use cannot-tell"),
    ({"difficulty": 0}, "1, 2, 3 or 4"),
    ({"difficulty": True}, "1, 2, 3 or 4"),
    ({"difficulty": 2.0}, "1, 2, 3 or 4"),
    ({"seconds": -0.1}, "in seconds"),
    ({"seconds": math.nan}, "in seconds"),
    ({"seconds": math.inf}, "in seconds"),
    ({"note": "x" * 2001}, "2,001 characters"),
    ({"note": "\ud800"}, "no Unicode text"),
    ({"verdict": Verdict.KEEP}, "approve, reject, skip, flag, not keep"),
    ({"verdict": Verdict.PROMOTE, "edited_id": new_id()}, "approve, reject, skip, flag, not promote"),
    ({"negative_id": new_id()}, "reject, keep, false_negative, partial, promote, not approve"),
    ({"negative_id": new_id(), "verdict": Verdict.PROMOTE}, "comes with the id"),
    ({"negative_id": new_id(), "verdict": Verdict.KEEP}, "has no negative"),
    ({"edit": MORE}, "comes with the id"),
    ({"edited_id": new_id()}, "comes with the id"),
    ({"edit": MORE, "edited_id": new_id(), "reviewer_kind": "policy"}, "a policy edits nothing"),
    ({"edit": MORE, "edited_id": new_id(), "undoes": new_id()}, "not with an undo"),
    ({"edit": replace(MORE, query=" "), "edited_id": new_id()}, "leaves a text empty"),
    ({"edit": replace(MORE, positives=()), "edited_id": new_id()}, "leaves a text empty"),
    ({"edit": replace(MORE, positives=("\ud800",)), "edited_id": new_id()}, "no Unicode text"),
    ({"edit": Classification("It is late.", "time"), "edited_id": new_id()}, "is of retrieval; the edit is of class"),
    ({"edit": Sts("It rains.", "Rain falls.", math.nan), "edited_id": new_id()}, "is no number"),
    ({"sample_id": UUID(int=1)}, "no sample"),
    ({"revision_id": UUID(int=1)}, "no sample .* with a revision"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=lambda each: each if isinstance(each, str) else "")
def test_what_no_event_may_say_is_refused_in_one_line_and_nothing_of_its_batch_is_kept(
    store: Store, sample: minings.Minable, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        send(store, event(sample, Verdict.APPROVE), replace(event(sample, Verdict.APPROVE), **fields))
    assert "\n" not in str(refusal.value)
    assert state(store, "status, num_reviews") == ("pending", 0)


def test_an_edit_cannot_take_the_id_of_a_revision_that_is_there(store: Store, sample: minings.Minable) -> None:
    with pytest.raises(UserError, match="an id of its own"):
        send(store, replace(edit(sample, MORE), edited_id=sample.revision_id))


def test_samples_of_every_task_can_be_edited(store: Store, training_source: Source) -> None:
    pairs = (
        (Sts("It rains.", "Rain falls.", 4.0), Sts("It rains.", "Rain falls.", 5.0)),
        (Classification("It is late.", "place"), Classification("It is late.", "time")),
    )
    with store.write() as cursor:
        samples.add_drafts(cursor, [Draft(before, training_source.source_id, "query") for before, _ in pairs], new_id())
        ids = dict(cursor.execute("SELECT task, sample_id FROM sample_state").fetchall())
    for (_, after), task in zip(pairs, ("sts", "classification"), strict=True):
        send(store, ReviewEvent(new_id(), "ann", ids[task], ids[task], Verdict.APPROVE, edited_id=new_id(), edit=after))
    with store.read() as cursor:
        found = cursor.execute(
            "SELECT score, label FROM samples WHERE status = 'approved' ORDER BY task DESC"
        ).fetchall()
    assert found == [(5.0, None), (None, "time")]


def test_the_projection_agrees_with_the_logs_after_every_kind_of_event(store: Store, sample: minings.Minable) -> None:
    approval = event(sample, Verdict.APPROVE, difficulty=3)
    send(store, approval, event(sample, Verdict.SKIP, "bob"), event(sample, Verdict.REJECT, "eve"))
    send(store, undo(approval))
    assert samples.rebuild_state(store) == 0

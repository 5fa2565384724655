"""The Dashboard as Streamlit runs it, without a browser."""

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from uuid import UUID

import pytest
from streamlit.testing.v1 import AppTest

from review_app.outbox import receive
from synth.records import Verdict
from synth.store import reviews, rows
from synth.store.connection import Store
from tests.review_app.conftest import ShowPage
from tests.review_app.seeding import add_samples, grade
from tests.review_app.test_outbox import sent
from tests.review_app.words import RANDOM, TRIAGED, ids, negatives_of, say, word

HOSTILE = "![x](http://attacker.example/i.png) :red[gone] <b>bold</b> $5$"
SECTIONS = ("Progress", "Acceptance", "Negatives", "People", "Judges")
Open = Callable[[str], AppTest]


@pytest.fixture
def section(show_page: ShowPage) -> Open:
    """Run one section of the page."""
    return lambda name: show_page("dashboard_page", section=name)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with 300 mined samples, some 60 of them in the random part."""
    path = tmp_path_factory.mktemp("filled") / "store.duckdb"
    add_samples(Store.create(path), [f"When does harbour {number} open?" for number in range(300)])
    return path


@pytest.fixture
def in_order(store: Store, filled: Path) -> list[UUID]:
    """The random part, in the order in which it is shown; the test's store holds these samples."""
    copyfile(filled, store.path)
    found = ids(store, RANDOM)
    assert len(found) >= 30
    return found


def captions(page: AppTest) -> list[str]:
    return [caption.value for caption in page.caption]


def tables(page: AppTest) -> list[list[dict[str, object]]]:
    return [frame.value.to_dict("records") for frame in page.dataframe]


def test_progress_counts_per_reviewer_source_and_reason(section: Open, store: Store) -> None:
    first, second, third = add_samples(store, ["Where?", "When?", "Why?"])
    undone = sent(third)
    said = [
        sent(first, seconds=4),
        sent(second, verdict="reject", reasons=["duplicate"], seconds=6),
        undone,
        sent(third, verdict="skip", undoes=undone["review_id"]),
    ]
    assert not receive(store, "ada", said).refused
    page = section("Progress")
    [reviewer], [source], reasons = tables(page)
    assert [reviewer[name] for name in ("reviewer", "approved", "rejected", "skipped")] == ["ada", 1, 1, 0]
    assert (reviewer["per_hour"], reviewer["note"]) == (720, "fewer than 20")
    assert [source[name] for name in ("source", "operation", "samples", "pending")] == ["guide", "query", 3, 1]
    assert reasons == [{"of_a": "sample", "verdict": "reject", "reason": "duplicate", "times": 1}]
    assert [metric.value for metric in page.metric] == ["3", "1", "1", "0", "1", "2", "fewer than 20 decisions"]


def test_idle_time_is_cut_and_what_is_left_is_told_in_hours(section: Open, store: Store, in_order: list[UUID]) -> None:
    said = [word(each, seconds=3600.0) for each in in_order[:10]]
    said += [word(each, seconds=1.0) for each in in_order[10:20]]
    reviews.add_reviews(store, said)
    page = section("Progress")
    [reviewer], *_ = tables(page)
    # 10 times 60 s and 10 times 1 s for 20 decisions: 610 s, 118 an hour
    assert (reviewer["per_hour"], reviewer["fast_percent"], reviewer["note"]) == (118, 50.0, "")
    assert page.metric[-1].value == f"{280 * 30.5 / 3600:.1f} h"


def test_a_skip_takes_time_and_decides_nothing(section: Open, store: Store) -> None:
    first, second = add_samples(store, ["Where?", "When?"])
    reviews.add_reviews(store, [word(first, seconds=10.0), word(second, Verdict.SKIP, seconds=26.0)])
    [reviewer], *_ = tables(section("Progress"))
    assert reviewer["per_hour"] == 100


def test_acceptance_rests_on_the_random_part_and_says_on_how_many(
    section: Open, store: Store, in_order: list[UUID]
) -> None:
    say(store, in_order[:18])
    say(store, in_order[18:19], Verdict.REJECT)
    say(store, ids(store, TRIAGED)[:30], Verdict.REJECT)
    by_model, *_, strata = tables(section("Acceptance"))
    assert by_model[0] == {
        "model": "(none)",
        "read": 19,
        "approved": 18,
        "of these mended": 0,
        "rejected": 1,
        "open": 0,
        "share approved": 94.7,
        "95 % interval": "fewer than 20: 75 to 99 %",
        "out of turn": 0,
    }
    assert [(row["source"], row["read"], row["to be read yet"]) for row in strata] == [("guide", 19, None)]


def test_the_gate_is_shown_for_another_share_of_errors(section: Open, store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:29])
    page = section("Acceptance")
    # as many as chance has put into the random part
    assert tables(page)[-1][0]["may go in unread"] in ("read on", "no: read all of it")
    page.button_group[1].set_value(0.1).run()
    assert tables(page)[-1][0]["may go in unread"] == "yes"
    assert tables(page)[-1][0]["at most wrong (95 %)"] == "9.8 %"


def test_negatives_are_told_by_rank_and_similarity_apart_by_card(
    section: Open, store: Store, in_order: list[UUID]
) -> None:
    false = word(in_order[0], Verdict.PARTIAL, negative_id=negatives_of(store, in_order[0])[0])
    reviews.add_reviews(store, [false, word(in_order[0]), word(in_order[1], num_shown=1, difficulty=2)])
    page = section("Negatives")
    by_rank = tables(page)[0]
    assert by_rank == [
        {"rank": "1 to 10", "card": "whole", "negatives": 2, "false": 1, "share false": 50.0,
         "95 % interval": "fewer than 20: 9 to 91 %"},
        {"rank": "1 to 10", "card": "contested", "negatives": 1, "false": 0, "share false": 0.0,
         "95 % interval": "fewer than 20: 0 to 79 %"},
    ]  # fmt: skip
    assert "Left out of the chart: 1 that rest on fewer than 20." in captions(page)
    assert "Hardness: Spearman's correlation no value, of 1 samples: fewer than 20" in [t.value for t in page.text]


def test_people_are_compared_where_twenty_are_in_common(section: Open, store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:20])
    say(store, in_order[:19], reviewer="bob")
    page = section("People")
    assert "No two reviewers have judged 20 revisions in common." in captions(page)
    assert "Pairs with fewer than 20 in common, left out: 1." in captions(page)
    assert "These rest on fewer than 20." in captions(page)
    say(store, in_order[19:20], Verdict.REJECT, "bob")
    page = section("People")
    [pair], *_ = tables(page)
    assert (pair["in common"], pair["same"], pair["share approved"], pair["kappa"]) == (20, 95.0, 97.5, 0.0)
    # o_01 = 1, n_0 = 1, n_1 = 39, n = 40: D_o = 2, D_e = 2 * 39 / 39
    assert [metric.value for metric in page.metric] == ["0.00", "20", "95 % of 20", "98 % of 40"]


def test_gold_and_repeats_are_told_by_reviewer(section: Open, store: Store, in_order: list[UUID]) -> None:
    with store.write() as cursor:
        cursor.execute("INSERT INTO gold VALUES (?, ?, 'approve', 'chief', ?)", [in_order[0], in_order[0], rows.now()])
    say(store, in_order[:1])
    say(store, in_order[:1])
    [trust], days = tables(section("People"))
    assert (trust["gold"], trust["right"], trust["judged twice"], trust["same"]) == (1, 100.0, 1, 100.0)
    assert (days[0]["decisions"], days[0]["gold"]) == (2, "100 % of 1, fewer than 20")
    assert days[0]["note"] == "fewer than 20 decisions"


def test_judges_stand_beside_people(section: Open, store: Store, in_order: list[UUID]) -> None:
    grade(store, {"The harbour opens at six.": 3, "The harbour closes at nine.": 0}, judge="judge-7b")
    say(store, in_order[:20])
    page = section("Judges")
    positives, negatives = tables(page)
    assert positives[3] == {"grade": "3 answers", "approved": 20, "rejected": 0, "answer": 100.0,
                            "95 % interval": "84 to 100 %"}  # fmt: skip
    assert (negatives[0]["answers"], negatives[0]["does not answer"]) == (0, 20)
    assert "Cohen's kappa no value; the same in 100 % of 20; people leave out 0 % of 20" in [t.value for t in page.text]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Progress", "Nobody has reviewed yet."),
        ("Acceptance", "No sample waits for a decision."),
        ("Negatives", "Nobody has judged a negative of the random part yet."),
        ("People", "Nothing has verdicts of two people yet."),
        ("Judges", "No judge has graded what people judged in the random part yet: `synth judge` asks one."),
    ],
)
def test_an_empty_store_says_so(section: Open, name: str, said: str) -> None:
    page = section(name)
    assert not page.dataframe
    assert said in captions(page)


def test_an_unknown_section_in_the_address_is_the_first(section: Open) -> None:
    assert section("nonsense").metric


def test_hostile_names_stand_in_cells_and_as_plain_text_alone(
    section: Open, store: Store, in_order: list[UUID]
) -> None:
    grade(store, {"The harbour opens at six.": 3}, judge=HOSTILE)
    with store.write() as cursor:
        cursor.execute("UPDATE source SET name = ?", [f"{HOSTILE}\u202e"])
        cursor.execute("UPDATE revision SET model = ?", [HOSTILE])
    for who in (HOSTILE, "bob"):
        say(store, in_order[:25], reviewer=who)
    found = ""
    for name in SECTIONS:
        page = section(name)
        ours = (page.markdown, page.caption, page.subheader, page.title)
        assert "attacker" not in "".join(str(each.value) for group in ours for each in group)
        assert "attacker" not in "".join(each.label for each in (*page.metric, *page.tabs))
        assert not page.get("html")
        found += str(tables(page))
    assert f"{HOSTILE}⟨U+202E⟩" in found

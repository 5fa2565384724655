"""The Releases page as Streamlit runs it, without a browser."""

from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from synth.records import ReviewEvent, Verdict, new_id
from synth.store.connection import Store
from synth.store.reviews import add_reviews
from tests.review_app.conftest import ShowPage
from tests.review_app.seeding import add_samples

HOSTILE = "x' OR 1=1; <script>alert(1)</script> ![i](http://attacker.example/i.png)"


@pytest.fixture
def page(show_page: ShowPage) -> ShowPage:
    return partial(show_page, "releases_page")


@pytest.fixture
def ids(store: Store) -> list[UUID]:
    return add_samples(store, [f"When does harbour {number} open?" for number in range(400)])


def approve(store: Store, ids: list[UUID], reviewer: str = "ada") -> None:
    add_reviews(store, [ReviewEvent(new_id(), reviewer, each, each, Verdict.APPROVE) for each in ids])


def statuses(store: Store) -> dict[str, int]:
    with store.read() as cursor:
        return dict(cursor.execute("SELECT status, count(*) FROM samples GROUP BY 1").fetchall())


def test_a_release_is_frozen_and_its_datasheet_is_shown(page: ShowPage, store: Store, ids: list[UUID]) -> None:
    approve(store, ids[:3])
    shown = page()
    assert "Nothing is frozen yet." in [caption.value for caption in shown.caption]
    shown.text_input[-2].input("first")
    shown = shown.button[-1].click().run()
    assert not shown.exception
    assert [each.value for each in (*shown.toast, *shown.success)] == ["The release is made."] * 2
    assert (Path(store.path).parent / "releases" / "first" / "manifest.json").is_file()
    tables = [frame.value for frame in shown.dataframe]
    assert ["first", 3] in tables[1][["name", "num_samples"]].values.tolist()
    assert ["verdicts", "any"] in tables[2].values.tolist()


def test_the_datasheet_of_what_was_just_frozen_is_shown(page: ShowPage, store: Store, ids: list[UUID]) -> None:
    approve(store, ids[:3])
    shown = page()
    for name in ("first", "second"):
        shown.text_input[-2].input(name)
        shown = shown.button[-1].click().run()
        assert shown.selectbox(key="release shown").value == name


@pytest.mark.parametrize(("name", "where"), [("../elsewhere", ""), ("", ""), ("second", HOSTILE)])
def test_what_cannot_be_frozen_is_said_as_text(
    page: ShowPage, store: Store, ids: list[UUID], name: str, where: str
) -> None:
    approve(store, ids[:3])
    shown = page()
    shown.text_input[-2].input(name)
    shown.text_input[-1].input(where)
    shown = shown.button[-1].click().run()
    assert not shown.exception
    assert [each.value for each in shown.error] == ["Nothing was frozen."]
    assert not list((Path(store.path).parent / "releases").glob("*/manifest.json"))


def test_a_stratum_whose_random_part_was_read_is_approved_once_its_number_is_typed(
    page: ShowPage, store: Store, ids: list[UUID]
) -> None:
    with store.read() as cursor:
        read = cursor.execute("SELECT sample_id FROM sample_state WHERE draw < 0.2 ORDER BY draw").fetchall()
    assert len(read) >= 59  # of 400 a fifth
    approve(store, [sample_id for (sample_id,) in read])
    shown = page()
    waiting = statuses(store)["pending"]
    row = shown.dataframe[0].value.iloc[0]
    assert (row.source, row.undecided, row.wrong, row["may go in unread"]) == ("guide", waiting, 0, "yes")
    shown.text_input[0].input("all of them")
    shown = shown.button[0].click().run()
    assert [each.value for each in shown.error] == [f"Nothing was approved: the number to type is {waiting}."]
    shown.text_input[0].input(str(waiting))
    shown = shown.button[0].click().run()
    assert [each.value for each in shown.success] == [f"{waiting:,} samples are approved by policy:audited."]
    assert statuses(store) == {"approved": 400}


def test_only_admins_change_anything(page: ShowPage, store: Store, ids: list[UUID]) -> None:
    approve(store, ids)
    with store.write() as cursor:
        cursor.execute("INSERT INTO role VALUES ('eve', 'admin', 'eve', now()::TIMESTAMP)")
    assert len(page("eve").button) == 1
    assert len(page("ada").button) == len(page("").button) == 0


def test_an_empty_store_says_so(page: ShowPage) -> None:
    assert "No sample waits for a decision." in [caption.value for caption in page().caption]

"""The Guidelines page, without a browser."""

import html
import re
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from review_app.guidelines_page import MEANINGS, changes
from review_app.key_map import actions, own_keys
from synth.records import ReviewEvent, Verdict, new_id
from synth.store.connection import Store
from synth.store.guidelines import ReviewSettings, add_guideline, guidelines
from synth.store.reviews import add_reviews
from synth.store.roles import Role, grant_role, people
from synth.store.verdicts import NEGATIVE_REASONS, REASONS
from tests.review_app.conftest import ShowPage
from tests.review_app.seeding import add_samples

HOSTILE = "![x](http://attacker.example/i.png) :red[gone] $5$\n# Title  two <b>spaces</b> \u202eevil"


@pytest.fixture
def opened(show_page: ShowPage) -> ShowPage:
    return partial(show_page, "guidelines_page")


def press(app: AppTest, label: str) -> AppTest:
    [button] = [each for each in app.button if each.label == label]
    button.click().run()
    assert not app.exception
    return app


def texts(app: AppTest) -> list[str]:
    return [each.value for each in app.text]


def test_a_guideline_is_written_and_shown_as_text(opened: ShowPage, store: Store) -> None:
    app = opened("ada")
    assert "No guideline yet" in [each.value for each in app.subheader]
    app.text_area(key="text 0").set_value(HOSTILE)
    app.number_input(key="overlap_first 0").set_value(20)
    app.number_input(key="overlap_share 0").set_value(12.5)
    press(app, "Put it in force")
    [guideline] = guidelines(store)
    assert (guideline.text, guideline.author) == (HOSTILE, "ada")
    assert guideline.settings == ReviewSettings(overlap_first=20, overlap_share=0.125)
    assert [each.value for each in app.success] == ["Done."]
    assert HOSTILE.replace("\u202e", "⟨U+202E⟩") in texts(app)
    assert "attacker" not in "".join(str(each.value) for found in (app.markdown, app.caption) for each in found)
    assert [each.value for each in app.metric] == ["the first 20", "12.5 %", "5 %", "2 %"]


def test_the_form_goes_on_from_the_version_in_force_and_a_lost_race_is_told(opened: ShowPage, store: Store) -> None:
    add_guideline(store, author="ada", text="Be brief.", settings=ReviewSettings(), after=0)
    app = opened("ada")
    assert app.text_area(key="text 1").value == "Be brief."
    add_guideline(store, author="bob", text="Be long.", settings=ReviewSettings(), after=1)
    app.text_area(key="text 1").set_value("Be very brief.")
    press(app, "Put it in force")
    assert [each.value for each in app.error] == ["Nothing was changed."]
    assert any("version 2 came meanwhile" in text for text in texts(app))
    assert [each.number for each in guidelines(store)] == [2, 1]


def test_versions_are_shown_with_what_changed(opened: ShowPage, store: Store) -> None:
    add_guideline(store, author="ada", text="Be brief.\n<img src=x>", settings=ReviewSettings(), after=0)
    add_guideline(
        store, author="bob", text="Be very brief.\n<img src=x>", settings=ReviewSettings(overlap_first=7), after=1
    )
    app = opened("eve")
    [shown] = app.get("html")
    assert "Be <ins>very </ins>brief.\n&lt;img src=x&gt;" in shown.proto.body
    assert any("first of each task 100 → 7" in each.value for each in app.caption)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Be brief and kind.", "Be very brief."),
        ("a\u200bb <b> & c", "a b <b>\u200b & c"),
        ("要简短，不要长。", "要很简短。"),
        ("", "New"),
        ("Old", ""),
        ("<ins>a</ins>", "<del>a</del>"),
        ("12 boats do not wait", "13 boats wait"),
    ],
)
def test_both_texts_can_be_read_from_what_changed(before: str, after: str) -> None:
    found = re.sub(r"<code>U\+([0-9A-F]+)</code>", lambda match: chr(int(match[1], 16)), changes(before, after))
    new = re.sub(r"</?ins>", "", re.sub(r"<del>.*?</del>", "", found, flags=re.DOTALL))
    old = re.sub(r"</?del>", "", re.sub(r"<ins>.*?</ins>", "", found, flags=re.DOTALL))
    assert (html.unescape(old), html.unescape(new)) == (before, after)


def test_every_reason_in_force_is_listed_and_says_what_it_means(opened: ShowPage) -> None:
    codes = {code for found in (*REASONS.values(), *NEGATIVE_REASONS.values()) for code in found}
    assert codes == set(MEANINGS)
    [reasons] = [each.value for each in opened("ada").dataframe if "reason" in each.value]
    assert set(reasons.reason) == codes


def test_own_keys_are_kept_and_refused_where_two_collide(opened: ShowPage, store: Store) -> None:
    app = opened("ada")
    assert len([each for each in app.text_input if (each.key or "").startswith("key ")]) == len(actions())
    app.text_input(key="key approve").set_value("y")
    press(app, "Keep these keys")
    assert own_keys(store, "ada") == {"approve": "y"}
    app.text_input(key="key reject").set_value("Y")
    press(app, "Keep these keys")
    assert any("Y cannot be for both Approve and Reject" in text for text in texts(app))
    assert own_keys(store, "ada") == {"approve": "y"}
    press(app, "Back to the usual ones")
    assert own_keys(store, "ada") == {}
    assert app.text_input(key="key approve").value == "A"


def test_an_admin_grants_roles_and_the_first_makes_one(opened: ShowPage, store: Store) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    add_reviews(store, [ReviewEvent(new_id(), name, sample, sample, Verdict.SKIP) for name in ("ada", "bob")])
    app = opened("ada")
    assert "Nobody has a role yet" in app.info[0].value
    app.selectbox(key="role of").set_value("bob")
    press(app, "Grant")
    assert any("nobody would be an admin" in text for text in texts(app))
    app.selectbox(key="role of").set_value("ada")
    app.segmented_control(key="role").set_value("admin")
    press(app, "Grant")
    assert [(each.reviewer, each.role) for each in people(store)] == [("ada", Role.ADMIN), ("bob", Role.REVIEWER)]
    assert not app.info


def test_whoever_is_no_admin_can_read_and_choose_keys_alone(opened: ShowPage, store: Store) -> None:
    grant_role(store, granted_by="ada", reviewer="ada", role=Role.ADMIN)
    app = opened("bob")
    assert not app.text_area
    assert {each.label for each in app.button} == {"Keep these keys", "Back to the usual ones"}
    nobody = opened("")
    assert not nobody.button
    assert not nobody.text_input


def test_a_hostile_name_is_drawn_as_text(opened: ShowPage, store: Store) -> None:
    grant_role(store, granted_by="ada", reviewer="ada", role=Role.ADMIN)
    grant_role(store, granted_by="ada", reviewer="![x](http://attacker.example/a.png)", role=Role.ADJUDICATOR)
    app = opened("ada")
    assert not any("attacker" in str(each.value) for found in (app.markdown, app.caption) for each in found)
    assert "![x](http://attacker.example/a.png)" in set(app.dataframe[1].value.reviewer)

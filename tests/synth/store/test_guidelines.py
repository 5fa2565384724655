"""The versions of the guideline, who may write them, and who may do what."""

import pytest

from synth.records import ReviewEvent, UserError, Verdict, new_id
from synth.store.connection import Store
from synth.store.guidelines import ReviewSettings, add_guideline, guidelines, settings_in_force
from synth.store.reviewer_settings import reviewer_setting, set_reviewer_setting
from synth.store.reviews import add_reviews
from synth.store.roles import Role, grant_role, people, role_of
from tests.review_app.seeding import add_samples

DEFAULTS = ReviewSettings()


def write(store: Store, text: str, after: int, author: str = "ada", settings: ReviewSettings = DEFAULTS) -> int:
    return add_guideline(store, author=author, text=text, settings=settings, after=after)


def role(store: Store, reviewer: str) -> Role:
    with store.read() as cursor:
        return role_of(cursor, reviewer)


def test_the_newest_version_is_in_force_and_the_others_are_kept(store: Store) -> None:
    assert write(store, "Be brief.", 0) == 1
    assert write(store, "Be brief.\n要简短。", 1, settings=ReviewSettings(overlap_first=5, gold_share=0.2)) == 2
    assert [(each.number, each.text) for each in guidelines(store)] == [(2, "Be brief.\n要简短。"), (1, "Be brief.")]
    assert [each.settings.overlap_first for each in guidelines(store)] == [5, 100]
    with store.read() as cursor:
        assert settings_in_force(cursor) == ReviewSettings(overlap_first=5, gold_share=0.2)


def test_a_version_that_another_came_before_is_refused(store: Store) -> None:
    write(store, "Be brief.", 0)
    with pytest.raises(UserError, match="version 1 came meanwhile"):
        write(store, "Be long.", 0, author="bob")
    assert [each.text for each in guidelines(store)] == ["Be brief."]


def test_a_version_that_changes_nothing_is_refused(store: Store) -> None:
    write(store, "Be brief.", 0)
    with pytest.raises(UserError, match="says the same"):
        write(store, "Be brief.", 1)
    assert write(store, "Be brief.", 1, settings=ReviewSettings(repeat_share=0)) == 2


@pytest.mark.parametrize("text", ["", " \n", "a" * 20_001, "\ud800", "a\0b"])
def test_a_text_that_is_no_guideline_is_refused(store: Store, text: str) -> None:
    with pytest.raises(UserError, match="the guideline"):
        write(store, text, 0)


@pytest.mark.parametrize(
    "settings",
    [
        ReviewSettings(overlap_first=-1),
        ReviewSettings(overlap_first=1.5),  # type: ignore[arg-type]
        ReviewSettings(overlap_share=1.1),
        ReviewSettings(gold_share=float("nan")),
        ReviewSettings(repeat_share=True),
    ],
)
def test_a_setting_out_of_range_is_refused(store: Store, settings: ReviewSettings) -> None:
    with pytest.raises(UserError, match="it is"):
        write(store, "Be brief.", 0, settings=settings)


def test_while_nobody_has_a_role_everybody_is_an_admin(store: Store) -> None:
    assert role(store, "anybody") is Role.ADMIN
    grant_role(store, granted_by="ada", reviewer="ada", role=Role.ADMIN)
    assert (role(store, "ada"), role(store, "anybody")) == (Role.ADMIN, Role.REVIEWER)


def test_the_last_role_granted_holds_and_admins_alone_grant_them(store: Store) -> None:
    grant_role(store, granted_by="ada", reviewer="ada", role=Role.ADMIN)
    grant_role(store, granted_by="ada", reviewer="bob", role=Role.ADJUDICATOR)
    grant_role(store, granted_by="ada", reviewer="bob", role=Role.REVIEWER)
    assert role(store, "bob") is Role.REVIEWER
    for granted in Role:
        with pytest.raises(UserError, match="bob is no admin"):
            grant_role(store, granted_by="bob", reviewer="bob", role=granted)
    with pytest.raises(UserError, match="bob is no admin"):
        write(store, "Be brief.", 0, author="bob")
    assert guidelines(store) == []


def test_there_always_is_an_admin(store: Store) -> None:
    with pytest.raises(UserError, match="nobody would be an admin"):
        grant_role(store, granted_by="ada", reviewer="bob", role=Role.ADJUDICATOR)
    grant_role(store, granted_by="ada", reviewer="ada", role=Role.ADMIN)
    with pytest.raises(UserError, match="nobody would be an admin"):
        grant_role(store, granted_by="ada", reviewer="ada", role=Role.REVIEWER)
    grant_role(store, granted_by="ada", reviewer="bob", role=Role.ADMIN)
    grant_role(store, granted_by="bob", reviewer="ada", role=Role.REVIEWER)
    assert (role(store, "ada"), role(store, "bob")) == (Role.REVIEWER, Role.ADMIN)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\u202eada", "a" * 101])
def test_a_role_goes_to_a_name_of_one_line(store: Store, name: str) -> None:
    with pytest.raises(UserError, match="is no name"):
        grant_role(store, granted_by="ada", reviewer=name, role=Role.ADMIN)


def test_people_are_who_judged_and_who_has_a_role(store: Store) -> None:
    first, _ = add_samples(store, ["When does it open?", "When does it close?"])
    add_reviews(store, [ReviewEvent(new_id(), "eve", first, first, Verdict.APPROVE)])
    assert [(each.reviewer, each.role) for each in people(store)] == [("eve", Role.ADMIN)]
    grant_role(store, granted_by="ada", reviewer="ada", role=Role.ADMIN)
    grant_role(store, granted_by="ada", reviewer="bob", role=Role.ADJUDICATOR)
    found = [(each.reviewer, each.role, each.num_verdicts, each.granted_by) for each in people(store)]
    assert found == [
        ("ada", Role.ADMIN, 0, "ada"),
        ("bob", Role.ADJUDICATOR, 0, "ada"),
        ("eve", Role.REVIEWER, 1, None),
    ]


def test_of_a_reviewers_own_settings_the_latest_holds(store: Store) -> None:
    assert reviewer_setting(store, "ada", "keys") is None
    set_reviewer_setting(store, "ada", "keys", {"approve": "y"})
    set_reviewer_setting(store, "ada", "keys", {"approve": "é"})
    set_reviewer_setting(store, "bob", "keys", {})
    set_reviewer_setting(store, "ada", "other", 3)
    assert reviewer_setting(store, "ada", "keys") == {"approve": "é"}
    assert reviewer_setting(store, "bob", "keys") == {}

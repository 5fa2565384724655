"""Under which name verdicts of a signed-in person are stored, and who may sign in at all."""

from typing import Any

import pytest

from review_app.sign_in import is_allowed, reviewer_of
from review_app.team import Team

ADA = {"iss": "https://accounts.example.org", "sub": "1", "email": "Ada@Example.org", "email_verified": True}


def test_a_verified_address_is_the_reviewers_name_in_lower_case() -> None:
    assert reviewer_of(ADA) == "ada@example.org"


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "yes"},
        {"email": "ada"},
        {"email": "ada@evil.example@example.org"},
        {"email": "ada\n@example.org"},
        {"email": "\u0430da@example.org"},  # a Cyrillic letter
        {"email": f"{'a' * 100}@example.org"},
        {"email": ["ada@example.org"]},
    ],
)
def test_an_address_that_is_not_verified_is_nobodys_name(claims: dict[str, Any]) -> None:
    found = reviewer_of(ADA | claims | {"name": "Ada"})
    assert found.startswith("Ada (") and len(found) == len("Ada ()") + 12


def test_two_accounts_of_one_name_are_two_reviewers_and_neither_is_an_address() -> None:
    first, second = ({"iss": "https://a", "sub": each, "name": "ada@example.org"} for each in ("1", "2"))
    assert len({reviewer_of(first), reviewer_of(second), "ada@example.org"}) == 3


def test_a_name_is_one_line_without_hidden_characters() -> None:
    assert reviewer_of({"iss": "https://a", "sub": "1", "name": "A\u202e\n b"}).startswith("A⟨U+202E⟩ b (")


def test_whoever_has_no_account_is_nobody() -> None:
    assert reviewer_of({"name": "Ada"}) == ""


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        ((), True),
        (("ada@example.org",), True),
        (("@example.org",), True),
        (("@ample.org",), False),
        (("bo@example.org", "@example.com"), False),
    ],
)
def test_a_team_takes_the_addresses_and_domains_that_it_names(allow: tuple[str, ...], expected: bool) -> None:
    team = Team("https://reviews.example.org", "reviews.example.org", allow=allow)
    assert is_allowed(reviewer_of(ADA), ADA, team) is expected


def test_an_address_that_is_not_verified_is_in_no_team_that_names_some() -> None:
    claims = ADA | {"email_verified": False}
    assert not is_allowed(reviewer_of(claims), claims, Team("", "", allow=("@example.org",)))

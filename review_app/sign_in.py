"""Who signed in, where a team reviews: nobody else gets a page. The provider's word is all that counts."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from review_app.segments import visible
from review_app.team import Team, read_team
from synth.records import UserError

REQUIRED = "--sign-in"  # the app's second argument where nobody gets in without
LONGEST_ADDRESS = 100  # characters of a reviewer's name, as the store takes it
LONGEST_NAME = 60
MARK = 12  # hexadecimal digits that tell accounts of one name apart


@st.cache_resource(show_spinner=False)
def _team(workspace: Path) -> Team | None:
    return read_team(workspace)  # once for all: what was checked before the start holds


def signed_in_reviewer(workspace: Path) -> str:
    """Who signed in. While nobody has, or somebody who may not, this draws the page that says so, and returns ''."""
    try:
        team = _team(workspace)
    except UserError:
        team = None
    if team is None:  # the file changed since the start: nobody gets in
        st.error("Signing in is not set up any more; start the app again.")
        return ""
    claims = st.user.to_dict()
    if claims.get("is_logged_in") is not True:
        _ask(team)
        return ""
    reviewer = reviewer_of(claims)
    if reviewer and is_allowed(reviewer, claims, team):
        return reviewer
    st.title("You may not review here", anchor=False)
    st.text(f"You signed in as {reviewer or 'nobody'}. Ask whoever runs this app, or sign in with another account.")
    st.button("Sign out", on_click=st.logout)
    return ""


def reviewer_of(claims: Mapping[str, Any]) -> str:
    """
    The name under which verdicts of a signed-in person are stored: their verified e-mail address, else their name with
    a mark that no other account has. Empty if the provider says too little.
    """
    address = _verified_address(claims)
    if address:
        return address
    subject, issuer = claims.get("sub"), claims.get("iss")
    if not subject or not issuer:
        return ""
    name = visible(" ".join(str(claims.get("name") or "").split()))[:LONGEST_NAME] or "somebody"
    mark = hashlib.sha256("\n".join((str(issuer), str(subject))).encode()).hexdigest()[:MARK]
    return f"{name} ({mark})"


def is_allowed(reviewer: str, claims: Mapping[str, Any], team: Team) -> bool:
    """Whether the team takes this person: all, or those whose verified address it names."""
    if not team.allow:
        return True
    address = _verified_address(claims)
    return bool(address) and (address in team.allow or f"@{address.rpartition('@')[2]}" in team.allow)


def _verified_address(claims: Mapping[str, Any]) -> str:
    address = claims.get("email")
    if claims.get("email_verified") not in (True, "true") or not isinstance(address, str):
        return ""
    is_plain = address.count("@") == 1 and address.isascii() and address.isprintable() and " " not in address
    return address.lower() if is_plain and len(address) <= LONGEST_ADDRESS else ""


def _ask(team: Team) -> None:
    st.title("Skiff review", anchor=False)
    st.text("Sign in to review: every verdict is stored with your name.")
    for provider in team.providers:
        st.button(f"Sign in with {provider}", type="primary", on_click=st.login, args=(provider,))
    if not team.providers:
        st.button("Sign in", type="primary", on_click=st.login)

"""
The Streamlit app: who reviews, and which page. `python -m review_app WORKSPACE` starts it.

Streamlit runs this file anew for every interaction. The process has one argument, the workspace, and where people have
to sign in a second one that says so.
"""

import sys
from pathlib import Path

import streamlit as st

from review_app import compare_page, dashboard_page, explore_page, guidelines_page, releases_page, review_page, sql_page
from review_app.segments import visible
from review_app.sign_in import REQUIRED, signed_in_reviewer
from synth.records import StoreError, UserError
from synth.settings import STORE
from synth.store.connection import Store
from synth.workspace import find_store

LOCK_TIMEOUT = 2.0  # seconds; less than the card waits before it sends again, so that it hears why
LONGEST_NAME = 60


@st.cache_resource(show_spinner=False)
def opened(path: Path) -> Store:
    """The store, opened once per process."""
    return Store.open(path, lock_timeout=LOCK_TIMEOUT)


def main() -> None:
    """Ask who reviews, once; then show the page that was chosen."""
    st.set_page_config(page_title="Skiff review", page_icon="⛵", layout="wide")
    workspace = Path(sys.argv[1])
    reviewer = signed_in_reviewer(workspace) if _signs_in() else _remembered_reviewer()
    if _signs_in() and not reviewer:
        return
    try:
        store = opened(find_store(workspace) or workspace / STORE)
    except (StoreError, UserError) as error:
        st.error("The store cannot be opened.")
        st.text(visible(str(error)))
        return
    page = st.navigation(
        [
            st.Page(
                lambda: _review(store, reviewer),
                title="Review",
                icon=":material/rule:",
                url_path="review",
                default=True,
            ),
            st.Page(lambda: _dashboard(store), title="Dashboard", icon=":material/monitoring:", url_path="progress"),
            st.Page(
                lambda: explore_page.show(store, reviewer),
                title="Explore",
                icon=":material/travel_explore:",
                url_path="explore",
            ),
            st.Page(lambda: sql_page.show(store, reviewer), title="SQL", icon=":material/database:", url_path="sql"),
            st.Page(
                lambda: compare_page.show(store, reviewer),
                title="Compare",
                icon=":material/compare_arrows:",
                url_path="compare",
            ),
            st.Page(
                lambda: releases_page.show(store, reviewer),
                title="Releases",
                icon=":material/inventory_2:",
                url_path="releases",
            ),
            st.Page(
                lambda: guidelines_page.show(store, reviewer),
                title="Guidelines",
                icon=":material/menu_book:",
                url_path="guidelines",
            ),
        ],
        position="top",
    )
    page.run()


def _signs_in() -> bool:
    return REQUIRED in sys.argv[2:]


def _remembered_reviewer() -> str:
    """Who reviews: this session's, or else the address's; both remember it from then on."""
    reviewer = clean_name(st.session_state.get("reviewer") or st.query_params.get("reviewer", ""))
    if reviewer:
        st.session_state["reviewer"] = st.query_params["reviewer"] = reviewer
    return reviewer


def _review(store: Store, reviewer: str) -> None:
    if not reviewer:
        _ask_reviewer()
        return
    with st.container(horizontal=True, vertical_alignment="center", key="bar"):
        queue = review_page.choose_queue()
        task = review_page.choose_task()
        st.space("stretch")
        st.text(f"Reviewing as {reviewer}", width="content")
        if _signs_in():
            st.button("Sign out", type="tertiary", on_click=st.logout)
        else:
            st.button("Change", type="tertiary", on_click=_forget_reviewer, help="Let somebody else review")
    review_page.show(store, reviewer, queue, task)


def _dashboard(store: Store) -> None:
    try:
        dashboard_page.show(store)
    except StoreError as error:
        st.error("The store cannot be read now; reload the page in a moment.")
        st.text(visible(str(error)))


def clean_name(name: str) -> str:
    """A reviewer's name as it is stored: one line, at most 60 characters, none of them hidden."""
    return visible(" ".join(name.split()))[:LONGEST_NAME]


def _ask_reviewer() -> None:
    st.title("Who is reviewing?")
    st.text("Your name is stored with every verdict, so that others know whom to ask.")
    with st.form("reviewer_form", border=False):
        name = st.text_input("Your name", max_chars=LONGEST_NAME, width=360)
        if st.form_submit_button("Start reviewing", type="primary"):
            if clean_name(name):
                st.session_state["reviewer"] = clean_name(name)
                st.rerun()
            st.error("A name is needed.")


def _forget_reviewer() -> None:
    st.session_state.pop("reviewer", None)
    st.query_params.pop("reviewer", None)


if __name__ == "__main__":
    main()

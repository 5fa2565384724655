"""
The Streamlit app: who reviews, and which page. `python -m review_app WORKSPACE` starts it.

Streamlit runs this file anew for every interaction. The process has one argument, the workspace, and where people have
to sign in a second one that says so.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from review_app import review_page
from review_app.segments import visible
from review_app.sign_in import REQUIRED, signed_in_reviewer
from synth.records import StoreError, UserError
from synth.settings import STORE
from synth.store.connection import Store
from synth.workspace import find_store

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

LOCK_TIMEOUT = 10.0  # seconds; cards are at hand meanwhile, so nobody need hear of a shorter wait
LONGEST_NAME = 60
PAGES = (  # module, title, icon, address
    ("dashboard_page", "Dashboard", "monitoring", "dashboard"),
    ("explore_page", "Explore", "travel_explore", "explore"),
    ("sql_page", "SQL", "database", "sql"),
    ("compare_page", "Compare", "compare_arrows", "compare"),
    ("releases_page", "Releases", "inventory_2", "releases"),
    ("guidelines_page", "Guidelines", "menu_book", "guidelines"),
)


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
    review = st.Page(
        lambda: _review(store, reviewer), title="Review", icon=":material/rule:", url_path="review", default=True
    )
    st.navigation([review, *(_page(store, reviewer, *each) for each in PAGES)], position="top").run()


def _page(store: Store, reviewer: str, module: str, title: str, icon: str, url_path: str) -> "StreamlitPage":
    """A page whose module is loaded when somebody opens it: what it needs is more than the card does."""

    def show() -> None:
        import_module(f"review_app.{module}").show(store, reviewer)

    return st.Page(show, title=title, icon=f":material/{icon}:", url_path=url_path)


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

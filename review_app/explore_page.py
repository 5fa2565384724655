"""The Explore page: samples by filter, one of them whole, what it is like, a map, and many verdicts at once."""

import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import pyarrow
import streamlit as st

from review_app.explore_bulk import offer_bulk
from review_app.explore_map import draw_map
from review_app.explore_sample import show_sample
from review_app.exploring import Look, known_choices, known_space, look_at
from review_app.segments import visible
from synth.records import SkiffError, StoreError, Task, key_of
from synth.stages.nearest import Space
from synth.store.connection import Store
from synth.store.exploring import LONGEST_ASKED, MOST_PAGES, PAGE_SIZE, Choices, Filter, Flagged, Listed, Page, Sorting

HEIGHT = 576  # pixels of list and sample: with the filters above them, all of a screen of 900
STATUSES = ("pending", "approved", "rejected", "disputed")
LIST, MAP = "List", "Map"
BOUND: Final = "query-params"  # where filters are kept
TURN = "encoded again"
COLUMNS = {
    "cosine": st.column_config.NumberColumn("cosine", format="%.3f", width=64),
    "text": st.column_config.TextColumn("query or text", width=330),
    "other": st.column_config.TextColumn("positive, text 2 or label", width=210),
    "status": st.column_config.TextColumn("status", width=76),
    "suspicion": st.column_config.NumberColumn("suspicion", format="%.2f", width=78),
    "hardness": st.column_config.NumberColumn("hardness", format="%.3f", width=76),
    "difficulty": st.column_config.NumberColumn("difficulty", width=74),
    "negatives": st.column_config.NumberColumn("negatives", width=76),
    "decided_by": st.column_config.TextColumn("decided by", width=110),
}


def show(store: Store, reviewer: str) -> None:
    """Filters, the list or the map, and the sample that was chosen."""
    try:
        _show(store, reviewer)
    except StoreError as error:
        st.error("The store cannot be read now; reload the page in a moment.")
        st.text(visible(str(error)))


def _show(store: Store, reviewer: str) -> None:
    look = _look(known_choices(store.path, store))
    bar = st.container(horizontal=True, vertical_alignment="center", key="explore_bar")
    view = bar.radio("View", [LIST, MAP], key="view", bind=BOUND, horizontal=True, label_visibility="collapsed")
    space = _space(store) if look.like or view == MAP else None
    page = _page(store, look, space)
    left, right = st.columns([8, 5], gap="small")
    if view == MAP:
        bar.text(f"{page.num_samples:,} samples", width="content")
        with left:
            chosen = draw_map(store, look.kept, space, HEIGHT) if space else None
        ticked: Sequence[Listed] = ()
    else:
        with bar:
            _count(look, page)
        with left:
            chosen, ticked = _list(page)
    with bar:
        st.space("stretch")
        offer_bulk(store, reviewer, look, page, ticked)
    with right, st.container(height=HEIGHT, gap="xsmall", key="whole_sample"):
        show_sample(store, chosen or look.like, _show_like)


def _look(known: Choices) -> Look:
    """The filters as they are set; each is kept in the address."""
    with st.container(horizontal=True, gap="small", key="explore_filters"):
        text = st.text_input(
            "Text contains",
            key="with_text",
            bind=BOUND,
            width=216,
            max_chars=LONGEST_ASKED,
            on_change=_to_first_page,
        )
        task = _select("Task", "of_task", [each.value for each in Task], 132)
        source = _select("Source", "of_source", known.sources, 172)
        operation = _select("Operation", "by_operation", known.operations, 132)
        status = _select("Status", "with_status", STATUSES, 132)
        decider = _select("Decided by", "decided_by", known.deciders, 162)
        flagged = _select("Flagged", "flagged", [each.value for each in Flagged], 166)
        difficulty = _select("Difficulty", "difficulty", ["1", "2", "3", "4"], 104)
        model = _select("Model", "by_model", known.models, 172)
        prompt = _select("Prompt", "by_prompt", known.prompts, 172)
        above = st.number_input(
            "Suspicious above", value=None, step=0.5, key="above", bind=BOUND, width=142, on_change=_to_first_page
        )
        like = st.text_input("Sample like (its id)", key="like", bind=BOUND, width=330, on_change=_to_first_page)
        sorting = st.selectbox(
            "Order", [each.value for each in Sorting], key="order", bind=BOUND, width=132, on_change=_to_first_page
        )
    kept = Filter(
        text or "",
        task,
        source,
        operation,
        status,
        decider,
        model,
        prompt,
        Flagged(flagged) if flagged else None,
        int(difficulty) if difficulty else None,
        above,
    )
    return Look(kept, Sorting(sorting), _id(like or ""))


def _select(label: str, key: str, options: Sequence[str], width: int) -> str | None:
    return st.selectbox(
        label,
        options,
        index=None,
        format_func=visible,
        key=key,
        placeholder="any",
        bind=BOUND,
        width=width,
        on_change=_to_first_page,
    )


def _to_first_page() -> None:
    st.session_state["page"] = 1


def _show_like(sample_id: UUID | None) -> None:
    st.session_state["like"] = str(sample_id or "")
    st.session_state["view"] = LIST
    _to_first_page()


def _id(typed: str) -> UUID | None:
    try:
        return UUID(typed.strip()) if typed.strip() else None
    except ValueError:
        st.error("That is no id of a sample; ids look like 019b7745-c180-776a-8fd1-d39c04429f5f.")
        return None


def _page(store: Store, look: Look, space: Space | None) -> Page:
    asked = st.session_state.get("page") or st.query_params.get("page", "")
    number = int(asked) if re.fullmatch("[0-9]{1,6}", str(asked)) else 1
    try:
        return look_at(store, look, number, space)
    except StoreError:
        raise
    except SkiffError as error:  # no such sample, or no vector of it
        st.text(visible(str(error)))
        return Page(0, ())


def _space(store: Store) -> Space | None:
    """The vectors, with a line on those that are missing; None if there is no encoder."""
    try:
        space = known_space(store, st.session_state.get(TURN, 0))
    except StoreError:
        raise
    except SkiffError as error:
        st.error("There are no vectors to compare samples by.")
        st.text(visible(str(error)))
        return None
    if space.num_without:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"{space.num_without:,} samples have no vector yet and are left out here.", width="content")
            if space.may_encode:
                st.button("Encode more, for four seconds", type="tertiary", on_click=_encode_more)
            else:
                st.text("`synth mine` asks the server for them.", width="content")
    return space


def _encode_more() -> None:
    st.session_state[TURN] = st.session_state.get(TURN, 0) + 1


def _count(look: Look, page: Page) -> None:
    """How many there are, and the pages to turn."""
    if look.like:
        st.text(f"the {page.num_samples:,} nearest", width="content")
        st.button("Back to the list", type="tertiary", on_click=_show_like, args=(None,))
        return
    st.text(f"{page.num_samples:,} samples", width="content")
    if page.num_pages > 1:
        st.pagination(page.num_pages, key="page", bind=BOUND, max_visible_pages=5)
    if page.num_samples > MOST_PAGES * PAGE_SIZE:
        st.text(f"the first {MOST_PAGES * PAGE_SIZE:,} can be turned to", width="content")


def _list(page: Page) -> tuple[UUID | None, list[Listed]]:
    """The table; what a click chose to be shown, and the rows that are ticked."""
    if not page.listed:
        st.text("No sample is kept by these filters.")
        return None, []
    columns: dict[str, list[Any]] = {
        "cosine": [each.nearness for each in page.listed],
        "text": [visible(each.text) for each in page.listed],
        "other": [visible(each.other) for each in page.listed],
        "status": [each.status for each in page.listed],
        "suspicion": [each.priority for each in page.listed],
        "hardness": [each.hardness for each in page.listed],
        "negatives": [each.num_negatives for each in page.listed],
        "difficulty": [each.difficulty for each in page.listed],
        "task": [each.task for each in page.listed],
        "source": [visible(each.source) for each in page.listed],
        "operation": [visible(each.operation) for each in page.listed],
        "decided_by": [visible(each.decided_by or "") for each in page.listed],
    }
    event = st.dataframe(
        pyarrow.table({name: values for name, values in columns.items() if any(each is not None for each in values)}),
        hide_index=True,
        height=HEIGHT,
        column_config=COLUMNS,
        placeholder="",
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        key=f"listed {key_of([str(each.head.revision_id) for each in page.listed])}",
        alt="Samples that the filters keep",
    )
    ticked = [page.listed[row] for row in event.selection.rows if row < len(page.listed)]
    clicked = [page.listed[row] for row, _ in event.selection.cells if row < len(page.listed)]
    shown = clicked or ticked[-1:]
    return (shown[0].head.sample_id if shown else None), ticked

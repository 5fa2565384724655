"""The Progress page: who reviewed what, and what is left."""

from typing import TYPE_CHECKING, Literal

import streamlit as st

from review_app import figures
from synth.store.connection import Store

if TYPE_CHECKING:
    import pyarrow

TOTALS = {
    "Samples to train on": "samples",
    "Approved": "approved",
    "Rejected": "rejected",
    "Disputed": "disputed",
    "Pending": "pending",
    "Judged by people": "judged_by_people",
}
NUMBERS = {
    "per_hour": st.column_config.NumberColumn("verdicts per hour", format="%d"),
    "mean_difficulty": st.column_config.NumberColumn("mean difficulty", format="%.1f"),
    "median_seconds": st.column_config.NumberColumn("median seconds", format="%.1f"),
    "latest": st.column_config.DatetimeColumn("latest (UTC)", format="YYYY-MM-DD HH:mm"),
    "decided_percent": st.column_config.ProgressColumn("decided", format="%.0f%%", min_value=0, max_value=100),
}


def show(store: Store) -> None:
    """Totals, then verdicts per reviewer, outcome per source and operation, and reasons."""
    progress = figures.progress(store)
    with st.container(horizontal=True):
        for label, name in TOTALS.items():
            st.metric(label, f"{progress.totals[name]:,}", border=True)
    _table("Reviewers", progress.reviewers, "Nobody has reviewed yet.")
    _table(
        "Sources and operations",
        progress.sources,
        "The store has no samples yet: run `synth ingest` and `synth generate`.",
    )
    if progress.reasons.num_rows:
        _table("Why samples were rejected", progress.reasons, "", width="content")


def _table(
    heading: str, rows: "pyarrow.Table", if_empty: str, width: Literal["stretch", "content"] = "stretch"
) -> None:
    st.subheader(heading)
    if rows.num_rows:
        st.dataframe(rows, hide_index=True, width=width, height="content", column_config=NUMBERS, key=heading)
    else:
        st.caption(if_empty)

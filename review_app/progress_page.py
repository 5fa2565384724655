"""The Progress page: who reviewed what, and what is left."""

import streamlit as st

from review_app import figures
from synth.store.connection import Store

NUMBERS = {
    "per_hour": st.column_config.NumberColumn("verdicts per hour", format="%d"),
    "mean_difficulty": st.column_config.NumberColumn("mean difficulty", format="%.1f"),
    "median_seconds": st.column_config.NumberColumn("median seconds", format="%.1f"),
    "latest": st.column_config.DatetimeColumn("latest (UTC)", format="YYYY-MM-DD HH:mm"),
    "decided_percent": st.column_config.ProgressColumn("decided", format="%.0f%%", min_value=0, max_value=100),
}


def show(store: Store) -> None:
    """Totals, then verdicts per reviewer, outcome per source and operation, and reasons."""
    totals = figures.totals(store)
    with st.container(horizontal=True):
        st.metric("Samples to train on", f"{totals['samples']:,}", border=True)
        st.metric("Approved", f"{totals['approved']:,}", border=True)
        st.metric("Rejected", f"{totals['rejected']:,}", border=True)
        st.metric("Disputed", f"{totals['disputed']:,}", border=True)
        st.metric("Pending", f"{totals['pending']:,}", border=True)
        st.metric("Judged by people", f"{totals['judged_by_people']:,}", border=True)
    reviewers = figures.by_reviewer(store)
    st.subheader("Reviewers")
    if reviewers.num_rows:
        st.dataframe(reviewers, hide_index=True, column_config=NUMBERS, key="reviewers")
    else:
        st.caption("Nobody has reviewed yet.")
    sources = figures.by_source(store)
    st.subheader("Sources and operations")
    if sources.num_rows:
        st.dataframe(sources, hide_index=True, column_config=NUMBERS, key="sources")
    else:
        st.caption("The store has no samples yet: run `synth ingest` and `synth generate`.")
    reasons = figures.by_reason(store)
    if reasons.num_rows:
        st.subheader("Why samples were rejected")
        st.dataframe(reasons, hide_index=True, width="content", key="reasons")

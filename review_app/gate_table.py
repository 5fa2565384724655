"""The gate, as the pages Dashboard and Releases show it: what people read of each stratum, and what follows."""

import streamlit as st

from review_app.dashboard_tables import table
from synth.stages.review import Audit, audits_of
from synth.store.connection import Store

LIMITS = (0.01, 0.02, 0.05, 0.1)  # shares of errors that a gate may allow
USUAL_LIMIT = 0.05
MAY_GO_IN = {
    "open": "yes",
    "read on": "read on",
    "failing": "no: too much is wrong",
    "too small": "no: read all of it",
}


def show_gate(store: Store) -> tuple[float, list[Audit]]:
    """Every stratum against the share of errors that is chosen; returns that share and the strata."""
    st.subheader("What may go in unread")
    limit = float(
        st.segmented_control(
            "Errors allowed",
            LIMITS,
            default=USUAL_LIMIT,
            required=True,
            format_func=lambda share: f"{100 * share:.0f} % wrong",
            key="gate limit",
            label_visibility="collapsed",
        )
        or USUAL_LIMIT
    )
    audits = audits_of(store, limit)
    table([_row(each) for each in audits], "Strata", "No sample waits for a decision.")
    if audits:
        st.caption(
            "A fifth of every stratum, the random part, is shown to reviewers in an order by chance: what they found"
            " wrong in it bounds what is wrong in the rest. Wrong is what they did not approve as it was: rejected,"
            " mended or left open."
        )
    return limit, audits


def _row(audit: Audit) -> dict[str, object]:
    read, gate = audit.stratum.read, audit.gate
    return {
        "source": audit.stratum.source,
        "operation": audit.stratum.operation,
        "may go in unread": MAY_GO_IN[audit.state],
        "undecided": audit.stratum.num_pending,
        "random part": audit.stratum.num_random,
        "read": read.num_read,
        "wrong": gate.errors,
        "rejected": read.num_rejected,
        "mended": read.num_mended,
        "open": read.num_open,
        "at most wrong (95 %)": f"{100 * gate.bound:.1f} %" if read.num_read else "",
        "to be read yet": None if audit.state in ("open", "too small") else gate.num_more,
    }

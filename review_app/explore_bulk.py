"""Many verdicts at once, on the Explore page: the number is typed, and one button takes the last batch back."""

from collections.abc import Sequence

import streamlit as st

from review_app.exploring import Look, Wish, carry_out
from review_app.segments import visible
from synth.records import StoreError, UserError, Verdict
from synth.store.connection import Store
from synth.store.exploring import Listed, Page
from synth.store.review_batches import VERDICTS, last_batch, undo
from synth.store.verdicts import SAMPLE_REASONS

DONE = "bulk outcome"
PAST = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected", Verdict.FLAG: "flagged"}


def offer_bulk(store: Store, reviewer: str, look: Look, page: Page, ticked: Sequence[Listed]) -> None:
    """What is to be decided, the outcome of what was, and its undo."""
    if outcome := st.session_state.pop(DONE, ""):
        st.text(outcome, width="content")
    with st.popover("Decide many …", disabled=not reviewer, width="content"):
        if not reviewer:
            st.text("Say who reviews on the page Review first.")
            return
        _form(store, reviewer, look, page, ticked)
        _undo(store, reviewer)


def _form(store: Store, reviewer: str, look: Look, page: Page, ticked: Sequence[Listed]) -> None:
    number = len(ticked) or page.num_samples
    what = f"the {number:,} ticked samples" if ticked else f"all {number:,} samples that the filters keep"
    st.text(f"A verdict on {what}: {visible(look.in_words())}")
    with st.form("bulk", border=False):
        verdict = st.segmented_control(
            "Verdict", [each.value for each in VERDICTS], key="bulk_verdict", label_visibility="collapsed"
        )
        reason = st.selectbox(
            "Reason, of a rejection", SAMPLE_REASONS, index=None, key="bulk_reason", placeholder="none"
        )
        typed = st.text_input(f"Type {number:,} to confirm", key=f"bulk_number {number}", autocomplete="off")
        submitted = st.form_submit_button("Store the verdicts", type="primary", disabled=not number)
    if not submitted:
        return
    if not verdict:
        st.error("Choose a verdict.")
        return
    wish = Wish(Verdict(verdict), reason, typed or "", tuple(ticked))
    try:
        with st.spinner("Storing …"):
            fault = carry_out(store, reviewer, look, page, wish)
    except UserError as error:
        st.error("Nothing was stored.")
        st.text(visible(str(error)))
        return
    except StoreError as error:
        st.error("The store could not be written to the end. What was stored is one batch, which can be undone.")
        st.text(visible(str(error)))
        return
    if fault:
        st.error(fault)
        return
    st.session_state[DONE] = f"{number:,} samples {PAST[wish.verdict]}."
    st.rerun()


def _undo(store: Store, reviewer: str) -> None:
    batch = last_batch(store, reviewer)
    if batch is None:
        return
    st.caption("YOUR LAST BATCH")
    st.text(
        f"{batch.created_at:%Y-%m-%d %H:%M} UTC: {batch.num_standing:,} {PAST[batch.verdict]}\n{visible(batch.words)}"
    )
    if st.button("Undo it as a whole"):
        with st.spinner("Undoing …"):
            num = undo(Store.open(store.path), reviewer, batch)
        st.session_state[DONE] = f"{num:,} verdicts undone."
        st.rerun()

"""The Dashboard: how far the reviews are, and what people found. docs/dashboard.md says what each figure means."""

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from review_app import figures
from review_app.agreement import FEW, FEWEST, Share, spearman
from review_app.dashboard_people import show_judges, show_people
from review_app.dashboard_tables import NARROWEST, cells, chart, figure, metrics, table
from review_app.gate_table import show_gate
from review_app.segments import visible
from synth.records import StoreError
from synth.store.connection import Store
from synth.store.negative_figures import RANKS, Falses, falses
from synth.store.opinion_figures import difficulties
from synth.store.review_figures import GROUPS, Accepted, acceptance

TOTALS = {
    "Samples to train on": "samples",
    "Approved": "approved",
    "Rejected": "rejected",
    "Disputed": "disputed",
    "Pending": "pending",
    "Judged by people": "judged_by_people",
}
GROUP_NAMES = {
    "model": "Model",
    "prompt_version": "Prompt",
    "operation": "Operation",
    "source": "Source",
    "task": "Task",
}
RANDOM_ONLY = (
    "Only of the random part, read in its order: the rest is shown most suspicious first, and says nothing of all."
)


def show(store: Store, _reviewer: str) -> None:
    """One of the sections; which one is kept in the page's address."""
    chosen = st.segmented_control(
        "Section",
        list(SECTIONS),
        key="section",
        default="Progress",
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    try:
        SECTIONS[chosen or "Progress"](store)
    except StoreError as error:
        st.error("The store cannot be read now; reload the page in a moment.")
        st.text(visible(str(error)))


def _progress(store: Store) -> None:
    """Totals, then verdicts per reviewer, outcome per source and operation, and reasons."""
    progress = figures.progress(store)
    hours = progress.hours_left
    left = f"{FEW} decisions" if hours is None else f"{hours:.1f} h" if hours >= 0.1 else f"{60 * hours:.0f} min"
    metrics({label: f"{progress.totals[name]:,}" for label, name in TOTALS.items()} | {"Time left": left})
    st.subheader("Reviewers")
    table(progress.reviewers.to_pylist(), "Reviewers", "Nobody has reviewed yet.")
    st.subheader("Sources and operations")
    empty = "The store has no samples yet: run `synth ingest` and `synth generate`."
    table(progress.sources.to_pylist(), "Sources and operations", empty)
    if progress.reasons.num_rows:
        st.subheader("Reasons")
        table(progress.reasons.to_pylist(), "Reasons", width="content")


def _acceptance(store: Store) -> None:
    """What people found in the random part, by what made the samples, and whether the rest may go in unread."""
    st.caption(RANDOM_ONLY)
    found = acceptance(store)
    for tab, group in zip(st.tabs(list(GROUP_NAMES.values())), GROUPS, strict=True):
        with tab:
            rows = [_accepted(each) for each in found if each.name == group]
            table(rows, f"Acceptance {group}", "Nobody has read anything of the random part yet.")
    show_gate(store)


def _accepted(accepted: Accepted) -> dict[str, object]:
    read = accepted.read
    return {
        GROUP_NAMES[accepted.name].lower(): accepted.value or "(none)",
        "read": read.num_read,
        "approved": read.num_approved,
        "of these mended": read.num_mended,
        "rejected": read.num_rejected,
        "open": read.num_open,
        **cells("share approved", Share(read.num_approved, read.num_decided)),
        "out of turn": read.num_out_of_turn,
    }


def _negatives(store: Store) -> None:
    """How many negatives answer the query after all, and whether what is hard for people is hard for the encoder."""
    st.caption(RANDOM_ONLY)
    found = falses(store)
    for kind, heading, label in (
        ("rank", "False negatives by rank", "rank"),
        ("similarity", "False negatives by similarity to a positive", "cosine"),
    ):
        of_kind = [each for each in found if each.kind == kind]
        _falses(of_kind, heading, label)
    _difficulty(store)


def _falses(of_kind: Sequence[Falses], heading: str, label: str) -> None:
    st.subheader(heading)
    whole = [(_bin(each), Share(each.num_false, each.num_counted)) for each in of_kind if each.is_whole]
    grid = st.grid(2 if whole else 1, min_column_width=NARROWEST)
    if whole:
        with grid.cell():
            chart(whole, label, "% false, whole cards", alt=heading)
    with grid.cell():
        table(
            [_false(each, label) for each in of_kind], heading, "Nobody has judged a negative of the random part yet."
        )


def _bin(each: Falses) -> str:
    if each.kind == "similarity":
        return f"{each.bin / 10:.1f} to {(each.bin + 1) / 10:.1f}"
    first = RANKS[each.bin - 1] + 1 if each.bin else 1
    return f"{first} to {RANKS[each.bin]}" if each.bin < len(RANKS) else f"{first} and more"


def _false(each: Falses, label: str) -> dict[str, object]:
    return {
        label: _bin(each),
        "card": "whole" if each.is_whole else "contested",
        "negatives": each.num_counted,
        "false": each.num_false,
        **cells("share false", Share(each.num_false, each.num_counted)),
    }


def _difficulty(store: Store) -> None:
    st.subheader("Difficulty that people gave, beside what was measured")
    found = difficulties(store)
    measured: Mapping[str, list[tuple[float, float]]] = {
        "Hardness": [(each.difficulty, each.hardness) for each in found if each.hardness is not None],
        "Relative score": [(each.difficulty, each.relative_score) for each in found if each.relative_score is not None],
    }
    if not any(measured.values()):
        st.caption("Nobody has given a difficulty yet.")
        return
    for name, pairs in measured.items():
        few = f": {FEW}" if len(pairs) < FEWEST else ""
        st.text(f"{name}: Spearman's correlation {figure(spearman(pairs))}, of {len(pairs):,} samples{few}")


SECTIONS: Mapping[str, Callable[[Store], None]] = {
    "Progress": _progress,
    "Acceptance": _acceptance,
    "Negatives": _negatives,
    "People": show_people,
    "Judges": show_judges,
}

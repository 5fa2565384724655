"""The Releases page: what may go in unread, what is frozen, and the freezing itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from review_app.gate_table import show_gate
from review_app.segments import visible
from synth.records import SkiffError, StoreError
from synth.stages.datasheet import LEFT_OUT, shown_cell, shown_setting
from synth.stages.release import Released, create_release
from synth.stages.release_files import find_folder, read_manifest
from synth.stages.review import apply_policy
from synth.store.connection import Store
from synth.store.console import query
from synth.store.release_policy import ReleasePolicy, read_policy
from synth.store.roles import Role, role_of

LIST = (
    "SELECT name, date_trunc('second', created_at) AS created_at, num_samples, num_negatives, digest[:12] AS digest"
    " FROM releases ORDER BY created_at DESC"
)
FOLDER = "releases"


def show(store: Store, reviewer: str) -> None:
    """The gate, then what is frozen, then a form to freeze more; what changes anything is for admins."""
    try:
        with store.read() as cursor:
            is_admin = bool(reviewer) and role_of(cursor, reviewer) is Role.ADMIN
        _tell()
        _gate(store, is_admin=is_admin)
        _frozen(store)
        _freeze(store, is_admin=is_admin)
    except StoreError as error:
        st.error("The store cannot be read now; reload the page in a moment.")
        st.text(visible(str(error)))


def _tell() -> None:
    """Say what the last button did, once."""
    kind, *lines = st.session_state.pop("release told", [""])
    if kind:
        st.toast(lines[0])  # whoever pressed the button at the bottom sees nothing of what is at the top
        (st.success if kind == "done" else st.error)(lines[0])
        for line in lines[1:]:
            st.text(visible(line))


def _keep(kind: str, *lines: str) -> None:
    st.session_state["release told"] = [kind, *lines]


def _gate(store: Store, *, is_admin: bool) -> None:
    limit, audits = show_gate(store)
    waiting = sum(each.stratum.num_pending for each in audits if each.gate.passes)
    if waiting and is_admin:
        with st.form("accept", border=False):
            typed = st.text_input(f"Type {waiting} to approve so many unread samples", width=360)
            if st.form_submit_button("Approve by the policy `audited`"):
                _accept(store, limit, waiting, typed)


def _accept(store: Store, limit: float, waiting: int, typed: str) -> None:
    if typed.strip() != str(waiting):
        _keep("failed", f"Nothing was approved: the number to type is {waiting}.")
    else:
        outcome = apply_policy(store, "audited", max_error=limit)
        _keep("done", f"{outcome.num_new:,} samples are approved by policy:audited.", outcome.warning)
    st.rerun()


def _frozen(store: Store) -> None:
    st.subheader("Releases")
    found = query(store, LIST)
    if not found.num_rows:
        st.caption("Nothing is frozen yet.")
        return
    st.dataframe(found, hide_index=True, height="content")
    names = found["name"].to_pylist()
    if (fresh := st.session_state.pop("release shown next", None)) in names:
        st.session_state["release shown"] = fresh
    chosen = st.selectbox("Datasheet of", names, format_func=visible, key="release shown", width=360)
    try:
        manifest = read_manifest(find_folder(chosen, store.path.parent / FOLDER))
    except SkiffError as error:
        st.text(visible(str(error)))
        return
    left, right = st.columns(2)
    with left:
        _rows(
            "Policy", [{"setting": key, "value": str(shown_setting(key, v))} for key, v in manifest["policy"].items()]
        )
    with right:
        _rows("What is in it", [{"what": key, "count": number} for key, number in manifest["counts"].items()])
        _rows("What was left out", _left_out(manifest.get("left_out")))
    composition = manifest.get("composition")
    for name, rows in composition.items() if isinstance(composition, Mapping) else ():
        _rows(visible(str(name)).replace("_", " ").capitalize(), rows)


def _left_out(counts: object) -> list[dict[str, Any]]:
    found = counts.items() if isinstance(counts, Mapping) else ()
    return [{"why": LEFT_OUT.get(key, visible(str(key))), "samples": number} for key, number in found if number]


def _rows(heading: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table, if there is anything in it; cells are shown as text."""
    if isinstance(rows, Sequence) and rows and all(isinstance(row, Mapping) for row in rows):
        st.caption(heading)
        st.dataframe(
            [{key: shown_cell(value) for key, value in row.items()} for row in rows], hide_index=True, height="content"
        )


def _freeze(store: Store, *, is_admin: bool) -> None:
    st.subheader("Freeze what is approved")
    if not is_admin:
        st.caption("Admins can do that; the page Guidelines says who is one.")
        return
    with st.form("freeze", border=False):
        first, second, third = st.columns(3)
        name = first.text_input("Name of the release")
        verdicts = second.selectbox("Whose word must have approved", ("any", "person", "policy"))
        flagged = third.selectbox("Negatives that mining flagged", ("keep", "leave_out"))
        min_reviewers = first.number_input("People who judged a sample, at least", 0, 100, 0)
        min_agreement = second.number_input("Share of them who approve, at least", 0.0, 1.0, 0.0, 0.05)
        max_negatives = third.number_input("Negatives of a sample, at most", 0, 1000, ReleasePolicy().max_negatives)
        where = st.text_input("Only samples for which (SQL over the view `samples`)", placeholder="hardness > -0.2")
        if st.form_submit_button("Freeze", type="primary"):
            policy = {
                "verdicts": verdicts,
                "flagged_negatives": flagged,
                "min_reviewers": int(min_reviewers),
                "min_agreement": float(min_agreement),
                "max_negatives": int(max_negatives),
                "where": where.strip() or None,
            }
            _create(store, name.strip(), policy)


def _create(store: Store, name: str, settings: Mapping[str, Any]) -> None:
    folder: Path = store.path.parent / FOLDER
    try:
        with st.spinner("Freezing"):
            made = create_release(store, folder, name, read_policy(None, **settings), on_progress=lambda _: None)
    except SkiffError as error:
        _keep("failed", "Nothing was frozen.", str(error))
    else:
        _keep("done", "The release is made." if not made.existed else "It was made before.", *_said(made))
        st.session_state["release shown next"] = name
    st.rerun()


def _said(made: Released) -> list[str]:
    counts = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in made.counts.items())
    return [f"{made.path}", counts, *made.notes]

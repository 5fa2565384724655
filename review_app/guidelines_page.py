"""The Guidelines page: what reviewers go by, how many opinions are wanted, their own keys, and who may do what."""

import html
from collections.abc import Callable
from itertools import pairwise

import streamlit as st

from review_app.differences import difference
from review_app.key_map import Action, actions, keep_keys, own_keys, shown
from review_app.segments import HIDDEN, Segments, visible
from synth.records import StoreError, UserError, Verdict
from synth.store.connection import Store
from synth.store.guidelines import LONGEST_TEXT, MOST_OVERLAPPING, Guideline, ReviewSettings, add_guideline, guidelines
from synth.store.roles import Person, Role, grant_role, people
from synth.store.verdicts import NEGATIVE_REASONS, REASONS

SAID = "guidelines said"  # in the session: what became of the last form, and whether it went well
MEANINGS = {
    "unclear-query": "the query cannot be understood, or is none",
    "wrong-positive": "the positive does not answer the query",
    "false-negative": "a negative answers it",
    "duplicate": "the store has it already",
    "meaning-drift": "a rewrite, or a translation, says something else",
    "bad-language": "the language or the form is wrong",
    "too-easy": "nothing can be learnt from it",
    "unsafe": "it is harmful, or names a private person",
    "other": "something else; say what in a note",
    "cannot-tell": "it cannot be told from what is shown",
    "not-my-field": "it takes somebody who knows the field",
}
CHANGES = """<style>
.skiff-changes { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; }
.skiff-changes ins { background: rgba(32, 160, 90, .22); text-decoration: none; border-radius: 3px; }
.skiff-changes del { background: rgba(214, 60, 60, .2); border-radius: 3px; }
.skiff-changes code { font-size: .85em; }
</style>"""
KEY_COLUMNS = 4


def show(store: Store, reviewer: str) -> None:
    """Everything of the page; forms for what this reviewer may change."""
    try:
        versions, everybody = guidelines(store), people(store)
        keys = own_keys(store, reviewer) if reviewer else {}
    except StoreError as error:
        st.error("The store cannot be read now; reload the page in a moment.")
        st.text(visible(str(error)))
        return
    _say_what_happened()
    is_admin = bool(reviewer) and _role_among(everybody, reviewer) is Role.ADMIN
    titles = ["Guideline", "Reasons", "My keys", "Roles", f"Versions ({len(versions)})"]
    text, reasons, own, roles, history = st.tabs(titles)
    with text:
        _show_guideline(store, reviewer, versions[0] if versions else None, is_admin=is_admin)
    with reasons:
        _show_reasons()
    with own:
        _show_keys(store, reviewer, keys)
    with roles:
        _show_roles(store, reviewer, everybody, is_admin=is_admin)
    with history:
        _show_history(versions)


def _role_among(everybody: list[Person], reviewer: str) -> Role:
    if all(person.granted_by is None for person in everybody):
        return Role.ADMIN
    return next((person.role for person in everybody if person.reviewer == reviewer), Role.REVIEWER)


def _say_what_happened() -> None:
    said, went_well = st.session_state.pop(SAID, ("", True))
    if said and went_well:
        st.success("Done.", icon=":material/check:")
    elif said:
        st.error("Nothing was changed.", icon=":material/block:")
    if said:
        st.text(visible(said))


def _attempt(done: str, change: Callable[[], object]) -> None:
    """Do it, and tell on the page's next run what became of it."""
    try:
        change()
    except (UserError, StoreError) as error:
        st.session_state[SAID] = (str(error), False)
    else:
        st.session_state[SAID] = (done, True)


def _show_guideline(store: Store, reviewer: str, guideline: Guideline | None, *, is_admin: bool) -> None:
    left, right = st.columns([3, 1], gap="large")
    with left:
        if guideline is None:
            st.subheader("No guideline yet", anchor=False)
            st.text(
                "Write down what makes a sample good here, with examples: two people who go by the same words agree."
            )
        else:
            st.subheader(f"Version {guideline.number}", anchor=False)
            st.text(f"{visible(guideline.author)}, {guideline.created_at:%Y-%m-%d %H:%M} UTC")
            with st.container(border=True):
                st.text(visible(guideline.text))
    settings = guideline.settings if guideline else ReviewSettings()
    with right:
        st.subheader("Opinions", anchor=False)
        _show_settings(settings)
    if is_admin:
        _write_form(store, reviewer, guideline, settings)
    else:
        st.caption("Admins write the guideline; the tab Roles says who they are.")


def _show_settings(settings: ReviewSettings) -> None:
    st.metric("Second opinions, of each task", f"the first {settings.overlap_first:,}")
    st.metric("and of all others", f"{100 * settings.overlap_share:g} %")
    st.metric("Cards whose verdict is known", f"{100 * settings.gold_share:g} %")
    st.metric("Cards shown again", f"{100 * settings.repeat_share:g} %")


def _write_form(store: Store, reviewer: str, guideline: Guideline | None, settings: ReviewSettings) -> None:
    number = guideline.number if guideline else 0
    # A key for each version: after a new one the form begins with that.
    with (
        st.expander(f"Write version {number + 1}", icon=":material/edit:"),
        st.form(f"guideline {number}", border=False),
    ):
        st.text_area(
            "What reviewers go by (plain text)",
            guideline.text if guideline else "",
            key=f"text {number}",
            height=320,
            max_chars=LONGEST_TEXT,
        )
        columns = st.columns(4)
        with columns[0]:
            st.number_input(
                "Second opinions: first of each task",
                0,
                MOST_OVERLAPPING,
                settings.overlap_first,
                key=f"overlap_first {number}",
            )
        shares = {
            "overlap_share": "then % of the others",
            "gold_share": "% whose verdict is known",
            "repeat_share": "% shown again",
        }
        for column, (name, label) in zip(columns[1:], shares.items(), strict=True):
            with column:
                value = round(100 * getattr(settings, name), 2)
                st.number_input(label, 0.0, 100.0, value, 0.5, format="%g", key=f"{name} {number}")
        st.form_submit_button("Put it in force", type="primary", on_click=_write, args=(store, reviewer, number))


def _write(store: Store, reviewer: str, number: int) -> None:
    def form(name: str) -> float:
        return float(st.session_state[f"{name} {number}"])

    settings = ReviewSettings(
        overlap_first=int(form("overlap_first")),
        overlap_share=round(form("overlap_share") / 100, 6),
        gold_share=round(form("gold_share") / 100, 6),
        repeat_share=round(form("repeat_share") / 100, 6),
    )
    text: str = st.session_state[f"text {number}"]
    _attempt(
        f"Version {number + 1} is in force.",
        lambda: add_guideline(store, author=reviewer, text=text, settings=settings, after=number),
    )


def _show_reasons() -> None:
    st.caption("Reasons come from a closed list, so that they can be counted.")
    of_negatives = NEGATIVE_REASONS[Verdict.REJECT]
    codes = dict.fromkeys(code for reasons in REASONS.values() for code in reasons)
    rows = [
        {
            "reason": code,
            "means": MEANINGS.get(code, ""),
            "approve, reject": code in REASONS[Verdict.REJECT],
            "skip, flag": code in REASONS[Verdict.SKIP],
            "drop a negative": code in of_negatives,
        }
        for code in codes
    ]
    st.dataframe(rows, hide_index=True, height="content", width="content")


def _show_keys(store: Store, reviewer: str, keys: dict[str, str]) -> None:
    if not reviewer:
        st.caption("Give your name on the page Review first: keys are each reviewer's own.")
        return
    st.caption("One letter or sign for each action, or Space. R, C and the digits 1 to 9 stay as they are.")
    with st.form("keys", border=False, width=900):
        columns = st.columns(KEY_COLUMNS)
        for place, action in enumerate(actions()):
            with columns[place % KEY_COLUMNS]:
                st.text_input(
                    action.label, shown(keys.get(action.name, action.key)), key=f"key {action.name}", max_chars=5
                )
        with st.container(horizontal=True):
            st.form_submit_button("Keep these keys", type="primary", on_click=_keep, args=(store, reviewer))
            st.form_submit_button("Back to the usual ones", on_click=_reset, args=(store, reviewer))


def _keep(store: Store, reviewer: str) -> None:
    wanted = {action.name: st.session_state[f"key {action.name}"] for action in actions()}
    _attempt(
        "Your keys are kept; the card has them from its next page load.", lambda: keep_keys(store, reviewer, wanted)
    )


def _reset(store: Store, reviewer: str) -> None:
    def usual(action: Action) -> None:
        st.session_state[f"key {action.name}"] = shown(action.key)

    for action in actions():
        usual(action)
    _attempt("You have the usual keys again.", lambda: keep_keys(store, reviewer, {}))


def _show_roles(store: Store, reviewer: str, everybody: list[Person], *, is_admin: bool) -> None:
    if all(person.granted_by is None for person in everybody):
        st.info("Nobody has a role yet, so everybody may do everything. Make yourself an admin first.")
    rows = [
        {
            "reviewer": visible(person.reviewer),
            "role": person.role.value,
            "verdicts": person.num_verdicts,
            "granted by": visible(person.granted_by or ""),
            "since (UTC)": f"{person.since:%Y-%m-%d %H:%M}" if person.since else "",
        }
        for person in everybody
    ]
    if rows:
        st.dataframe(rows, hide_index=True, height="content" if len(rows) < 15 else 560, width="content")
    if not is_admin:
        st.caption("Admins grant roles.")
        return
    with st.form("role", width=600, clear_on_submit=False):
        st.selectbox(
            "Reviewer, or the name of a new one",
            [person.reviewer for person in everybody],
            index=None,
            format_func=visible,
            key="role of",
            accept_new_options=True,
            placeholder="",
        )
        st.segmented_control(
            "Role", [each.value for each in Role], key="role", default=Role.REVIEWER.value, required=True
        )
        st.form_submit_button("Grant", type="primary", on_click=_grant, args=(store, reviewer))


def _grant(store: Store, reviewer: str) -> None:
    name = visible(" ".join((st.session_state["role of"] or "").split()))
    role = Role(st.session_state["role"])
    _attempt(
        f"{name or 'Nobody'}: {role.value}.",
        lambda: grant_role(store, granted_by=reviewer, reviewer=name, role=role),
    )


def _show_history(versions: list[Guideline]) -> None:
    if not versions:
        st.caption("No version was written yet.")
    for newer, older in pairwise([*versions, None]):
        assert newer is not None
        with st.container(border=True):
            st.text(f"Version {newer.number}, {visible(newer.author)}, {newer.created_at:%Y-%m-%d %H:%M} UTC")
            st.caption(_settings_change(newer.settings, older.settings if older else None))
            if older is None:
                st.text(visible(newer.text))
            elif older.text == newer.text:
                st.caption("The text is the same.")
            else:
                st.html(CHANGES + f'<div class="skiff-changes">{changes(older.text, newer.text)}</div>')


def _settings_change(settings: ReviewSettings, before: ReviewSettings | None) -> str:
    told = {
        "first of each task": (settings.overlap_first, before and before.overlap_first),
        "then": (f"{100 * settings.overlap_share:g} %", before and f"{100 * before.overlap_share:g} %"),
        "known": (f"{100 * settings.gold_share:g} %", before and f"{100 * before.gold_share:g} %"),
        "again": (f"{100 * settings.repeat_share:g} %", before and f"{100 * before.repeat_share:g} %"),
    }
    parts = [
        f"{name} {now}" if before is None or now == was else f"{name} {was} → {now}"
        for name, (now, was) in told.items()
    ]
    return f"Second opinions: {', '.join(parts[:2])}. Cards: {', '.join(parts[2:])}."


def changes(before: str, after: str) -> str:
    """One text with what went and what came, as HTML in which every text is escaped."""
    gone, came = (list(reversed(each)) for each in difference(before, after))
    found: list[str] = []
    while gone or came:
        if gone and (gone[-1][1].startswith("del") or not came):
            found.append(_marked(gone.pop(), "del"))
        elif (
            not gone or came[-1][1].startswith("ins") or came[-1][1] == HIDDEN != gone[-1][1]
        ):  # which has no other kind
            found.append(_marked(came.pop(), "ins"))
        elif gone[-1][1] == HIDDEN != came[-1][1]:
            found.append(_marked(gone.pop(), "del"))
        else:
            found.append(_marked(_shared(gone, came), ""))
    return "".join(found)


def _shared(gone: Segments, came: Segments) -> tuple[str, str]:
    """Take what both begin with: each may go on where the other has a change."""
    (one, kind), (other, _) = gone.pop(), came.pop()
    length = min(len(one), len(other))
    gone += [(one[length:], kind)] if one[length:] else []
    came += [(other[length:], kind)] if other[length:] else []
    return one[:length], kind


def _marked(segment: tuple[str, str], element: str) -> str:
    text, kind = segment
    escaped = f"<code>{html.escape(text)}</code>" if kind == HIDDEN else html.escape(text)
    return f"<{element}>{escaped}</{element}>" if element else escaped

"""The Compare page: two releases, runs, prompt versions or models beside each other. docs/compare.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from review_app.agreement import Share
from review_app.compare_vote import show_vote
from review_app.dashboard_tables import table
from review_app.pair_view import show_pairs
from review_app.segments import visible
from synth.records import SkiffError, StoreError
from synth.stages.datasheet import shown_setting
from synth.stages.release_diff import Difference, compare_releases
from synth.stages.release_files import find_folder
from synth.store.comparing import (
    PAGE_SIZE,
    Figures,
    Histogram,
    Kind,
    Known,
    Side,
    figures,
    histograms,
    known_sides,
    num_pairs,
    pairs,
)
from synth.store.connection import Store

FRESH = 10.0  # seconds that the list of sides is kept
FOLDER = "releases"
NO_PAIRS = "There are no pairs: neither an edited sample that both releases have, nor two samples of one seed."
NO_PAIRS_OF_RELEASES = "There are no pairs: no sample has one revision in the one release and another in the other."
CHANGES = {
    "added": "only in B",
    "removed": "only in A",
    "changed": "edited",
    "negatives": "other negatives",
    "same": "the same",
}
SECTIONS = ("Numbers", "Pairs", "Blind vote")
CHARTS = {"hardness": "Hardness", "score": "Score of scored pairs"}


def show(store: Store, reviewer: str) -> None:
    """Two sides to choose, and what is asked of them."""
    try:
        known = {each.side.address: each for each in _known(store.path, store)}
        a, b = _choose(known)
        if a is None or b is None:
            _tell_known(known)
            return
        match _section():
            case "Pairs":
                _pairs(store, a, b)
            case "Blind vote":
                show_vote(store, reviewer, a, b)
            case _:
                _numbers(store, a, b)
    except StoreError as error:
        st.error("The store cannot be read now; reload the page in a moment.")
        st.text(visible(str(error)))


@st.cache_data(ttl=FRESH, show_spinner=False)
def _known(path: Path, _store: Store) -> list[Known]:
    return known_sides(_store)


def _choose(known: Mapping[str, Known]) -> tuple[Side | None, Side | None]:
    """Both sides, from the address or as they are chosen; the address keeps them."""
    columns = st.columns(2)
    found = []
    for letter, column in zip("ab", columns, strict=True):
        asked: str = st.query_params.get(letter) or st.session_state.get(f"side {letter} kept") or ""
        with column:
            address = st.selectbox(
                f"Side {letter.upper()}",
                list(known),
                index=list(known).index(asked) if asked in known else None,
                format_func=lambda each: _label(known[each]),
                placeholder="a release, a run, a prompt version or a model",
                key=f"side {letter}",
            )
            if asked and asked not in known and not address:
                st.error("The address names something that is not there; choose another.")
                st.text(visible(asked))
        if address:
            st.query_params[letter] = st.session_state[f"side {letter} kept"] = address
        found.append(known[address].side if address else None)
    return found[0], found[1]


def _section() -> str | None:
    return st.segmented_control(
        "Show",
        SECTIONS,
        key="show",
        default=SECTIONS[0],
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )


def _label(known: Known) -> str:
    """Another one for every side: Streamlit tells options apart by their labels."""
    name = known.side.name
    if known.side.kind is Kind.RUN:
        name = f"{known.what}, {known.since:%Y-%m-%d %H:%M:%S}, …{name[-4:]}"
    return f"{known.side.kind} {visible(name)} ({known.num_samples:,} samples)"


def _tell_known(known: Mapping[str, Known]) -> None:
    rows = [
        {
            "side, as in the address": each.side.address,
            "made by": each.what,
            "samples": each.num_samples,
            "since": f"{each.since:%Y-%m-%d %H:%M}",
        }
        for each in known.values()
    ]
    st.caption("Choose two of these." if rows else "")
    table(rows, "Sides", "The store has no samples yet: run `synth ingest` and `synth generate`.")


def _numbers(store: Store, a: Side, b: Side) -> None:
    one, other = figures(store, a, b)
    left, right = st.columns([5, 4])
    with left:
        rows = zip(_figures(one), _figures(other), strict=True)
        table([{"": name, "A": value, "B": value_b} for (name, value), (_, value_b) in rows], "Numbers")
        if Kind.RELEASE in (a.kind, b.kind):
            st.caption("A release holds what was approved: the share approved says little of it.")
    with right:
        if a.kind == b.kind == Kind.RELEASE:
            _difference(store, a, b)
        reasons = sorted(one.reasons.keys() | other.reasons, key=lambda each: (-_times(each, one, other), each))
        counted = [
            {"reason of rejection": each, "A": one.reasons.get(each, 0), "B": other.reasons.get(each, 0)}
            for each in reasons
        ]
        table(counted, "Reasons", "Nobody gave a reason for a rejection.")
    _charts(store, a, b)


def _times(reason: str, one: Figures, other: Figures) -> int:
    return one.reasons.get(reason, 0) + other.reasons.get(reason, 0)


def _figures(found: Figures) -> list[tuple[str, str]]:
    read = Share(found.read.num_approved, found.read.num_decided)
    few = f" ({read.note})" if read.note and read.total else ""
    return [
        ("samples", f"{found.num_samples:,}"),
        ("pending", f"{found.num_pending:,}"),
        ("approved", f"{found.num_approved:,}"),
        ("rejected", f"{found.num_rejected:,}"),
        ("disputed", f"{found.num_disputed:,}"),
        ("read by chance and decided", f"{read.total:,}{few}"),
        ("approved of these", "" if read.value is None else f"{100 * read.value:.0f} %"),
        ("95 % interval", _interval(read)),
        ("difficulty, 1 to 4", _mean(found.difficulty)),
        ("hardness", _mean(found.hardness)),
        ("triage priority", _mean(found.priority)),
    ]


def _interval(share: Share) -> str:
    return f"{100 * share.interval[0]:.0f} to {100 * share.interval[1]:.0f} %" if share.interval else ""


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:z.2f}"


def _difference(store: Store, a: Side, b: Side) -> None:
    """What `synth release diff` says."""
    folder = store.path.parent / FOLDER
    try:
        found = compare_releases(find_folder(a.name, folder), find_folder(b.name, folder), rows=False)
    except StoreError:
        raise
    except SkiffError as error:
        st.text(visible(str(error)))
        return
    table([{"from A to B": said, "samples": found.totals[change]} for change, said in CHANGES.items()], "Difference")
    table(_settings(found), "Settings", "Both were made by the same settings.")


def _settings(found: Difference) -> list[dict[str, Any]]:
    return [
        {"setting": name, "A": str(shown_setting(name, old)), "B": str(shown_setting(name, new))}
        for name, (old, new) in found.policy.items()
    ]


def _charts(store: Store, a: Side, b: Side) -> None:
    drawn = {name: each for name, each in histograms(store, a, b).items() if each.a}
    if not drawn:
        return
    for column, (name, histogram) in zip(st.columns(max(2, len(drawn))), drawn.items(), strict=False):
        with column:
            st.caption(f"{CHARTS[name]}, % of each side's samples that have one")
            _chart(histogram, CHARTS[name])


def _chart(histogram: Histogram, title: str) -> None:
    places = range(len(histogram.a))
    digits = 2 if histogram.width < 0.1 else 1
    begins = [f"{histogram.start + place * histogram.width:z.{digits}f}" for place in places]
    data = {title: begins, "A": _percentages(histogram.a), "B": _percentages(histogram.b)}
    alt = f"{title} of the samples of both sides"
    st.bar_chart(
        data,
        x=title,
        y=["A", "B"],
        x_label=f"{title}, from",
        y_label="%",
        color=["blue", "orange"],
        sort=False,
        stack="layered",
        height=260,
        alt=alt,
    )


def _percentages(counts: Sequence[int]) -> list[float]:
    return [100 * each / max(1, sum(counts)) for each in counts]


def _pairs(store: Store, a: Side, b: Side) -> None:
    number = num_pairs(store, a, b)
    if not number:
        st.caption(NO_PAIRS_OF_RELEASES if a.kind == b.kind == Kind.RELEASE else NO_PAIRS)
        return
    key = f"pairs of {a.address} and {b.address}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{number:,} pairs", width="content")
        st.caption("Red: only A has it. Green: only B. Framed: numbers, negations, names.", width="content")
        page = 1
        if number > PAGE_SIZE:
            st.space("stretch")
            page = st.pagination(-(-number // PAGE_SIZE), key=key, max_visible_pages=5)
    show_pairs(pairs(store, a, b, page or 1), key=f"shown {key}")

"""The Dashboard's sections on how far people agree, and how far judges agree with people."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from itertools import groupby

import streamlit as st

from review_app.agreement import FEW, FEWEST, PairAgreement, Share, Unanimity, pair_agreements, unanimity
from review_app.dashboard_tables import NARROWEST, cells, chart, figure, metrics, percent, table
from review_app.segments import visible
from synth.stages.judge.agreement import kappa
from synth.store.connection import Store
from synth.store.negative_figures import Judged, judged
from synth.store.opinion_figures import Day, Trust, days, opinions, trusts

GRADES = {0: "0 irrelevant", 1: "1 topical", 2: "2 partial", 3: "3 answers"}
MOST_JUDGES = 8


def show_people(store: Store) -> None:
    """Agreement of people with each other, with what is known, with themselves, and from day to day."""
    found = opinions(store)
    st.subheader("Verdicts of the first two people")
    _unanimity(unanimity((revision, approves) for revision, _, approves in found.verdicts), "verdicts", "approvals")
    pairs = pair_agreements(found.verdicts)
    enough = [pair for pair in pairs if pair.same.total >= FEWEST]
    table([_pair(pair) for pair in enough], "Pairs", f"No two reviewers have judged {FEWEST} revisions in common.")
    if len(pairs) > len(enough):
        st.caption(f"Pairs with {FEW} in common, left out: {len(pairs) - len(enough)}.")
    st.subheader("Grades of negatives")
    _unanimity(unanimity(found.grades, ordinal=True), "grades", "the commonest grade")
    st.subheader("What was known, and what was asked twice")
    table([_trust(each) for each in trusts(store)], "Trust", "Nobody has been shown gold or a repeat yet.")
    st.subheader("By day")
    _days(days(store))


def _unanimity(found: Unanimity, things: str, commonest: str) -> None:
    if not found.num_units:
        st.caption(f"Nothing has {things} of two people yet.")
        return
    metrics(
        {
            "Krippendorff's alpha": figure(found.alpha),
            "Judged by two": f"{found.num_units:,}",
            "The same": percent(found.same),
            f"Share of {commonest}": percent(found.commonest),
        }
    )
    if found.num_units < FEWEST:
        st.caption(f"These rest on {FEW}.")


def _pair(pair: PairAgreement) -> dict[str, object]:
    return {
        "reviewer": pair.reviewer,
        "other": pair.other,
        "in common": pair.same.total,
        "kappa": pair.kappa,
        **cells("same", pair.same),
        "share approved": round(100 * (pair.approved.value or 0), 1),
    }


def _trust(each: Trust) -> dict[str, object]:
    gold, repeats = Share(each.num_right, each.num_gold), Share(each.num_same, each.num_repeats)
    return {
        "reviewer": each.reviewer,
        "gold": each.num_gold,
        **cells("right", gold, interval="95 % of right"),
        "judged twice": each.num_repeats,
        **cells("same", repeats, interval="95 % of same"),
    }


def _days(found: Sequence[Day]) -> None:
    points = []
    for day, of_day in groupby(found, key=lambda each: each.day):
        rows = list(of_day)
        share = Share(sum(each.num_approved for each in rows), sum(each.num_random for each in rows))
        points.append((f"{day:%Y-%m-%d}", share))
    chart(points, "day", "% approved", alt="Share of approvals in the random part by day", as_line=True)
    table([_day(each) for each in reversed(found)], "Days", "Nobody has decided anything yet.")


def _day(each: Day) -> dict[str, date | object]:
    gold, fast = Share(each.num_right, each.num_gold), Share(each.num_fast, each.num_timed)
    return {
        "day": each.day,
        "reviewer": each.reviewer,
        "decisions": each.num_decisions,
        "of the random part": each.num_random,
        **cells("share approved", Share(each.num_approved, each.num_random)),
        "median_seconds": each.median_seconds,
        "fast_percent": None if fast.value is None else 100 * fast.value,
        "gold": ", ".join(filter(None, (percent(gold), gold.note))) if gold.total else "",
        "note": f"{FEW} decisions" if each.num_decisions < FEWEST else "",
    }


def show_judges(store: Store) -> None:
    """Of each judge what it said beside what people said without having looked at scores."""
    found = judged(store)
    if not found:
        st.caption("No judge has graded what people judged in the random part yet: `synth judge` asks one.")
        return
    st.caption("People's words in the random part, given without a look at scores.")
    judges = sorted({each.judge for each in found})
    for number, judge in enumerate(judges[:MOST_JUDGES], start=1):
        st.subheader(f"Judge {number}")
        st.text(visible(judge))
        grid = st.grid(2, min_column_width=NARROWEST, gap="medium")
        for is_positive in (True, False):
            rows = [each for each in found if each.judge == judge and each.is_positive == is_positive]
            if rows:
                with grid.cell():
                    _judge(rows, f"{number} {is_positive}", is_positive)
    if len(judges) > MOST_JUDGES:
        st.caption(f"{len(judges) - MOST_JUDGES} judges more: `synth judge --agreement` shows all.")


def _judge(rows: Sequence[Judged], key: str, is_positive: bool) -> None:
    leaves_out: Counter[tuple[bool, bool]] = Counter()
    for each in rows:
        objects = each.grade <= 1 if is_positive else each.grade >= 2
        leaves_out[objects, each.answers != is_positive] += each.number
    same = Share(leaves_out[True, True] + leaves_out[False, False], leaves_out.total())
    people = Share(leaves_out[True, True] + leaves_out[False, True], leaves_out.total())
    few = f" ({FEW})" if same.note else ""
    st.markdown("**Positives**" if is_positive else "**Negatives**")
    st.text(
        f"Cohen's kappa {figure(kappa(+leaves_out, weights=None))}; the same in {percent(same)}{few};"
        f" people leave out {percent(people)}"
    )
    yes, no = ("approved", "rejected") if is_positive else ("answers", "does not answer")
    by_grade = [(name, _answers([each for each in rows if each.grade == grade])) for grade, name in GRADES.items()]
    table(
        [
            {"grade": name, yes: share.num, no: share.total - share.num, **cells("answer", share)}
            for name, share in by_grade
        ],
        f"Judge {key}",
    )
    relevant = [each for each in rows if each.tenth is not None]
    if relevant:
        tenths = [
            (
                f"{tenth / 10:.1f} to {(tenth + 1) / 10:.1f}",
                _answers([each for each in relevant if each.tenth == tenth]),
            )
            for tenth in range(10)
        ]
        chart(tenths, "relevance", f"% {yes}", alt="What people find to answer, by relevance", as_line=True)
    else:
        chart(by_grade, "grade", f"% {yes}", alt="What people find to answer, by the judge's grade", as_line=True)


def _answers(rows: Sequence[Judged]) -> Share:
    return Share(sum(each.number for each in rows if each.answers), sum(each.number for each in rows))

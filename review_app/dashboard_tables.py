"""
Tables and charts of the dashboard. Headings and labels are our own words and numbers; whatever comes from the store
stands in cells, which are drawn as text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow
import streamlit as st

from review_app.agreement import FEW, FEWEST, Share
from review_app.segments import visible

PERCENTAGES = {"decided_percent": "decided"} | {
    name: name for name in ("share approved", "share false", "same", "right", "answer")
}
COLUMNS = {
    "per_hour": st.column_config.NumberColumn("decisions per hour", format="%d"),
    "mean_difficulty": st.column_config.NumberColumn("mean difficulty", format="%.1f"),
    "median_seconds": st.column_config.NumberColumn("median seconds", format="%.1f"),
    "fast_percent": st.column_config.NumberColumn("fast", format="%.0f%%"),
    "latest": st.column_config.DatetimeColumn("latest (UTC)", format="YYYY-MM-DD HH:mm"),
    "of_a": st.column_config.TextColumn("of a"),
    "kappa": st.column_config.NumberColumn("Cohen's kappa", format="%.2f"),
    **{
        name: st.column_config.ProgressColumn(heading, width=130, format="%.0f%%", min_value=0, max_value=100)
        for name, heading in PERCENTAGES.items()
    },
}
INK, STROKE = "#2391aa", "#8a97a3"  # both are told from a light and from a dark page
HEIGHT = 240  # pixels of a chart
NARROWEST = 560  # pixels of a table or a chart beside another
Points = Sequence[tuple[str, Share]]


def table(
    rows: Sequence[Mapping[str, Any]],
    key: str,
    if_empty: str = "",
    width: Literal["stretch", "content"] = "stretch",
) -> None:
    """Rows as a table, every text as it is but for hidden characters, which are named; `if_empty` if there are none."""
    if not rows:
        st.caption(if_empty)
        return
    shown = [{name: visible(each) if isinstance(each, str) else each for name, each in row.items()} for row in rows]
    st.dataframe(
        pyarrow.Table.from_pylist(shown),
        hide_index=True,
        width=width,
        height="content",
        column_config=COLUMNS,
        key=key,
        placeholder="",
    )


def cells(name: str, share: Share, *, interval: str = "95 % interval") -> dict[str, Any]:
    """A share as a percentage, and its interval with what has to be said of it, under a heading of its own."""
    if share.value is None or share.interval is None:
        return {name: None, interval: ""}
    ends = " to ".join(f"{100 * end:.0f}" for end in share.interval)
    return {name: round(100 * share.value, 1), interval: f"{share.note}: {ends} %" if share.note else f"{ends} %"}


def percent(share: Share) -> str:
    """A share in words, with what it rests on."""
    return "none yet" if share.value is None else f"{100 * share.value:.0f} % of {share.total:,}"


def figure(value: float | None) -> str:
    """A coefficient, which may have no value."""
    return "no value" if value is None else f"{value:z.2f}"


def metrics(values: Mapping[str, str]) -> None:
    """Figures in a row, by their labels."""
    with st.container(horizontal=True):
        for label, value in values.items():
            st.metric(label, value, border=True)


def chart(points: Points, x_label: str, y_label: str, *, alt: str, as_line: bool = False) -> None:
    """
    Percentages in their order, as bars or as a line, with the interval of each as a stroke. Those that rest on too
    little are left out, and it says so. Labels are our own words.
    """
    known = [point for point in points if point[1].total >= FEWEST]
    few = sum(0 < share.total < FEWEST for _, share in points)
    if known:
        st.echarts_chart(_drawn(known, x_label, y_label, "line" if as_line else "bar"), height=HEIGHT, alt=alt)
    if few:
        st.caption(f"Left out of the chart: {few} that rest on {FEW}.")


def _drawn(points: Points, x_label: str, y_label: str, kind: str) -> dict[str, Any]:
    ends = [[round(100 * end, 1) for end in share.interval or (0.0, 0.0)] for _, share in points]
    return {
        "grid": {"left": 4, "right": 8, "top": 32, "bottom": 24},
        "tooltip": {"valueFormatter": "%.1f %%"},
        "xAxis": {
            "type": "category",
            "data": [label for label, _ in points],
            "name": x_label,
            "nameLocation": "middle",
            "nameGap": 28,
        },
        "yAxis": {"type": "value", "min": 0, "name": y_label},
        "series": [
            {
                "type": kind,
                "data": [round(100 * (share.value or 0), 1) for _, share in points],
                "itemStyle": {"color": INK},
                "lineStyle": {"color": INK},
                "barMaxWidth": 48,
            },
            # A candlestick without a body is the one stroke from end to end that needs no code in the browser.
            {
                "type": "candlestick",
                "data": [[low, high, low, high] for low, high in ends],
                "barWidth": 2,
                "itemStyle": {"color": STROKE, "color0": STROKE, "borderColor": STROKE, "borderColor0": STROKE},
                "silent": True,
            },
        ],
    }

"""The map of the Explore page: samples as points, near where their vectors are alike."""

from collections import Counter
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow
import streamlit as st

from review_app.segments import visible
from synth.stages.nearest import Space, project
from synth.store.connection import Store
from synth.store.exploring import Filter, heads_of, kinds_of

COLOURS = ("source", "task", "status", "label")
MOST_COLOURS = 12  # the most frequent; the others share one
OTHERS = "others"


def draw_map(store: Store, kept: Filter, space: Space, height: int) -> UUID | None:
    """The map of what a filter keeps; returns the sample that was clicked."""
    colour = st.segmented_control(
        "Coloured by",
        COLOURS,
        default=COLOURS[0],
        required=True,
        key="colour",
        bind="query-params",
        label_visibility="collapsed",
    )
    rows, at_P2 = project(space, space.kept(heads_of(store, kept)["revision_id"].combine_chunks()))
    if not len(rows):
        st.text("None of the samples that the filters keep has a vector yet.")
        return None
    kinds = kinds_of(store, space.revision_ids.take(pyarrow.array(rows)), colour or COLOURS[0])
    groups = _groups(kinds)
    event = st.echarts_chart(
        _chart({name: at_P2[places] for name, places in groups.items()}),
        height=height - 56,
        on_select="rerun",
        key="map",
        alt="Samples on the two axes along which their vectors differ most",
    )
    for each in event.selection.selected:
        places = list(groups.values())[each["series_index"]]
        for index in each["data_indices"][-1:]:
            return space.heads([int(rows[places[index]])])[0].sample_id
    return None


def _groups(kinds: list[str]) -> dict[str, "np.ndarray[Any, np.dtype[np.intp]]"]:
    """The places of each kind, the most frequent first, the rare ones together; ties by name."""
    counted = sorted(Counter(kinds).items(), key=lambda pair: (-pair[1], pair[0]))
    frequent = {kind for kind, _ in counted[:MOST_COLOURS]}
    of_each = np.array([kind if kind in frequent else OTHERS for kind in kinds], dtype=object)
    names = [kind for kind, _ in counted[:MOST_COLOURS]] + ([OTHERS] if len(counted) > MOST_COLOURS else [])
    return {name: np.flatnonzero(of_each == name) for name in names}


def _chart(points: "dict[str, np.ndarray[Any, np.dtype[np.float32]]]") -> dict[str, Any]:
    """Of each group a data set and a series of its own, so that a click says which point of which series."""
    hidden = {part: {"show": False} for part in ("axisLabel", "axisLine", "axisTick", "splitLine")}
    axis = {"type": "value", "scale": True, **hidden}
    names = [f"{visible(name) or 'none'} ({len(at_P2):,})" for name, at_P2 in points.items()]
    return {
        "legend": {"type": "scroll", "top": 0},
        "grid": {"left": 8, "right": 8, "top": 34, "bottom": 8},
        "xAxis": axis,
        "yAxis": axis,
        "dataZoom": [{"type": "inside", "xAxisIndex": 0}, {"type": "inside", "yAxisIndex": 0}],
        "dataset": [{"source": pyarrow.table({"x": at_P2[:, 0], "y": at_P2[:, 1]})} for at_P2 in points.values()],
        "series": [
            {
                "type": "scatter",
                "name": name,
                "datasetIndex": number,
                "encode": {"x": "x", "y": "y"},
                "symbolSize": 5,
                "large": True,
                "largeThreshold": 5000,
                "selectedMode": "single",
                "itemStyle": {"opacity": 0.75},
                "select": {"itemStyle": {"borderWidth": 3, "opacity": 1}},
            }
            for number, name in enumerate(names)
        ],
    }

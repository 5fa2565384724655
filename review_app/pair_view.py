"""
Pairs of samples beside each other: a component that runs in the browser, and what Python sends it.

Texts go as segments and are drawn as text, never as HTML or Markdown. What both have is sent, and shown, once.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import zip_longest
from typing import Any

import streamlit as st

from review_app.differences import difference
from review_app.segments import segments, visible
from synth.records import Classification, Content, Retrieval, Sts
from synth.store.comparing import Pair

SCRIPTS = ("drawing.js", "pairs.js")  # one module: a component's script cannot import another
HEADINGS = ("A", "B")
BLIND_HEADINGS = ("Left", "Right")


def _asset(name: str) -> str:
    return files("review_app").joinpath(name).read_text(encoding="utf-8")


_mount = st.components.v2.component(
    "skiff_pairs",
    html='<section class="pairs"></section>',
    css=_asset("pairs.css"),
    js="\n".join(_asset(name) for name in SCRIPTS),
)


def show_pairs(pairs: Sequence[Pair], key: str) -> None:
    """Pairs, one below the other, with what differs marked word by word."""
    made = [{"from": f"{visible(pair.a.source)} · {visible(pair.a.operation)}", **_parts(pair)} for pair in pairs]
    _mount(key=key, data={"headings": HEADINGS, "pairs": made})


def show_blind(pair: Pair, key: str) -> None:
    """One pair, `a` on the left, without a mark or a word that would say which is which, or which one came first."""
    _mount(key=key, data={"headings": BLIND_HEADINGS, "pairs": [{"from": "", **_parts(pair, is_blind=True)}]})


def _parts(pair: Pair, *, is_blind: bool = False) -> dict[str, Any]:
    """Field by field: `both` if the two say the same, else `sides`."""
    made: list[Mapping[str, Any]] = []
    fields = zip_longest(_fields(pair.a.content), _fields(pair.b.content))
    for one, other in fields:
        name, left = one or (other[0], "")
        right = other[1] if other else ""
        if left == right:
            made += [{"name": name, "both": segments(left)}] if left else []
        else:
            sides = (segments(left), segments(right)) if is_blind else difference(left, right)
            made.append({"name": name, "sides": sides})
    return {"parts": made}


def _fields(content: Content) -> Iterator[tuple[str, str]]:
    """By our own names. Two samples of a task have the same ones, but for the number of positives, which come last."""
    yield "Instruction", content.instruction
    match content:
        case Retrieval():
            yield "Query", content.query
            yield from (("Positive", each) for each in content.positives)
        case Sts():
            yield from (("Text 1", content.text1), ("Text 2", content.text2), ("Score", f"{content.score:g}"))
        case Classification():
            yield from (("Text", content.text), ("Label", content.label))

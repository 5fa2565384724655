"""The SQL page: one statement that reads, in a process of its own, and its result as data."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow
import streamlit as st

from review_app.segments import visible
from synth.records import SkiffError, UserError
from synth.store.connection import Store
from synth.store.console import query_apart, rows_of, write_result

TIMEOUT = 10.0  # seconds
SHOWN_ROWS, SHOWN_COLUMNS = 1000, 200
LONGEST_TROUBLE = 2000  # characters: DuckDB repeats a statement of any length
QUESTION = re.compile(r"^### \d+\. (.*?)$.*?```sql\n(.*?)```", re.MULTILINE | re.DOTALL)
BEGIN = "SELECT source, status, count(*) AS n\nFROM statuses WHERE declared_use = 'train' GROUP BY ALL ORDER BY ALL"
# Signs that nothing hides in: a thousand long texts are looked through by the millisecond.
PLAIN = re.compile(
    r"[\n\t -~\u00a1-\u00ac\u00ae-\u02ff\u0386-\u0482\u2010-\u2027\u3001-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff5e]"
    "{0,20000}"
)
STATEMENT, START, RESULT = "statement", "start from", "sql result"
TABLE_HEIGHT = 480


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a statement: a result, or why there is none."""

    result: pyarrow.Table | None = None
    trouble: str = ""


@cache
def questions() -> Mapping[str, str]:
    """The questions of docs/sql.md, which the package carries as cookbook.md, and the statement that answers each."""
    page = files("review_app").joinpath("cookbook.md").read_text(encoding="utf-8")
    return {question: sql.strip() for question, sql in QUESTION.findall(page)}


def show(store: Store, reviewer: str) -> None:
    """A statement, and what it gives."""
    st.session_state.setdefault(STATEMENT, st.session_state.get(f"{STATEMENT} kept", BEGIN))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Start from a question",
            list(questions()),
            index=None,
            key=START,
            on_change=_start,
            width=560,
            placeholder="…",
        )
        st.caption("Views and columns are told in docs/sql.md. Nothing can be written, and no file can be read.")
    with st.form("sql", border=False):
        sql = st.text_area("One statement that reads", key=STATEMENT, height=168)
        submitted = st.form_submit_button("Run", type="primary", help="Ctrl+Enter in the statement does the same")
    st.session_state[f"{STATEMENT} kept"] = sql
    if submitted:
        with st.spinner(f"Asking, for {TIMEOUT:g} seconds at most …"):
            st.session_state[RESULT] = ask(store, sql or "")
    answer = st.session_state.get(RESULT)
    if answer is not None:
        _show(answer)


def _start() -> None:
    """Put the chosen question's statement into the text area."""
    if sql := questions().get(st.session_state[START] or ""):
        st.session_state[STATEMENT] = sql


def ask(store: Store, sql: str) -> Answer:
    """Run a statement apart. What it may not do, or takes too long for, is told."""
    try:
        return Answer(query_apart(store, sql, timeout=TIMEOUT))
    except SkiffError as error:
        return Answer(
            trouble=str(error).replace(" (`synth sql --timeout` allows more)", "; `synth sql --timeout` allows more")
        )


def _show(answer: Answer) -> None:
    if answer.result is None:
        st.error("There is no result.")
        st.text(visible(answer.trouble[:LONGEST_TROUBLE]))
        return
    result = answer.result
    with st.container(horizontal=True, vertical_alignment="center"):
        number = f"{result.num_rows:,} rows" if result.num_rows != 1 else "1 row"
        cut = f", of which these are the first {SHOWN_ROWS:,}" if result.num_rows > SHOWN_ROWS else ""
        if result.num_columns > SHOWN_COLUMNS:
            cut += f"; {result.num_columns:,} columns, of which these are the first {SHOWN_COLUMNS}"
        st.text(f"{number}{cut}", width="content")
        st.space("stretch")
        _offer_files(result)
    shown = on_screen(result)
    st.dataframe(
        shown, hide_index=True, height="auto" if shown.num_rows < 12 else TABLE_HEIGHT, placeholder="NULL", alt="Result"
    )


def _offer_files(result: pyarrow.Table) -> None:
    for label, output_format, mime, trouble in (
        ("Save as CSV", "csv", "text/csv", ""),
        ("Save as Parquet", "parquet", "application/vnd.apache.parquet", no_parquet(result)),
    ):
        st.download_button(
            label,
            data=partial(as_file, result, output_format),
            file_name=f"result.{output_format}",
            mime=mime,
            on_click="ignore",
            icon=":material/download:",
            disabled=bool(trouble),
            help=trouble or None,
        )


def no_parquet(result: pyarrow.Table) -> str:
    """Why a result cannot be saved as Parquet; nothing if it can. Types alone decide it."""
    try:
        as_file(result.schema.empty_table(), "parquet")
    except UserError:
        return "Parquet has no room for one of the types (INTERVAL?): cast it to VARCHAR."
    return ""


def on_screen(result: pyarrow.Table) -> pyarrow.Table:
    """
    The first rows and columns as Streamlit draws them: numbers and truths as they are, all else as text with hidden
    characters named.
    """
    first = result.slice(0, SHOWN_ROWS).select(range(min(result.num_columns, SHOWN_COLUMNS)))
    rows = rows_of(first)
    columns = []
    for name, column in zip(first.column_names, first.columns, strict=True):
        if _is_number(column.type):
            columns.append(column)
        else:
            texts = [None if row[name] is None else _shown(row[name]) for row in rows]
            columns.append(pyarrow.array(texts, pyarrow.string()))
    return pyarrow.table(columns, names=_distinct([visible(name) for name in first.column_names]))


def _shown(value: Any) -> str:
    """A value as text, what is made of several ones as JSON."""
    is_made = isinstance(value, (list, dict))
    text = json.dumps(value, ensure_ascii=False, default=str) if is_made else str(value)
    return text if PLAIN.fullmatch(text) else visible(text)


def _distinct(names: list[str]) -> list[str]:
    """Names that were told apart by more than is visible still are."""
    return [name if name not in names[:place] else f"{name} ({place + 1})" for place, name in enumerate(names)]


def _is_number(kind: Any) -> bool:
    types = pyarrow.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)  # type: ignore[no-any-return]


def as_file(result: pyarrow.Table, output_format: str) -> bytes:
    """All of a result as `synth sql --output` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"result.{output_format}"
        write_result(result, output_format, path)
        return path.read_bytes()

"""synth.stages.documents on the bundled documents, on small ones, and on hostile ones."""

from pathlib import Path

import pytest

from synth.records import UserError
from synth.stages.documents import Cut, count_units, cut_document, decode_document

DOCUMENTS = sorted((Path(__file__).parents[3] / "data" / "sample" / "documents").glob("*/*"))
LONG = "One sentence follows another here and says a little more each time. " * 3  # 36 words: no tiny section


def cut(text: str, suffix: str = ".md", max_units: int = 200) -> list[Cut]:
    return cut_document(text, suffix=suffix, max_units=max_units)


def body(text: str, suffix: str = ".md") -> str:
    return "\n".join(passage.body for passage in cut(text, suffix))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_real_documents_become_titled_passages_of_plain_text(path: Path) -> None:
    passages = cut(path.read_text(encoding="utf-8"), path.suffix)
    assert passages
    for passage in passages:
        assert passage.title
        assert 0 < count_units(passage.body) <= 200
        for remnant in (
            "![",
            "](",
            ":ref:",
            ":term:",
            ":file:",
            "System Message",
            "Unknown interpreted",
            "{{<",
            ".. _",
        ):
            assert remnant not in passage.title + passage.body


def test_real_documents_lose_no_word_of_their_prose() -> None:
    path = next(path for path in DOCUMENTS if "slow-query" in path.name)
    passages = cut(path.read_text(encoding="utf-8"))
    assert passages[0].title == "TiDB Dashboard 慢查询页面"
    assert "该页面上能检索和查看集群中所有慢查询。" in passages[0].body
    assert "TiDB Dashboard 慢查询页面 > 访问列表页面 > 导出慢查询到本地" in [passage.title for passage in passages]
    assert all("tidb_stmt_summary_max_sql_length" not in passage.title for passage in passages)


def test_headings_lead_to_passages_as_a_path() -> None:
    passages = cut(f"# Boats\n\n{LONG}\n\n## Skiffs\n\n{LONG}\n\n### Oars\n\n{LONG}\n\n## Rafts\n\n{LONG}")
    assert [passage.title for passage in passages] == [
        "Boats",
        "Boats > Skiffs",
        "Boats > Skiffs > Oars",
        "Boats > Rafts",
    ]


def test_a_heading_that_repeats_the_one_above_it_is_named_once() -> None:
    assert [passage.title for passage in cut(f"# Boats\n\n## Boats\n\n{LONG}")] == ["Boats"]


def test_a_heading_as_long_as_a_paragraph_is_text() -> None:
    assert [passage.title for passage in cut(f"# {LONG * 2}\n\nMore.")] == [""]


def test_a_short_introduction_joins_the_first_section_below_it() -> None:
    passages = cut(f"# Boats\n\n## Skiffs\n\nThree sorts.\n\n### Oars\n\n{LONG}\n\n### Sails\n\n{LONG}")
    assert [passage.title for passage in passages] == ["Boats > Skiffs > Oars", "Boats > Skiffs > Sails"]
    assert passages[0].body.startswith("Three sorts.\nOne sentence")


def test_short_neighbours_under_one_heading_become_one_passage() -> None:
    passages = cut("# Boats\n\n## Oar\n\nWooden.\n\n## Sail\n\nLinen.\n\n## Rudder\n\nIron.")
    assert passages == [Cut("Boats", "Oar\nWooden.\nSail\nLinen.\nRudder\nIron.")]


@pytest.mark.parametrize("suffix", [".md", ".rst", ".txt"])
def test_long_texts_are_cut_evenly_and_nothing_is_lost(suffix: str) -> None:
    words = [f"word{number}" for number in range(950)]
    text = "\n\n".join(" ".join(words[start : start + 19]) + "." for start in range(0, 950, 19))
    passages = cut(text, suffix, max_units=100)
    lengths = [count_units(passage.body) for passage in passages]
    assert max(lengths) <= 100
    assert min(lengths) > 50
    assert " ".join(passage.body for passage in passages).replace(".", "").split() == words


@pytest.mark.parametrize(
    "text", ["甲" * 1000, "甲乙丙丁。" * 200, "x" * 30_000, "x y " * 3000, "line\n" * 2000, "A sentence. " * 900]
)
def test_a_paragraph_longer_than_a_passage_is_cut_within(text: str) -> None:
    passages = cut(text, ".txt", max_units=150)
    assert all(0 < count_units(passage.body) <= 150 for passage in passages)
    joined = "".join(passage.body for passage in passages)
    assert sorted(joined.replace(" ", "").replace("\n", "")) == sorted(text.replace(" ", "").replace("\n", ""))


def test_markdown_becomes_plain_text() -> None:
    text = (
        '---\ntitle: x\nsummary: y\n---\n\n# The *title* `code`{#anchor}\n\nSee [the **link**](http://x.y "t") and '
        "![image](a.png) <b>bold</b>\nnext line<br>end.\n\n- one\n- two\n\n  more of two\n\n1. first\n2. second\n\n"
        "```python\ndef f():\n    return 1\n```\n\n| a | b |\n|---|---|\n| 1 | `2` |\n\n> **Note:**\n>\n> Quoted.\n\n"
        '<div class="x"><p>Kept text</p><!-- gone --><script>gone()</script></div>\n\n{{< copyable "" >}}\n'
    )
    assert cut(text) == [
        Cut(
            "The title code",
            "See the link and bold next line end.\n- one\n- two\nmore of two\n1. first\n2. second\n"
            "def f():\n    return 1\na | b\n1 | 2\nNote:\nQuoted.\nKept text",
        )
    ]


def test_chinese_lines_are_joined_without_a_space() -> None:
    assert body("轻舟\n已过，\n万重山 and\nmore") == "轻舟已过，万重山 and more"


def test_restructuredtext_becomes_plain_text() -> None:
    text = (
        "Title\n=====\n\nSee :ref:`the guide <target>`, :term:`wheel`, :file:`a.py`, :pep:`438`, :py:func:`~os.walk`, "
        "``code`` and `a link <http://x>`_. [#]_\n\n.. [#] A footnote.\n\n.. note:: Mind this.\n\n"
        ".. tab:: Unix\n\n   Run it:\n\n   .. code-block:: bash\n\n      ls -l\n\n"
        ".. versionadded:: 1.2\n   New words.\n\n.. toctree::\n   :maxdepth: 1\n\n   hidden/page\n\n"
        "term\n   Its definition.\n\n#. one\n#. two\n\n"
        ".. image:: x.png\n\n.. custom:: arg\n   :option: gone\n\n   Body.\n"
    )
    assert cut(text, ".rst") == [
        Cut(
            "Title",
            "See the guide, wheel, a.py, PEP 438, os.walk, code and a link.\nA footnote.\nMind this.\nUnix\nRun it:\n"
            "ls -l\n1.2\nNew words.\nterm: Its definition.\n1. one\n2. two\narg\nBody.",
        )
    ]


def test_tables_of_restructuredtext_become_rows() -> None:
    text = "+-----+-----+\n| a   | b c |\n+=====+=====+\n| ``1`` | 2   |\n+-----+-----+\n".replace("``1`` ", "``1``")
    grid = "+-------+-----+\n| a     | b c |\n+=======+=====+\n| ``1`` | 2   |\n+-------+-----+\n"
    assert body(grid, ".rst") == "a | b c\n1 | 2"
    assert "b c" in body(text, ".rst")  # malformed: kept as it stands


@pytest.mark.parametrize(
    "directive",
    [
        ".. include:: {secret}",
        ".. include:: {secret}\n   :literal:",
        ".. literalinclude:: {secret}",
        ".. raw:: html\n   :file: {secret}",
        ".. csv-table::\n   :file: {secret}",
        ".. note::\n\n   .. include:: {secret}",
        ".. tab:: x\n\n   .. include:: {secret}",
        ".. |x| include:: {secret}\n\n|x|",
    ],
)
def test_no_document_reads_a_file(directive: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not tell")
    for suffix in (".rst", ".md"):
        assert "do not tell" not in str(cut(directive.format(secret=secret), suffix))
    assert capfd.readouterr() == ("", "")


def test_raw_html_does_not_come_out_of_restructuredtext() -> None:
    role = ".. role:: bad(raw)\n   :format: html\n\n:bad:`<b>x</b>`"
    text = f".. raw:: html\n\n   <script>alert(1)</script>\n\n{role}\n\nEnd."
    assert "script" not in body(text, ".rst")
    assert body(text, ".rst").endswith("End.")


SIZE = 300_000
HOSTILE = {
    "brackets": "[" * SIZE,
    "closed brackets": "[" * (SIZE // 2) + "]" * (SIZE // 2),
    "bracket lines": "[\n" * (SIZE // 2),
    "quotes": "> " * (SIZE // 2),
    "quote lines": "".join(">" * min(n, 200) + " a\n" for n in range(5000)),
    "emphasis lines": "*a\n" * (SIZE // 3),
    "emphasis paragraphs": ("*a\n" * 300 + "\n") * (SIZE // 901),
    "backticks": "".join("`" * (n % 80) + "a\n\n" for n in range(8_000)),
    "indents": "".join(" " * n + "a\n\n" for n in range(1000)),
    "directives": "".join("   " * n + ".. x::\n\n" for n in range(300)),
    "comments": "<!--" * (SIZE // 4),
    "comment lines": "<!--\n\n" * (SIZE // 6),
    "table": "|a|b|\n|-|-|\n" + "|\n" * (SIZE // 2),
    "front matter": "---\n" * (SIZE // 4),
    "headings": "# a\n\n" * (SIZE // 5),
    "sections": "".join(f"a\n{'=-~^#'[n % 5]}\n\n" for n in range(8_000)),
    "substitutions": "".join(f".. |{n}| replace:: |{n + 1}| |{n + 1}|\n" for n in range(60)) + "\n|0|\n",
    "shortcodes": "{{<" * (SIZE // 3),
    "tags": "<" * SIZE,
    "end tags": "</" * (SIZE // 2),
    "instructions": "<?" * (SIZE // 2),
    "attributes": "<a b='" * (SIZE // 6),
    "scripts": "<script></scrip" * (SIZE // 15),
    "lists": "<ul><li>" * (SIZE // 8),
    "entity": "&#" + "9" * SIZE,
    "spaces": " " * SIZE,
    "blank lines": "\n" * SIZE,
}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".md", ".rst", ".txt", ".html"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_built_to_stall_a_parser_is_cut_all_the_same(name: str, suffix: str) -> None:
    passages = cut(HOSTILE[name], suffix)
    assert all(count_units(passage.body) <= 200 for passage in passages)


@pytest.mark.parametrize("suffix", [".md", ".rst", ".txt", ".MD", ".html"])
@pytest.mark.parametrize("text", ["", " \n\t\n", "\ufeff", "\x00\x01", "![](x.png)", "---\ntitle: x\n---\n"])
def test_a_document_without_text_gives_few_or_no_passages_and_no_error(text: str, suffix: str) -> None:
    assert all(passage.body.strip() for passage in cut(text, suffix))


def test_control_characters_and_lone_surrogates_are_dropped() -> None:
    assert body("a\x00b\x1b[31m\ud800c", ".txt") == "ab[31mc"


def test_a_kind_of_document_that_cannot_be_read_is_named() -> None:
    with pytest.raises(
        UserError, match=r"'\.pdf' cannot be read: use one of \.md, \.markdown, \.rst, \.html, \.htm, \.txt"
    ):
        cut("x", ".pdf")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("轻舟".encode(), "轻舟"),
        ("轻舟".encode("utf-8-sig"), "轻舟"),
        ("轻舟".encode("utf-16"), "轻舟"),
        ("轻舟".encode("gb18030"), None),
        (b"\x89PNG\r\n\x1a\n\x00", None),
        (b"a\x00b", None),
        (b"", ""),
    ],
)
def test_files_are_decoded_or_refused(data: bytes, text: str | None) -> None:
    assert decode_document(data) == text


def test_a_web_page_becomes_plain_text_under_its_headings() -> None:
    page = (
        "<!DOCTYPE html><html><head><title>Boats &amp; more</title><style>p {color: red}</style></head><body>"
        '<nav><a href="/">Home</a></nav><!-- gone --><p class="a > b">An <b>introduction</b>\nof&nbsp;boats.</p>'
        "<h2>Skiffs</h2><p>Small,<br>flat &#x8239;.<ul><li>oars<li>a sail</ul><ol><li>row<li>rest</ol>"
        "<pre>if wind:\n    sail()</pre><table><tr><th>length<th>crew<tr><td>4 m</td><td>1</td></table>"
        "<script>document.write('<p>gone</p>')</script><button>gone</button>1 < 2</body></html>"
    )
    assert cut(page, ".html") == [
        Cut(
            "Boats & more > Skiffs",
            "An introduction of boats.\nSmall, flat 船.\n- oars\n- a sail\n1. row\n2. rest\n"
            "if wind:\n    sail()\nlength | crew\n4 m | 1\n1 < 2",
        )
    ]


def test_what_a_web_page_does_not_close_ends_with_it() -> None:
    assert body("<p>kept<script>gone", ".html") == "kept"
    assert body("<p>kept<!-- gone", ".html") == "kept"
    assert body("<p>kept<a href='gone", ".html") == "kept"
    assert body("</nav></p></ul>kept", ".html") == "kept"
    assert body("<nav><nav>gone</nav>gone</nav>kept", ".html") == "kept"


def test_an_entity_that_no_computer_can_hold_stays_as_it_is() -> None:
    number = f"&#{'9' * 5000};"
    assert number in body(f"<p>{number}</p>", ".html").replace("\n", "")
    assert cut(f"<div>{number}</div>", ".md")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('<meta charset="gb18030"><p>轻舟'.encode("gb18030"), '<meta charset="gb18030"><p>轻舟'),
        (b"<meta charset=latin-1>d\xe9j\xe0", "<meta charset=latin-1>déjà"),
        (b"<meta charset=rot13>d\xe9j\xe0", None),
        (b"<meta charset=nonsense>d\xe9j\xe0", None),
        (b"<p>d\xe9j\xe0", None),
    ],
)
def test_a_web_page_may_declare_its_encoding(data: bytes, text: str | None) -> None:
    assert decode_document(data, suffix=".html") == text

"""Pictures: what they show, in every format, and that no name in them is obeyed."""

from pathlib import Path

import pytest

from trainer.compare import Change
from trainer.figures import draw_changes, draw_curve, draw_panels
from trainer.metrics import Interval

HOSTILE = "a $\\frac{1}{0}$ <b>&\x1b[31m 中文"


def change(name: str) -> Change:
    return Change(name, "nDCG@10", 5, 0.4, 0.5, 0.1, Interval(0.3, 0.5), Interval(0.4, 0.6), Interval(0.0, 0.2), 3, 1)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_every_picture_is_written_in_every_format_and_twice_the_same(tmp_path: Path, kind: str):
    contents = []
    for number in range(2):
        path = tmp_path / f"{number}.{kind}"
        draw_changes(path, [change("one"), change("two")], "before", "after")
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] and len(contents[0]) > 5000
    draw_curve(tmp_path / f"curve.{kind}", {"one": [(0, [0.1]), (10, [0.2, 0.4])]}, "samples")
    draw_panels(tmp_path / f"panels.{kind}", ["first", "second"], {f"set {n}": [[0.1], [0.2, 0.3]] for n in range(4)})
    assert all((tmp_path / f"{name}.{kind}").stat().st_size > 5000 for name in ("curve", "panels"))


def test_names_are_drawn_as_text(tmp_path: Path):
    draw_changes(tmp_path / "a.svg", [change(HOSTILE)], "before $x", "after <script>")
    drawn = (tmp_path / "a.svg").read_text()
    assert "a $\\frac{1}{0}$ &lt;b&gt;&amp;\\x1b[31m 中文  nDCG@10" in drawn
    assert "<script>" not in drawn and "before $x" in drawn

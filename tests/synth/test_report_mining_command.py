"""`synth report` of a mine run as people use it: on a screen of any width, as JSON, and as a page in a file."""

import json
import re
import unicodedata
from html import escape
from pathlib import Path
from uuid import UUID

import pytest

from synth.records import FoundBy, Negative, UserError, text_id
from synth.screen import printable
from synth.stages.report.mining import mining_report_of
from synth.store import minings, runs
from synth.store.made import Finished
from synth.store.sources import NewPassage, add_passages
from synth.workspace import Workspace
from tests.synth.conftest import Run
from tests.synth.stages.mining_runs import (
    BIRDS,
    BOATS,
    CONFIG,
    PASSAGES,
    a_mine_run,
    asked,
    graded,
    mined,
    negative,
    with_corpora,
)
from tests.synth.stages.reporting import HOSTILE, a_run, passage, with_sources

REASON = "21 of 21 candidates of ranks 10-30 score at or above the cap"


@pytest.fixture
def run_id(workspace: Workspace) -> UUID:
    """A mine run of samples of two sources."""
    with_corpora(workspace.store)
    one, two = asked(workspace.store, "who rows?", "who sails?")
    [bird] = asked(workspace.store, "who flies?", source=BIRDS)
    dense = FoundBy("dense", 3, 0.5)
    near = negative(
        one, 10, 0.25, miners=(dense, FoundBy("bm25", 1200, 9.5)), flags=("near_positive",), positive_similarity=0.97
    )
    relaxed = negative(
        one, 11, flags=("near_duplicate", "above_reranker"), overlap=0.86, relevance=0.91, positive_relevance=0.88,
        relaxed=("cap",),
    )  # fmt: skip
    fell = [(rank, 0.9, "above_window") for rank in range(8)]
    return a_mine_run(
        workspace.store,
        mined(one, near, relaxed, fallen={"capped": 1234, "above_window": 9}),
        mined(two, negative(two, 40), status="widened", positive_rank=51),
        mined(bird, status="none", reason=REASON, fallen={"capped": 60}, candidates=fell),
    )


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))


def rows_of(out: str) -> list[str]:
    """Lines without what aligns them."""
    return [" ".join(line.split()) for line in out.splitlines()]


def test_the_run_its_settings_its_steps_and_its_outcome_are_told(synth: Run, run_id: UUID) -> None:
    code, out, _ = synth("report")
    rows = rows_of(out)
    assert code == 0 and re.fullmatch(rf"mine {run_id}: done in \d+\.\d s", rows[0])
    assert rows[1:3] == ["small on cpu in bf16", "settings: the defaults"]
    assert re.fullmatch(r"encode queries: 3 in \d+\.\d s; peak memory 90 MB", rows[3])
    assert "3 samples: 1 full, 1 widened, 1 none; 3 negatives" in rows
    assert "birds 1 0 0 0 1 0" in rows and "boats 2 1 1 0 0 3" in rows
    assert "180 candidates (60 a sample), and why they fell" in rows
    assert "all at or above the cap 1294 431.3" in rows and "boats nearer than the window 9 4.5" in rows


def test_samples_with_too_few_negatives_and_positives_deep_down_are_shown(synth: Run, run_id: UUID) -> None:
    rows = rows_of(synth("report")[1])
    assert "1 sample (33.3%) got fewer negatives than the 4 that were asked for (N is any number):" in rows
    assert "1: N of N candidates of ranks N-N score at or above the cap" in rows and REASON in rows
    fell = [row for row in rows if re.match(r"rank \d, score 0\.90: nearer than the window", row)]
    assert len(fell) == 3 and fell[0] == f"rank 0, score 0.90: nearer than the window {PASSAGES[0]}"
    assert "positives: median rank 1; 1 of 3 (33.3%) have a rank above 50" in rows
    assert any(re.fullmatch(r"-- sample \S+: rank 51 of 60, score 0\.75", row) for row in rows)
    assert "query: who sails? positive: The answer to who sails?" in rows


def test_scores_are_drawn_as_bars_and_flags_are_told_in_words(synth: Run, run_id: UUID) -> None:
    rows = rows_of(synth("report")[1])
    assert "positive 3 0.75 0.75 0.75" in rows and "bm25 and dense 1 0 (0.0%) 0.25 0.25 0.25" in rows
    assert "negatives, mined, 2: median 0.50, 0.50 to 0.50" in rows
    assert any(re.fullmatch(r"0\.[0-9]+ to 0\.[0-9]+ █+ 3", row) for row in rows)
    assert "2 of 3 negatives (66.7%) are flagged: `synth review --queue flagged` shows them to people" in rows
    assert "near a positive 1 33.3%" in rows and "at or above the cap, for want of others 1 33.3%" in rows
    [first] = [row for row in rows if row.startswith("negative, rank 10, score 0.25; dense")]
    assert first.endswith(PASSAGES[10])


def test_false_negatives_are_told_by_rank_or_how_to_learn_of_them(
    synth: Run, workspace: Workspace, run_id: UUID
) -> None:
    assert "nobody judged them yet. `synth judge --limit 200` has an LLM grade" in synth("report")[1]
    [sample] = [each for each in minings.minable(workspace.store, UUID(int=1)) if each.query == "who rows?"]
    graded(workspace.store, sample, (10, 2), (11, 0), judge="big")
    out = synth("report")[1]
    rows = rows_of(out)
    title = "false negatives by rank in the list of dense, in the eyes of judge big"
    assert title in rows and "nobody judged" not in out
    assert "6 to 10 1 1 1 100.0% 20.7% to 100.0%" in rows and "31 to 50 1 0 0" in rows
    assert "all 3 2 1 50.0% 9.5% to 90.5%" in rows


def test_an_earlier_mining_of_the_same_samples_is_held_against_it(
    synth: Run, workspace: Workspace, run_id: UUID
) -> None:
    assert "mined before" not in synth("report")[1]
    samples = {each.query: each for each in minings.minable(workspace.store, UUID(int=1))}
    one = samples["who rows?"]
    a_mine_run(
        workspace.store,
        mined(one, negative(one, 7, 0.5, of=10), negative(one, 12), positive_rank=2),
        encoder="trained",
        config={**CONFIG, "encoder": "trained", "rank_min": 5},
    )
    rows = rows_of(synth("report")[1])
    assert f"mined before by small (run {run_id}): 1 of these samples" in rows
    assert "settings that are not the default: rank min 5" in rows
    assert "settings that differ: encoder small before, trained now; rank min 10 before, 5 now" in rows
    kept = "of 2 negatives before, 1 (50.0%) were found now as well: 1 nearer by rank, 0 farther, 0 at the same rank"
    assert kept in rows and "mean rank of the positive 1.0 2.0" in rows
    assert "mean distance below the positive 0.375 0.250" in rows
    assert "the scores of two encoders are on two scales: compare distances within one, not scores" in rows


def test_a_mining_of_the_same_settings_by_other_weights_is_said_to_be_one(
    synth: Run, workspace: Workspace, run_id: UUID
) -> None:
    samples = {each.query: each for each in minings.minable(workspace.store, UUID(int=1))}
    a_mine_run(workspace.store, mined(samples["who rows?"]), encoder="trained")
    assert "no setting differs: a model has other weights than before, or another precision" in synth("report")[1]


def test_what_only_another_miner_found_has_a_row_of_its_own(
    synth: Run, workspace: Workspace, run_id: UUID, tmp_path: Path
) -> None:
    [one] = asked(workspace.store, "who dives?")
    a_mine_run(workspace.store, mined(one, negative(one, 12), negative(one, 3, miners=(FoundBy("bm25", 3, 9.5),))))
    graded(workspace.store, one, (3, 2), (12, 0))
    out = synth("report")[1]
    rows = rows_of(out)
    assert "negative, rank 12, score 0.50" in out and "negative, rank 3 by bm25, score" in " ".join(rows)
    assert "bm25 rank 3" not in " ".join(rows)  # said already
    assert "11 to 20 1 1 0 0.0% 0.0% to 79.3%" in rows and "only bm25 1 1 1 100.0% 20.7% to 100.0%" in rows
    assert synth("report", "--html", tmp_path / "report.html")[0] == 0
    assert "<td>only bm25</td>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    [by_judge] = json.loads(synth("report", "--json")[1])["false_negatives"]
    assert [band["found_by"] for band in by_judge["others"]] == ["bm25"]


def test_a_window_that_shrank_is_told_on_the_screen_and_in_a_page(
    synth: Run, workspace: Workspace, run_id: UUID, tmp_path: Path
) -> None:
    [bird] = asked(workspace.store, "who sings?", source=BIRDS)
    with runs.recorded(workspace.store, "mine", CONFIG) as run:
        with run.step("encode passages", 8):
            pass
        with workspace.store.write() as cursor:
            minings.add_mined(cursor, UUID(int=2), run.run_id, [mined(bird)])
    told = "birds: ranks 1 to 4, since its corpus has only 8 passages"
    assert told in rows_of(synth("report")[1])
    assert synth("report", "--html", tmp_path / "report.html")[0] == 0
    assert told in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_kind_and_what_is_about_generate_runs_choose_which_run_is_the_last(
    synth: Run, workspace: Workspace, run_id: UUID
) -> None:
    with_sources(workspace.store)
    generated = a_run(workspace.store, Finished(passage(), []))
    assert synth("report")[1].startswith(f"generate {generated}")
    assert synth("report", "--kind", "mine")[1].startswith(f"mine {run_id}")
    assert synth("report", run_id)[1].startswith(f"mine {run_id}")
    [one] = asked(workspace.store, "who dives?")
    latest = a_mine_run(workspace.store, mined(one))
    assert synth("report", "last")[1].startswith(f"mine {latest}")
    assert synth("report", "--source", "guide")[1].startswith(f"generate {generated}")
    for option in ("--scores", "--threshold=0.5"):
        code, out, err = synth("report", run_id, option)
        assert (code, out) == (2, "") and "of the kind mine, and what is asked for is of `synth generate`" in err
    code, _, err = synth("report", "--kind", "mine", "--scores")
    assert code == 2 and "are about generate runs; leave out --kind mine" in err


def test_a_mine_run_that_failed_says_why(synth: Run, workspace: Workspace) -> None:
    with pytest.raises(UserError), runs.recorded(workspace.store, "mine", {}, model="small"):
        raise UserError("there is no model folder")
    code, out, _ = synth("report")
    lines = out.splitlines()
    assert code == 0 and ": failed in " in lines[0] and lines[1:3] == ["there is no model folder", "small"]
    assert "0 samples: nothing stored; 0 negatives" in lines


def test_as_json_there_is_all_of_it_and_texts_in_full(synth: Run, workspace: Workspace, run_id: UUID) -> None:
    told = json.loads(synth("report", "--json")[1])
    assert (told["kind"], told["run_id"], told["outcome"]["num_negatives"]) == ("mine", str(run_id), 3)
    assert told["settings"]["rank_min"] == 10 and told["positives"]["deep"] == 50
    assert len(told["wanting"][0]["candidates"]) == 8 and told["before"] is None
    assert [each["found_by"] for each in told["scores"]["negatives"]] == ["mined", "bm25 and dense"]
    drawn = json.loads(synth("report", "--json", "--seed", 5)[1])["examples"]
    by_five = mining_report_of(workspace.store, run_id, seed=5).examples
    assert [each["sample_id"] for each in drawn] == [str(each.sample_id) for each in by_five]


@pytest.fixture
def hostile_run(workspace: Workspace) -> UUID:
    """A mine run every text and name of which wants to be obeyed."""
    with_corpora(workspace.store)
    text = f"A passage. {HOSTILE}"
    with workspace.store.write() as cursor:
        add_passages(cursor, BOATS.source_id, [NewPassage(text_id(text), text, "", "h")])
    one, two = asked(workspace.store, f"who rows? {HOSTILE}", f"who sails? {HOSTILE}", positive=f"Ann. {HOSTILE}")
    found = Negative(
        one.sample_id, one.revision_id, text_id(text), "mined", 1, 0.5, 0.75, miners=(FoundBy(HOSTILE, 1, 0.5),)
    )
    run_id = a_mine_run(
        workspace.store,
        mined(one, found, positive_rank=70, fallen={HOSTILE: 2}),
        mined(two, status="none", reason=f"why {HOSTILE}", candidates=[(1, 0.5, HOSTILE)]),
        encoder=HOSTILE,
        config={"miners": [HOSTILE], "rerank": True},
    )
    with workspace.store.write() as cursor:
        cursor.execute("UPDATE negative SET flags = [$text], relaxed = [$text]", {"text": HOSTILE})
        cursor.execute("UPDATE run_step SET step = $text, detail = $text", {"text": HOSTILE})
    graded(workspace.store, one, (0, 3), judge=HOSTILE)
    with workspace.store.write() as cursor:
        cursor.execute("UPDATE judgement SET text_id = ?", [text_id(text)])
    return run_id


@pytest.mark.parametrize("columns", [30, 80, 300])
def test_hostile_text_is_shown_and_not_obeyed_on_a_terminal_of_any_width(
    synth: Run, hostile_run: UUID, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    on_a_terminal(monkeypatch, columns)
    code, out, _ = synth("report")
    assert code == 0
    unstyled = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "\x1b[31m" not in out
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in unstyled if char != "\n")
    assert "[bold]" in unstyled.replace("\n", "") and "\\x1b[31m" in unstyled.replace("\n", "")


def test_hostile_text_is_text_in_a_page(synth: Run, hostile_run: UUID, tmp_path: Path) -> None:
    code, out, _ = synth("report", "--html", tmp_path / "report.html")
    assert (code, out) == (0, f"wrote {tmp_path / 'report.html'}\n")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = escape(printable(HOSTILE))
    for text in (
        f"<h1>mined by {shown}</h1>",
        f"A passage. {shown}",
        f"who sails? {shown}",
        f"Ann. {shown}",
        f"in the eyes of judge {shown}",
        f"miners {shown}, rerank yes",
        f"why {shown}",
        f"rank 1, score 0.50: {shown}",
    ):
        assert text in page
    assert not re.search("<(script|img|a)\\b", page) and "\x1b" not in page and "\u202e" not in page


def test_a_page_has_figures_and_everything_in_one_file(
    synth: Run, workspace: Workspace, run_id: UUID, tmp_path: Path
) -> None:
    [sample] = [each for each in minings.minable(workspace.store, UUID(int=1)) if each.query == "who rows?"]
    graded(workspace.store, sample, (10, 2), (11, 0))
    page_path = tmp_path / "report.html"
    assert synth("report", run_id, "--html", page_path)[0] == synth("report", run_id, "--html", page_path)[0] == 0
    page = page_path.read_text(encoding="utf-8")
    assert (
        page.startswith("<!doctype html>")
        and page.endswith("</html>\n")
        and "http" not in page.replace("http-equiv", "")
    )
    assert "<figcaption>positives, 3: median 0.75, 0.75 to 0.75</figcaption><svg" in page
    assert "negatives, bm25 and dense, 1: median 0.25, 0.25 to 0.25; the outline is that of the positives" in page
    assert "share of false ones by rank; the outline ends where the interval does</figcaption><svg" in page
    assert ">100.0%, up to 100.0%</text>" in page
    assert "<tr><td>all</td><td>at or above the cap</td>" in page and '<td class="number">1,294</td>' in page
    assert "negative, rank 10, score 0.25<br>dense rank 3, bm25 rank 1,200<br>cosine 0.97 with a positive" in page
    assert "86% of words in common with a positive<br>reranker 0.91, positive 0.88<br>relaxed: cap" in page


def test_a_later_mining_of_another_task_is_told_on_standard_error(
    synth: Run, workspace: Workspace, run_id: UUID
) -> None:
    assert synth("report", "last", "--kind", "mine")[2] == ""
    with runs.recorded(workspace.store, "mine", {"task": "sts"}) as later:
        pass
    told = f"a later run {later.run_id} mined for sts, of which there is no report; see synth runs show {later.run_id}"
    code, out, err = synth("report", "last", "--kind", "mine")
    assert (code, err.splitlines()) == (0, [told]) and out.startswith(f"mine {run_id}")
    assert synth("report", run_id)[2] == ""

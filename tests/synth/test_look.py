"""`synth show` and `synth sql` on the screen: whole, in one line when wrong, and never obeyed."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from synth.records import Draft, Retrieval, ReviewEvent, Source, Use, Verdict, new_id, text_id
from synth.screen import run_app
from synth.store import reviews, runs, samples, sources
from synth.store.console import query
from synth.store.rows import insert, now
from synth.store.sources import NewPassage
from synth.workspace import Workspace

HOSTILE = "\x1b[31m[bold]red[/bold] :smile: \u202e\x9b"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, standard output, standard error."""
    from synth.cli import app

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synth", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            run_app(app)
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def root(workspace: Workspace) -> Path:
    """A workspace with one run that made one hostile sample."""
    source = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    with runs.recorded(workspace.store, "generate", {"note": HOSTILE}, model="m") as run:
        draft = Draft(
            Retrieval(f"what? {HOSTILE}", (f"It.\n{HOSTILE}",)), source.source_id, "query", "llm", text_id(HOSTILE)
        )
        with workspace.store.write() as cursor:
            sources.add_source(cursor, source, run.run_id)
            sources.add_passages(cursor, source.source_id, [NewPassage(text_id(HOSTILE), HOSTILE, HOSTILE, "")])
            samples.add_drafts(cursor, [draft], run.run_id)
        run.count(stored=1)
        run.cost = 0.25
    return workspace.root


def sample_id(synth: Run, root: Path) -> str:
    return str(
        json.loads(synth("sql", "SELECT sample_id FROM samples", "--format", "json", "-w", root)[1])[0]["sample_id"]
    )


def test_show_prints_a_tree_in_which_no_text_is_obeyed(synth: Run, root: Path) -> None:
    code, out, _ = synth("show", sample_id(synth, root), "-w", root)
    assert code == 0
    assert [line.lstrip("│├└─ ").split(",")[0].split(":")[0] for line in out.splitlines()][:3] == [
        f"sample {sample_id(synth, root)}",
        "source guide",
        "origin a test",
    ]
    assert "what? \\x1b[31m[bold]red[/bold] :smile: \\u202e\\x9b" in out
    assert not set(HOSTILE) & {*"\x1b\u202e\x9b"} & set(out)


def test_json_is_one_line_that_holds_the_same(synth: Run, root: Path) -> None:
    code, out, _ = synth("show", sample_id(synth, root), "--json", "-w", root)
    assert (code, out.count("\n")) == (0, 1)
    assert json.loads(out)["revisions"][0]["content"]["query"] == f"what? {HOSTILE}"


def test_show_tells_what_judges_said_of_each_passage_and_obeys_none_of_it(
    synth: Run, root: Path, workspace: Workspace
) -> None:
    sample = UUID(sample_id(synth, root))
    wrong = f"Wrong. {HOSTILE} {'x' * 300}"
    negative = {"negative_id": new_id(), "sample_id": sample, "revision_id": sample, "text_id": text_id(wrong)}
    said = {
        "run_id": new_id(),
        "sample_id": sample,
        "revision_id": sample,
        "judge": f"j {HOSTILE}",
        "judge_kind": "llm",
    }
    passages = [(f"It.\n{HOSTILE}", 3, True, None, ""), (wrong, 2, False, 0.75, f"because {HOSTILE} {'y' * 300}")]
    with workspace.store.write() as cursor:
        insert(cursor, "text", [{"text_id": text_id(wrong), "text": wrong, "created_at": now()}])
        insert(cursor, "negative", [negative | {"origin": "mined", "rank": 2, "created_at": now()}])
        for text, grade, is_positive, relevance, reason in passages:
            own = {"judgement_id": new_id(), "text_id": text_id(text), "grade": grade, "is_positive": is_positive}
            insert(cursor, "judgement", [said | own | {"relevance": relevance, "reason": reason, "created_at": now()}])
        samples.refresh_state(cursor, [sample])
    lines = [line.lstrip("│├└─ ") for line in synth("show", sample, "-w", root)[1].splitlines()]
    at = lines.index("judgements: 2, 1 suggestion")
    judge, positive, wrong_line = lines[at + 1 : at + 4]
    assert judge == "j \\x1b[31m[bold]red[/bold] :smile: \\u202e\\x9b (llm)"
    assert positive.startswith("positive (It.⏎ \\x1b[31m") and positive.endswith("): grade 3")
    assert wrong_line.startswith("negative 1 (Wrong. \\x1b[31m[bold]")
    assert "…): grade 2, relevance 0.750, suggests drop_negative: because \\x1b[31m" in wrong_line
    assert len(wrong_line) <= 240 and not {"\x1b", "\u202e", "\x9b"} & set("".join(lines))
    assert any(line.startswith("1: mined, rank 2") for line in lines)


def test_show_tells_how_a_negative_was_found_and_which_candidates_fell(
    synth: Run, root: Path, workspace: Workspace
) -> None:
    sample = UUID(sample_id(synth, root))
    of = {"sample_id": sample, "revision_id": sample, "created_at": now(), "run_id": new_id()}
    known = {
        "miners": [{"miner": f"m {HOSTILE}", "rank": 12, "score": 0.5}, {"miner": "bm25", "rank": 3, "score": 7.5}],
        "flags": ["near_positive"],
        "relaxed": ["cap"],
    }
    fallen = [
        {"text_id": str(text_id(HOSTILE)), "rank": rank, "score": 0.5, "reason": "capped"} for rank in range(1, 6)
    ]
    with workspace.store.write() as cursor:
        negative = of | known | {"negative_id": new_id(), "text_id": text_id(HOSTILE), "origin": "mined"}
        insert(cursor, "negative", [negative])
        mined = of | {"status": "short", "reason": "few", "fallen": '{"capped": 5}', "candidates": fallen}
        insert(cursor, "mined", [mined])
    lines = [line.lstrip("│├└─ ") for line in synth("show", sample, "-w", root)[1].splitlines()]
    [found] = [line for line in lines if line.startswith("1: mined")]
    assert found.startswith("1: mined, m \\x1b[31m[bold]")
    assert found.endswith(" rank 12, bm25 rank 3, flagged near_positive, relaxed cap")
    at = next(at for at, line in enumerate(lines) if line.endswith(": short (few), fell: 5 capped"))
    assert lines[at + 1].startswith("capped, rank 1, score 0.500: ")
    assert lines[at + 4] == "2 more that fell"


def test_show_tells_minings_apart_by_their_encoder_and_the_settings_that_are_not_the_default(
    synth: Run, root: Path, workspace: Workspace
) -> None:
    sample = UUID(sample_id(synth, root))
    for model, config in (
        ("small", {"encoder": "small", "rank_min": 10, "relax": ["window"], "absolute_cap": None}),
        ("large", {"encoder": "large", "rank_min": 5, "miners": ["dense", "bm25"], "relax": [], "reranker": HOSTILE}),
    ):
        with runs.recorded(workspace.store, "mine", config, model=model) as run, workspace.store.write() as cursor:
            of = {"sample_id": sample, "revision_id": sample, "created_at": now(), "run_id": run.run_id}
            insert(cursor, "mined", [of | {"status": "full", "reason": ""}])
    lines = [line.lstrip("│├└─ ") for line in synth("show", sample, "-w", root)[1].splitlines()]
    plain, other = (line for line in lines if line.startswith("mined by"))
    assert plain.startswith("mined by small, run ")
    assert (
        other.startswith("mined by large (miners dense and bm25, rank min 5, relax none, reranker ")
        and "\x1b" not in other
    )
    told = json.loads(synth("show", sample, "--json", "-w", root)[1])["minings"]
    assert [each["settings"]["rank_min"] for each in told] == [10, 5]


def test_show_says_which_mining_is_in_force_and_tells_negatives_of_earlier_ones_apart(
    synth: Run, root: Path, workspace: Workspace
) -> None:
    sample = UUID(sample_id(synth, root))
    asked = {"sample_id": sample, "revision_id": sample}
    found = [("one", 1, 0.9), ("two", 2, 0.8), ("both", 3, 0.7), ("last", 4, 0.1)]
    with workspace.store.write() as cursor:
        texts = [{"text_id": text_id(text), "text": text, "created_at": now()} for text, _, _ in found]
        insert(cursor, "text", texts)
    for model, names in (("small", {"one", "both"}), ("middle", {"two"}), ("large", {"both", "last"})):
        with runs.recorded(workspace.store, "mine", {}, model=model) as run, workspace.store.write() as cursor:
            of = {"run_id": run.run_id, "created_at": now()}
            insert(cursor, "mined", [asked | of | {"status": "full", "reason": ""}])
            for text, rank, score in found:
                if text in names:
                    own = {"negative_id": new_id(), "text_id": text_id(text), "origin": "mined"}
                    insert(cursor, "negative", [asked | of | own | {"rank": rank, "score": score}])
    written = {"negative_id": new_id(), "text_id": text_id("one"), "origin": "generated", "created_at": now()}
    minings = query(workspace.store, "SELECT run_id FROM runs WHERE kind = 'mine' ORDER BY run_id").to_pylist()
    small, middle, large = (row["run_id"] for row in minings)
    lines = [line.lstrip("│├└─ ") for line in synth("show", sample, "-w", root)[1].splitlines()]
    at = lines.index("negatives: 2 in force")
    assert lines[at + 1 : at + 13] == [
        f"mined by small, run {small[:13]}: full",
        f"mined by middle, run {middle[:13]}: full",
        f"mined by large, run {large[:13]} (in force: the latest): full",
        "1: mined, rank 3, score 0.700",
        "both",
        "2: mined, rank 4, score 0.100",
        "last",
        "2 of earlier minings, which no release takes unless it names one",
        f"3: run {small[:13]}, mined, rank 1, score 0.900",
        "one",
        f"4: run {middle[:13]}, mined, rank 2, score 0.800",
        "two",
    ]
    with workspace.store.write() as cursor:  # what was written stands, whoever mines
        insert(cursor, "negative", [{**asked, **written}])
    told = json.loads(synth("show", sample, "--json", "-w", root)[1])
    assert {each["text"]: each["is_in_force"] for each in told["negatives"]} == {
        "one": True,
        "two": False,
        "both": True,
        "last": True,
    }
    assert [each["is_in_force"] for each in told["minings"]] == [False, False, True]


@pytest.mark.parametrize(
    ("settled", "told"),
    [
        ("approve", "suggests drop_sample (overruled)"),
        ("reject", "suggests drop_sample (the sample is rejected)"),
    ],
)
def test_show_says_what_people_made_of_a_suggestion(
    synth: Run, root: Path, workspace: Workspace, settled: str, told: str
) -> None:
    sample = UUID(sample_id(synth, root))
    said = {"judgement_id": new_id(), "run_id": new_id(), "sample_id": sample, "revision_id": sample, "judge": "j"}
    passage = {
        "text_id": text_id(f"It.\n{HOSTILE}"),
        "is_positive": True,
        "grade": 0,
        "judge_kind": "llm",
        "reason": "",
    }
    with workspace.store.write() as cursor:
        insert(cursor, "judgement", [said | passage | {"created_at": now()}])
    reviews.add_reviews(workspace.store, [ReviewEvent(new_id(), "ann", sample, sample, Verdict(settled))])
    assert told in synth("show", sample, "-w", root)[1]


def test_show_says_of_a_suggestion_about_a_negative_that_it_is_dropped(
    synth: Run, root: Path, workspace: Workspace
) -> None:
    sample = UUID(sample_id(synth, root))
    of = {"sample_id": sample, "revision_id": sample, "created_at": now(), "text_id": text_id(HOSTILE)}
    negative = of | {"negative_id": new_id(), "origin": "mined"}
    judgement = of | {"judgement_id": new_id(), "judge": "j", "judge_kind": "llm", "is_positive": False, "grade": 2}
    with workspace.store.write() as cursor:
        insert(cursor, "negative", [negative])
        insert(cursor, "judgement", [judgement])
    drop = ReviewEvent(
        new_id(), "ann", sample, sample, Verdict.FALSE_NEGATIVE, negative_id=UUID(str(negative["negative_id"]))
    )
    reviews.add_reviews(workspace.store, [drop])
    assert "): grade 2, suggests drop_negative (it is dropped)\n" in synth("show", sample, "-w", root)[1]


def test_show_says_which_releases_hold_a_negative_and_whose_word_they_heeded(
    synth: Run, root: Path, workspace: Workspace
) -> None:
    sample, negative_id = UUID(sample_id(synth, root)), new_id()
    of = {"sample_id": sample, "revision_id": sample}
    with workspace.store.write() as cursor:
        negative = of | {"negative_id": negative_id, "text_id": text_id(HOSTILE)}
        insert(cursor, "negative", [{**negative, "origin": "mined", "created_at": now()}])
        for name in ("r1", "r2", "r3", "r4", "r5"):
            release_id, judged = new_id(), "all" if name == "r2" else ""
            row = {"release_id": release_id, "name": name, "policy": json.dumps({"judged": judged})}
            insert(cursor, "release", [{**row, "run_id": new_id(), "created_at": now()}])
            insert(cursor, "release_item", [{**of, "release_id": release_id, "negative_ids": [negative_id]}])
    out = synth("show", sample, "-w", root)[1]
    assert "1: mined, in r1, r2, r3, 2 more\n" in out
    assert "r1: revision 1, 1 negative, 2" in out and "r2: revision 1, 1 negative, judged all, 2" in out


def test_show_counts_what_judges_said_of_earlier_revisions(synth: Run, root: Path, workspace: Workspace) -> None:
    sample, latest = UUID(sample_id(synth, root)), new_id()
    said = {"run_id": new_id(), "sample_id": sample, "judge": "j", "judge_kind": "llm", "grade": 3, "is_positive": True}
    with workspace.store.write() as cursor:
        cursor.execute(
            "INSERT INTO revision BY NAME SELECT * REPLACE ($latest AS revision_id, 2 AS number) FROM revision",
            {"latest": latest},
        )
        samples.refresh_state(cursor, [sample])
        for revision_id in (sample, latest):
            own = {"judgement_id": new_id(), "revision_id": revision_id, "text_id": text_id(f"It.\n{HOSTILE}")}
            insert(cursor, "judgement", [{**said, **own, "created_at": now()}])
    lines = [line.lstrip("│├└─ ") for line in synth("show", sample, "-w", root)[1].splitlines()]
    assert lines[lines.index("judgements: 1") + 3] == "1 of earlier revisions"


@pytest.mark.parametrize(
    ("outcome", "moved_to", "told"),
    [
        (
            "moved",
            new_id(),
            ["from: grade 1, place 2 by likelihood, 3 with the grade: From.", "best: no grade, place 1 by"],
        ),
        (
            "duplicate",
            None,
            ["kept: grade 1, place 2 by likelihood, 3 with the grade: From.", "best: no grade, place 1 by"],
        ),
    ],
)
def test_show_tells_why_a_positive_moved_or_did_not(
    synth: Run, root: Path, workspace: Workspace, outcome: str, moved_to: UUID | None, told: list[str]
) -> None:
    sample, best = UUID(sample_id(synth, root)), f"Best. {HOSTILE}"
    texts = {"From.": (2, 1, 3), "Between.": (3, 0, 2), best: (1, None, 1)}
    candidates = [
        {
            "text_id": str(text_id(text)),
            "likelihood": likelihood,
            "grade": grade,
            "place": place,
            "rank": 1,
            "score": 0.5,
        }
        for text, (likelihood, grade, place) in texts.items()
    ]
    row = {"stage_key": new_id(), "sample_id": sample, "revision_id": sample, "outcome": outcome, "moved_to": moved_to}
    row |= {"passage_from": text_id("From."), "passage_to": text_id(best), "candidates": candidates, "run_id": new_id()}
    with workspace.store.write() as cursor:
        insert(cursor, "text", [{"text_id": text_id(text), "text": text, "created_at": now()} for text in texts])
        insert(cursor, "relabelled", [row | {"num_negatives": 1, "created_at": now()}])
    lines = [line.lstrip("│├└─ ") for line in synth("show", sample, "-w", root)[1].splitlines()]
    outcome_line, *passages = lines[lines.index("relabelled") + 1 :][:3]
    assert outcome_line.startswith(f"{outcome}, of 3 candidates, 1 hard negative, ")
    assert [line[: len(start)] for line, start in zip(passages, told, strict=True)] == told
    assert "Best. \\x1b[31m[bold]" in passages[1] and "\x1b" not in "".join(lines)


def test_a_table_has_no_digits_that_only_the_binary_form_adds_and_a_file_has_all(synth: Run, root: Path) -> None:
    sql = (
        "SELECT 0.00010334999999999999::DOUBLE AS cost, 1234567890123.5::DOUBLE AS long, 'NaN'::DOUBLE AS odd,"
        " 9007199254740991::DOUBLE AS whole"
    )
    shown = ["0.00010335", "1234567890123.5", "nan", "9007199254740991.0"]
    assert synth("sql", sql, "-w", root)[1].splitlines()[3].split() == shown
    assert "0.00010334999999999999" in synth("sql", sql, "--format", "csv", "-w", root)[1]
    assert "0.00010334999999999999" in synth("sql", sql, "--format", "json", "-w", root)[1]


@pytest.mark.parametrize(("columns", "first"), [(24, ""), (23, "aaaaaaaa"), (21, "aaaaaaaa"), (20, "-- 1")])
def test_a_table_is_set_closer_before_it_becomes_one_value_a_line(
    synth: Run, root: Path, monkeypatch: pytest.MonkeyPatch, columns: int, first: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = synth("sql", "SELECT 1 AS aaaaaaaa, 2 AS bbbbbbbb, 3 AS cc", "-w", root)[1].splitlines()
    plain = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    assert plain[0].strip().startswith(first) and bool(first) == bool(plain[0].strip())
    assert max(map(len, plain)) <= columns
    assert any("aaaaaaaa" in line and "bbbbbbbb" in line for line in plain) == (columns > 20)  # no name is broken


def test_stats_leaves_out_what_there_is_none_of(synth: Run, root: Path) -> None:
    head, _, line = [line for line in synth("stats", "-w", root)[1].splitlines() if line.strip()]
    assert head.split() == ["source", "task", "operation", "pending"]
    assert line.split() == ["guide", "retrieval", "query", "1"]
    [row] = json.loads(synth("stats", "--json", "-w", root)[1])
    assert (row["approved"], row["held_out"], row["pending"]) == (0, 0, 1)


def test_show_takes_the_short_id_that_runs_prints(synth: Run, root: Path) -> None:
    _, out, _ = synth("runs", "-w", root)
    line = next(line for line in out.splitlines() if "generate" in line)
    code, shown, _ = synth("show", line.split()[0], "-w", root)
    assert code == 0 and "samples" in shown


def test_a_text_and_a_run_are_told_without_being_obeyed(synth: Run, root: Path) -> None:
    run = json.loads(synth("runs", "--json", "-w", root)[1])[0]["run_id"]
    for given in (text_id(HOSTILE), run):
        code, out, _ = synth("show", given, "-w", root)
        assert code == 0 and "\\x1b[31m[bold]" in out and not {"\x1b", "\x9b"} & set(out)


@pytest.mark.parametrize("arguments", [["show", "nothing here"], ["show", "ffffff"]])
def test_what_is_not_there_is_one_line_and_code_2(synth: Run, root: Path, arguments: list[str]) -> None:
    code, out, err = synth(*arguments, "-w", root)
    assert (code, out, err.count("\n"), "\x1b" in err) == (2, "", 1, False)


@pytest.mark.parametrize("output_format", ["csv", "json"])
def test_a_terminal_is_sent_no_control_character_and_a_pipe_gets_the_text(root: Path, output_format: str) -> None:
    sql = f'SELECT query, query AS "{HOSTILE.replace(chr(0), "")}" FROM samples'
    command = [sys.executable, "-c", "from synth.cli import main; main()"]
    command += ["sql", sql, "--format", output_format, "-w", str(root)]
    environment = os.environ | {"PYTHONUTF8": "1"}
    piped = subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode()
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
    os.close(ours)
    assert process.returncode == 0
    assert not {"\x1b", "\x9b", "\u202e"} & set(seen.decode())
    if output_format == "csv":
        assert f"what? {HOSTILE}" in piped and "what? \\x1b[31m" in seen.decode()
    else:
        assert json.loads(seen) == json.loads(piped)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way to say that the other end is closed
        return b""

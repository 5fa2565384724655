"""The same schema, queries and stages on a DuckLake: `make lake` runs this, with a DuckDB that has the extension."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from synth.records import FoundBy, Negative, ReviewEvent, StoreLocked, UserError, Verdict, key_of, new_id
from synth.store import migrate, minings, runs
from synth.store.connection import Store
from synth.store.console import query, query_apart
from synth.store.engine import new_instance
from synth.store.queues import Queue, cards
from synth.store.reviews import add_reviews
from synth.store.upkeep import back_up, compact
from synth.store.verify import verify
from tests.conftest import REPOSITORY, SAMPLE

pytestmark = pytest.mark.slow
OLD_ROWS = REPOSITORY / "tests" / "synth" / "store" / "store_0001.sql"


@pytest.fixture(scope="module", autouse=True)
def lake_extension() -> None:
    try:
        new_instance(Path("store.ducklake")).close()
    except UserError as error:
        pytest.skip(f"{error}; or run `make lake`")


@dataclass(frozen=True)
class Pair:
    """The same work, done in a workspace with a file and in one with a DuckLake."""

    file: Store
    lake: Store


def synth(*arguments: object) -> str:
    command = [sys.executable, "-c", "from synth.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return done.stdout


def mine_by_hand(store: Store) -> None:
    """Negatives without an encoder: of every sample, two passages in the order of their ids."""
    with store.read() as cursor:
        passages = [text_id for (text_id,) in cursor.execute("SELECT text_id FROM passage ORDER BY ALL").fetchall()]
    results = []
    stage = key_of("by hand")
    for place, sample in enumerate(minings.minable(store, stage)):
        chosen = [passages[(7 * place + step) % len(passages)] for step in (1, 2)]
        found_by = (FoundBy("dense", 1, 0.5), FoundBy("bm25", 2, 7.5))
        negatives = [
            Negative(
                sample.sample_id,
                sample.revision_id,
                text_id,
                "mined",
                rank,
                0.6 - rank / 10,
                0.7,
                miners=found_by[:rank],
                flags=("near_positive",) if place % 5 == 0 else (),
            )
            for rank, text_id in enumerate(chosen, start=1)
        ]
        fallen = (minings.Fallen(chosen[0], 1, 0.8, "capped"),)
        results.append(minings.Mined(sample, "short", "", 1, tuple(negatives), fallen={"capped": 1}, candidates=fallen))
    with runs.recorded(store, "mine", {}) as run, run.step("search"), store.write() as cursor:
        minings.add_mined(cursor, stage, run.run_id, results)


def review_by_hand(store: Store) -> None:
    """A person rejects every fifth query, and a negative of every seventh."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT sample_id, revision_id, (SELECT min(negative_id) FROM negative n WHERE n.sample_id = s.sample_id"
            " AND n.rank = 1) AS negative_id FROM samples s WHERE task = 'retrieval' AND declared_use = 'train'"
            " ORDER BY query"
        ).fetchall()
    rejected = [(sample_id, revision_id, None) for sample_id, revision_id, _ in rows[::5]] + rows[1::7]
    events = [
        ReviewEvent(new_id(), "ada", sample_id, revision_id, Verdict.REJECT, negative_id=negative_id)
        for sample_id, revision_id, negative_id in rejected
    ]
    add_reviews(store, events)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("lake")
    data = root / "data"
    for part in ("retrieval/cmrc-zh", "pairs"):
        shutil.copytree(SAMPLE / part, data / part)
    stores = []
    for name, options in (("file", []), ("lake", ["--lake"])):
        synth("init", root / name, *options)
        synth("ingest", data, "-w", root / name)
        store = Store.open(next((root / name).glob("store.duck*[be]")))
        mine_by_hand(store)
        synth("review", "--policy", "everything", "-w", root / name)
        review_by_hand(store)
        synth("release", "create", "first", "-w", root / name)
        stores.append(store)
    yield Pair(*stores)


def test_the_release_has_the_same_digest(pair: Pair) -> None:
    sql = "SELECT digest, num_samples, num_negatives FROM releases"
    [of_file], [of_lake] = (query(store, sql).to_pylist() for store in (pair.file, pair.lake))
    assert of_file["num_samples"] > 100
    assert of_file["num_negatives"] > 100
    assert of_lake == of_file


def test_every_documented_query_runs_and_gives_as_many_rows(pair: Pair) -> None:
    page = (REPOSITORY / "docs" / "sql.md").read_text(encoding="utf-8")
    documented = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(documented) >= 7
    for sql in documented:
        of_file, of_lake = query(pair.file, sql), query(pair.lake, sql)
        assert of_lake.schema.names == of_file.schema.names
        assert of_lake.num_rows == of_file.num_rows, sql


def test_every_view_gives_as_many_rows(pair: Pair) -> None:
    for view in re.findall(r"VIEW (\w+)", (migrate.FOLDER / migrate.VIEWS).read_text(encoding="utf-8")):
        sql = f"SELECT count(*) AS n FROM {view}"
        assert query(pair.lake, sql).to_pylist() == query(pair.file, sql).to_pylist()


def test_what_mining_knows_is_the_same_and_what_it_flagged_is_queued(pair: Pair) -> None:
    for sql in (
        "SELECT query, text, rank, miners, num_votes, flags FROM negatives WHERE origin = 'mined' ORDER BY ALL",
        "SELECT query, text, rank, score, reason FROM mining_candidates ORDER BY ALL",
        "SELECT run_kind, step, number FROM run_steps ORDER BY ALL",
    ):
        of_file = query(pair.file, sql).to_pylist()
        assert of_file
        assert query(pair.lake, sql).to_pylist() == of_file
    queued = [
        sorted(card.content.query for card in cards(store, reviewer="ada", queue=Queue.FLAGGED, limit=1000))
        for store in (pair.file, pair.lake)
    ]
    assert queued[0] == queued[1] != []


def test_both_are_sound_and_a_broken_rule_is_found_in_a_lake_too(pair: Pair) -> None:
    assert verify(pair.file) == []
    assert verify(pair.lake) == []
    with pytest.raises(ZeroDivisionError), pair.lake.write() as cursor:
        cursor.execute("DELETE FROM text")
        raise ZeroDivisionError
    assert verify(pair.lake) == []


def test_a_query_of_somebody_reaches_nothing_outside_the_lake(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("secret")
    for sql in (
        f"FROM read_text('{tmp_path}/secret.csv')",
        f"FROM '{pair.file.path.parent}/synth.toml'",
        "FROM read_text('/etc/hostname')",
    ):
        with pytest.raises(UserError):
            query_apart(pair.lake, sql, timeout=20)


def test_a_backup_of_a_lake_stands_alone(pair: Pair, tmp_path: Path) -> None:
    outcome = back_up(pair.lake, tmp_path / "copy.ducklake")
    assert outcome.num_rows > 1000
    for taken in ("store.ducklake", "store.ducklake.files"):
        pair.lake.path.with_name(taken).rename(pair.lake.path.with_name(f"{taken}.aside"))
    try:
        assert verify(Store.open(tmp_path / "copy.ducklake")) == []
    finally:
        for taken in ("store.ducklake", "store.ducklake.files"):
            pair.lake.path.with_name(f"{taken}.aside").rename(pair.lake.path.with_name(taken))


def test_what_a_lake_cannot_do_is_one_line(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a DuckLake is not compacted here"):
        compact(pair.lake)
    with pytest.raises(UserError, match=r"must end in \.ducklake"):
        back_up(pair.lake, tmp_path / "copy.duckdb")


def test_two_processes_write_to_a_lake_without_losing_a_row(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store.ducklake")
    script = (
        "import sys\nfrom pathlib import Path\nfrom synth.records import Draft, Retrieval, Source, Use, new_id\n"
        "from synth.store import samples, sources\nfrom synth.store.connection import Store\n"
        "store = Store.open(Path(sys.argv[1]))\n"
        "source = Source('guide', 'train', Use.TRAIN, 'retrieval', 'a test', 'CC0-1.0', '1')\n"
        "for index in range(10):\n    with store.write() as cursor:\n"
        "        sources.add_source(cursor, source, new_id())\n"
        "        draft = Draft(Retrieval(f'{sys.argv[2]} {index}', ('p',)), source.source_id, 'query')\n"
        "        samples.add_drafts(cursor, [draft], new_id())\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(store.path), name]) for name in ("one", "two")]
    assert [writer.wait() for writer in writers] == [0, 0]
    sql = "SELECT count(*) AS n, count(DISTINCT query) AS asked, count(DISTINCT source) AS sources FROM samples"
    assert query(store, sql).to_pylist() == [{"n": 20, "asked": 20, "sources": 1}]


def test_a_lake_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "store.ducklake"
    with new_instance(path) as connection:
        connection.execute(f"ATTACH 'ducklake:{path}' AS store (DATA_PATH '{path}.files')")
        connection.execute("USE store")
        connection.execute(migrate.history()[0].sql)
        connection.execute(OLD_ROWS.read_text(encoding="utf-8"))
    store = Store.open(path)
    assert path.with_name("store.ducklake.before-migration").exists()
    assert verify(store) == []
    assert query(store, "SELECT count(*) AS n FROM samples").to_pylist() == [{"n": 40}]


def test_a_program_outside_skiff_is_named(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store.ducklake")
    store.lock_timeout = 0.3
    script = "import duckdb, sys, time\nheld = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\ntime.sleep(60)\n"
    shell = subprocess.Popen([sys.executable, "-c", script, str(store.path)], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    shell.stdout.readline()
    try:
        with pytest.raises(StoreLocked, match=f"process {shell.pid} has the file open"):
            query(store, "FROM samples")
    finally:
        shell.kill()
        shell.wait()
        shell.stdout.close()

"""Verify: a sound store has no problem, and every rule that is broken is one line with a remedy."""

import re
import shutil
from pathlib import Path

import pytest

from synth.records import Draft, Negative, Retrieval, ReviewEvent, Source, Use, Verdict, new_id, text_id
from synth.store import minings, runs, samples, sources
from synth.store.connection import Store
from synth.store.engine import Damaged
from synth.store.reviews import add_reviews
from synth.store.verify import READABLE, verify
from tests.synth.store.damaging import damage, damage_table, fill, num_blocks

TEXT = "a passage that does not answer"


@pytest.fixture
def sound(store: Store) -> Store:
    """A store with a row of every kind, made as the stages make them."""
    with runs.recorded(store, "ingest", {}) as run, run.step("search"), store.write() as cursor:
        training = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
        held_out = Source("guide", "test", Use.EVAL, "retrieval", "a test", "CC0-1.0", "1")
        for source in (training, held_out):
            sources.add_source(cursor, source, run.run_id)
            drafts = [Draft(Retrieval(f"{source.split} {n}", ("p",)), source.source_id, "query") for n in range(3)]
            samples.add_drafts(cursor, drafts, run.run_id)
        passage_id = text_id(TEXT)
        passage = sources.NewPassage(passage_id, TEXT, "", "1")
        sources.add_passages(cursor, training.source_id, [passage])
        for sample in samples_of(cursor):
            negative = Negative(sample.sample_id, sample.revision_id, passage_id, "mined", 3, 0.4, 0.7)
            fallen = (minings.Fallen(passage_id, 3, 0.4, "capped"),)
            mined = minings.Mined(sample, "full", "", 1, (negative,), candidates=fallen)
            minings.add_mined(cursor, new_id(), run.run_id, [mined])
    with store.read() as cursor:
        [(sample_id, negative_id)] = cursor.execute("SELECT sample_id, negative_id FROM negative LIMIT 1").fetchall()
    reviews = [
        ReviewEvent(new_id(), "ada", sample_id, sample_id, Verdict.APPROVE, seconds=2.0),
        ReviewEvent(new_id(), "ada", sample_id, sample_id, Verdict.REJECT, negative_id=negative_id),
    ]
    add_reviews(store, reviews)
    with store.write() as cursor:
        cursor.execute(
            "INSERT INTO release BY NAME SELECT uuid() AS release_id, 'first' AS name, 'd1' AS digest,"
            " '/releases/first' AS path, (SELECT min(run_id) FROM run) AS run_id, now()::TIMESTAMP AS created_at"
        )
        cursor.execute(
            "INSERT INTO release_item BY NAME SELECT (SELECT release_id FROM release) AS release_id,"
            " $id::UUID AS sample_id, $id::UUID AS revision_id, [$negative::UUID] AS negative_ids",
            {"id": str(sample_id), "negative": str(negative_id)},
        )
    return store


def samples_of(cursor: object) -> list[minings.Minable]:
    rows = cursor.execute("SELECT sample_id, revision_id, query FROM revision ORDER BY ALL").fetchall()  # type: ignore[attr-defined]
    return [minings.Minable(row[0], row[1], row[2], ("p",), ("p",), (), None, "guide") for row in rows]


def test_a_sound_store_has_no_problem(sound: Store) -> None:
    assert verify(sound) == []


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("DELETE FROM text", r"passage\.text_id: 1 rows name what is not in text"),
        ("DELETE FROM source WHERE split = 'train'", r"revision\.source_id: 3 rows name what is not in source"),
        ("UPDATE revision SET parent_id = uuid() WHERE query = 'train 1'", r"revision\.parent_id: 1 rows"),
        ("UPDATE negative SET original_id = uuid()", r"negative\.original_id: 6 rows name what is not in negative"),
        ("UPDATE negative SET revision_id = uuid()", r"negative\.revision_id: 6 rows name what is not in revision"),
        ("UPDATE review SET sample_id = uuid()", r"review\.sample_id: 2 rows"),
        ("UPDATE review SET undoes = uuid()", r"review\.undoes: 2 rows name what is not in review"),
        ("UPDATE release_item SET negative_ids = [uuid()]", r"release_item\.negative_ids: 1 rows"),
        ("UPDATE release_item SET revision_id = uuid()", r"release_item\.revision_id: 1 rows"),
        ("UPDATE mined SET candidates = [{'text_id': uuid()}]", r"mined\.candidates: 6 rows name what is not in text"),
        ("UPDATE run_step SET run_id = uuid()", r"run_step\.run_id: 1 rows name what is not in run"),
        ("DELETE FROM run", r"revision\.run_id: 6 rows name what is not in run \(one is .*\); restore a copy"),
        ("DELETE FROM sample_state", r"sample_state: 6 samples differ .* run `synth store rebuild`"),
        ("UPDATE sample_state SET status = 'rejected' WHERE status = 'approved'", r"sample_state: 1 samples differ"),
        ("INSERT INTO sample_state FROM sample_state LIMIT 1", r"sample_state: 1 values of sample_id stand there more"),
        ("INSERT INTO text FROM text", r"text: 1 values of text_id stand there more than once"),
        ("INSERT INTO negative FROM negative", r"negative: 6 values of negative_id"),
        (
            "UPDATE revision SET content_hash = (SELECT min(content_hash) FROM revision)",
            r"revision: 2 contents are stored more than once \(one is sample .*\)",
        ),
    ],
)
def test_every_damage_is_told_with_its_remedy(sound: Store, damage: str, line: str) -> None:
    with sound.write() as cursor:
        cursor.execute(damage)
    told = [problem.message for problem in verify(sound)]
    assert all("\n" not in message for message in told)
    assert any(re.match(line, message) for message in told), told


def test_rebuilding_mends_what_verify_found(sound: Store) -> None:
    with sound.write() as cursor:
        cursor.execute("DELETE FROM sample_state WHERE status = 'pending'")
    assert verify(sound)
    assert samples.rebuild_state(sound) == 5
    assert verify(sound) == []


def test_damage_in_any_block_is_found(store: Store, tmp_path: Path) -> None:
    fill(store)
    assert verify(store) == []
    assert num_blocks(store.path) > 8
    undamaged = 0
    for block in range(num_blocks(store.path)):
        path = Path(shutil.copy(store.path, tmp_path / f"{block}.duckdb"))
        damage(path, block)
        try:
            told = verify(Store.open(path))
        except Damaged as error:  # in what says which tables there are
            assert "go back to a backup" in str(error)
        else:
            undamaged += not told
            assert {problem.rule for problem in told} <= {READABLE}
            assert all("go back to a backup" in problem.message for problem in told)
            assert all("\n" not in problem.message for problem in told)
    with store.read() as cursor:  # in a free block there is nothing to damage
        assert undamaged == cursor.execute("SELECT free_blocks FROM pragma_database_size() LIMIT 1").fetchall()[0][0]


def test_what_does_not_need_a_damaged_table_is_checked_all_the_same(store: Store) -> None:
    fill(store)
    with store.write() as cursor:
        cursor.execute("UPDATE sample_state SET status = 'approved'")
    damage_table(store, "text", "text")
    unreadable, wrong = verify(store)
    assert re.match(r"text: not all of it can be read \(Corrupt .*\); go back to a backup", unreadable.message)
    assert re.match(r"sample_state: 600 samples differ", wrong.message)


def test_the_end_of_the_file_cut_off_is_found(store: Store) -> None:
    fill(store)
    store.path.write_bytes(store.path.read_bytes()[: store.path.stat().st_size // 2])
    assert {problem.rule for problem in verify(Store(store.path))} == {READABLE}

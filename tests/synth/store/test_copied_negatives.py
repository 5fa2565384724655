"""Negatives that a new revision takes along: copies, which lead to the same reply and are counted for no run again."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest

from synth.records import Retrieval, ReviewEvent, Verdict, Written, key_of, new_id, text_id
from synth.store.connection import Store
from synth.store.console import query
from synth.store.history import life
from synth.store.made import Finished
from synth.store.relabels import Relabelled, add_relabelled
from synth.store.reviews import add_reviews
from synth.store.run_history import recent
from synth.store.run_report import Scope, accepted, run_counts, written_and_real
from tests.synth.stages.reporting import HARBOUR, TOWER, a_run, added, draft, passage, with_sources
from tests.synth.store.test_migrations import old_store

ASKED = Retrieval("who dug the harbour?", (HARBOUR,))
CALL = key_of("a reply")
WORSE = Written("The harbour of Birch was dug much later.", "other_aspect", "the harbour of Alder", CALL)


@pytest.fixture(autouse=True)
def sources(store: Store) -> None:
    with_sources(store)


def moved(store: Store) -> None:
    """The positive of the one sample becomes the tower."""
    [sample] = added(store, ASKED)
    content = replace(ASKED, positives=(TOWER,))
    found = Relabelled(sample, content, "moved", [], [text_id(TOWER)], [], "judge", "p1", key_of("another reply"))
    with store.write() as cursor:
        add_relabelled(cursor, key_of("relabel"), new_id(), [found])


def edited(store: Store, *passages: str) -> None:
    """A reviewer adds positives to the one sample."""
    [row] = query(store, "SELECT sample_id, revision_id, query, positives FROM samples").to_pylist()
    edit = Retrieval(row["query"], (*row["positives"], *passages))
    event = ReviewEvent(new_id(), "ann", UUID(row["sample_id"]), UUID(row["revision_id"]), Verdict.APPROVE)
    add_reviews(store, [replace(event, edited_id=new_id(), edit=edit)])


def rows(store: Store) -> list[dict[str, Any]]:
    return query(
        store, "SELECT number, n.* FROM negatives n JOIN revisions USING (revision_id) ORDER BY number"
    ).to_pylist()


def test_a_copy_names_its_original_and_has_its_run_and_its_reply(store: Store) -> None:
    [sample] = added(store, ASKED)
    run_id = a_run(store, Finished(sample, [WORSE]), operation="hard-negative")
    moved(store)
    edited(store, HARBOUR)
    found = rows(store)
    assert [row["number"] for row in found] == [1, 2, 3]
    original = found[0]["negative_id"]
    assert [row["original_id"] for row in found] == [None, original, original]
    assert {(row["run_id"], row["call_id"], row["miner"]) for row in found} == {(str(run_id), str(CALL), "small")}


def test_a_run_is_told_each_negative_once_whatever_became_of_the_sample(store: Store) -> None:
    [sample] = added(store, ASKED)
    run_id = a_run(store, Finished(sample, [WORSE]), operation="hard-negative")
    before = accepted(store, run_id, limit=10, seed=0)
    moved(store)
    edited(store, HARBOUR)
    assert len(rows(store)) == 3
    assert run_counts(store, run_id)["num_negatives"] == 1
    assert accepted(store, run_id, limit=10, seed=0) == before
    assert written_and_real(store, Scope(run_id), limit=10) == [(WORSE.text, HARBOUR)]
    [told] = [each for each in recent(store, kind="generate", limit=9) if each["run_id"] == run_id]
    assert told["num_negatives"] == 1
    [made] = life(store, str(run_id))["made"]["negatives"]
    assert made["n"] == 1


def test_the_negative_that_came_with_a_sample_is_told_with_the_sample_alone(store: Store) -> None:
    seed = passage()
    run_id = a_run(store, Finished(seed, [draft(ASKED, seed, operation="query", written=[WORSE])]), operation="query")
    edited(store, TOWER)
    assert len(rows(store)) == 2
    assert [each.thing for each in accepted(store, run_id, limit=10, seed=0)] == ["sample"]


def test_a_reply_is_told_with_the_negatives_made_of_it_once(store: Store) -> None:
    [sample] = added(store, ASKED)
    run_id = a_run(store, Finished(sample, [WORSE]), operation="hard-negative")
    with store.write() as cursor:  # the reply that the negative names
        cursor.execute("UPDATE llm_call SET call_id = ? WHERE run_id = ?", [CALL, run_id])
    edited(store, TOWER)
    assert [each["text"] for each in life(store, str(CALL))["negatives"]] == [WORSE.text]


def test_copies_of_before_originals_were_named_are_found_by_what_they_have_of_them(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    old = old_store(path, version=9)
    with duckdb.connect(str(old)) as connection:
        copied = connection.execute(
            "INSERT INTO negative BY NAME SELECT * REPLACE (uuid() AS negative_id, uuid() AS revision_id,"
            " created_at + INTERVAL 1 DAY AS created_at) FROM negative RETURNING negative_id"
        ).fetchall()
    with Store.open(path).read() as cursor:
        again = cursor.execute("SELECT negative_id, original_id FROM negative WHERE original_id IS NOT NULL").fetchall()
        [(num_others,)] = cursor.execute(
            "SELECT count(*) FROM negative n JOIN negative o ON o.negative_id = n.original_id AND o.text_id = n.text_id"
            " AND o.sample_id = n.sample_id AND o.original_id IS NULL AND o.revision_id <> n.revision_id"
        ).fetchall()
    assert {row[0] for row in again} == {row[0] for row in copied}
    assert num_others == len(again) > 0

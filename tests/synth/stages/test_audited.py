"""The policy `audited`: what people found in the random part decides what goes in unread."""

import json
from pathlib import Path
from shutil import copyfile
from uuid import UUID

import pytest
from typer.testing import CliRunner

from synth.cli import app
from synth.records import Retrieval, ReviewEvent, UserError, Verdict, new_id
from synth.stages.review import Audit, apply_policy, audits_of
from synth.store import reviews
from synth.store.connection import Store
from synth.store.console import query
from tests.review_app.seeding import add_samples
from tests.review_app.words import RANDOM, TRIAGED, ids, negatives_of, say, word

LIMIT = 0.1  # asks for 29 without an error, 46 with one


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with 450 samples of one stratum; some 90 are of its random part."""
    path = tmp_path_factory.mktemp("filled") / "store.duckdb"
    add_samples(Store.create(path), [f"When does harbour {number} open?" for number in range(450)])
    return path


@pytest.fixture
def store(tmp_path: Path, filled: Path) -> Store:
    """A store with those samples."""
    copyfile(filled, tmp_path / "store.duckdb")
    return Store.open(tmp_path / "store.duckdb")


@pytest.fixture
def in_order(store: Store) -> list[UUID]:
    """The random part, in the order in which it is shown."""
    found = ids(store, RANDOM)
    assert len(found) >= 50
    return found


def audited(store: Store) -> Audit:
    [audit] = audits_of(store, LIMIT)
    return audit


def counted(store: Store) -> tuple[int, int]:
    return audited(store).gate.num_read, audited(store).gate.errors


def statuses(store: Store) -> dict[tuple[str, str | None], int]:
    rows = query(store, "SELECT status, decided_by, count(*) AS num FROM statuses GROUP BY ALL").to_pylist()
    return {(row["status"], row["decided_by"]): row["num"] for row in rows}


def test_what_is_left_of_a_stratum_goes_in_when_enough_of_its_random_part_was_right(
    store: Store, in_order: list[UUID]
) -> None:
    say(store, in_order[:28])
    shut = apply_policy(store, "audited", max_error=LIMIT)
    assert shut.counts == {("retrieval", "left", "too little read, or too many errors"): 422}
    assert (shut.num_new, shut.audits[0].gate.num_more) == (0, 1)
    say(store, in_order[28:29])
    outcomes = [apply_policy(store, "audited", max_error=LIMIT) for _ in range(2)]
    assert [outcome.num_new for outcome in outcomes] == [421, 0]
    assert outcomes[0].counts == {("retrieval", "approve", "0 wrong of 29 read; 0.1 allowed"): 421}
    assert statuses(store) == {("approved", "ann"): 29, ("approved", "policy:audited"): 421}
    [run] = query(store, "SELECT config FROM runs WHERE kind = 'review' ORDER BY started_at LIMIT 1").to_pylist()
    assert json.loads(run["config"]) == {"policy": "audited", "max_error": LIMIT}


def test_an_approval_by_the_policy_is_no_reading(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:29])
    apply_policy(store, "audited", max_error=LIMIT)
    assert counted(store) == (29, 0)


def test_only_what_was_read_without_a_gap_counts(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:10] + in_order[11:40])
    assert counted(store) == (10, 0)
    assert audited(store).stratum.read.num_out_of_turn == 29
    say(store, in_order[10:11])
    assert counted(store) == (40, 0)


def test_what_was_shown_because_it_is_suspicious_does_not_count(store: Store, in_order: list[UUID]) -> None:
    say(store, ids(store, TRIAGED)[:40], Verdict.REJECT)
    assert counted(store) == (0, 0)
    assert audited(store).stratum.num_random == len(in_order)


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.SKIP, Verdict.FLAG])
def test_what_people_rejected_skipped_or_flagged_is_an_error(
    store: Store, in_order: list[UUID], verdict: Verdict
) -> None:
    say(store, in_order[:5])
    say(store, in_order[5:6], verdict)
    assert counted(store) == (6, 1)


def test_a_skip_that_was_undone_is_no_reading_and_one_that_somebody_else_decided_no_error(
    store: Store, in_order: list[UUID]
) -> None:
    skip = word(in_order[0], Verdict.SKIP)
    reviews.add_reviews(store, [skip])
    reviews.add_reviews(store, [word(in_order[0], Verdict.SKIP, undoes=skip.review_id)])
    assert counted(store) == (0, 0)
    say(store, in_order[:1], Verdict.SKIP, "ann")
    say(store, in_order[:1], Verdict.APPROVE, "bob")
    assert counted(store) == (1, 0)


def test_what_people_disagree_on_is_an_error(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:1], Verdict.APPROVE, "ann")
    say(store, in_order[:1], Verdict.REJECT, "bob")
    assert counted(store) == (1, 1)


def test_what_was_approved_after_an_edit_is_an_error_of_the_operation_that_made_the_sample(
    store: Store, in_order: list[UUID]
) -> None:
    edit = Retrieval("When does the harbour open on Sundays?", ("The harbour opens at six.",))
    reviews.add_reviews(store, [word(in_order[0], edited_id=new_id(), edit=edit)])
    read = audited(store).stratum
    assert (read.operation, read.read.num_mended, read.read.errors) == ("query", 1, 1)


def test_what_was_approved_without_one_of_its_negatives_is_an_error(store: Store, in_order: list[UUID]) -> None:
    drop = word(in_order[0], Verdict.PARTIAL, negative_id=negatives_of(store, in_order[0])[0])
    reviews.add_reviews(store, [drop, word(in_order[0])])
    assert (audited(store).stratum.read.num_mended, *counted(store)) == (1, 1, 1)


def test_what_another_policy_decided_is_neither_counted_nor_decided_anew(store: Store, in_order: list[UUID]) -> None:
    others = [("policy:consistent", each, Verdict.APPROVE) for each in in_order[:20]]
    others.append(("policy:consistent", in_order[-1], Verdict.REJECT))
    reviews.add_reviews(
        store, [ReviewEvent(new_id(), who, each, each, said, reviewer_kind="policy") for who, each, said in others]
    )
    say(store, in_order[:35])
    assert counted(store) == (15, 0)  # though people read the 20 as well
    say(store, in_order[35:49])
    apply_policy(store, "audited", max_error=LIMIT)
    assert statuses(store)["rejected", "policy:consistent"] == 1


def test_what_a_person_flagged_or_changed_is_left_to_people(store: Store, in_order: list[UUID]) -> None:
    say(store, in_order[:29])
    flagged, changed = ids(store, TRIAGED)[:2]
    promotion = word(changed, Verdict.PROMOTE, negative_id=negatives_of(store, changed)[0], edited_id=new_id())
    reviews.add_reviews(store, [word(flagged, Verdict.FLAG), promotion])
    outcome = apply_policy(store, "audited", max_error=LIMIT)
    assert outcome.counts["retrieval", "left", "changed or flagged by people"] == 2
    assert statuses(store)["pending", None] == 2


def test_a_person_wins_over_it_and_it_warns_when_it_would_not_approve_any_more(
    store: Store, in_order: list[UUID]
) -> None:
    say(store, in_order[:29])
    assert apply_policy(store, "audited", max_error=LIMIT).warning == ""
    say(store, in_order[29:31], Verdict.REJECT, "bob")
    outcome = apply_policy(store, "audited", max_error=LIMIT)
    assert statuses(store)["rejected", "bob"] == 2
    assert outcome.warning == (
        "approved unread before, and would not be now (guide query 419): look at them with synth review --queue audit"
    )
    assert outcome.audits[0].gate.num_more == 61 - 31


def test_a_gate_that_is_shut_says_why(store: Store, in_order: list[UUID]) -> None:
    [small] = audits_of(store, 0.01)
    assert (small.state, audited(store).state) == ("too small", "read on")
    say(store, in_order[:5])
    say(store, in_order[5:6], Verdict.REJECT)
    assert audited(store).state == "failing"  # 1 of 6 is more than a tenth
    say(store, in_order[6:46])
    assert audited(store).state == "open"


def test_a_share_that_reading_cannot_show_is_refused_of_an_empty_store_too(tmp_path: Path) -> None:
    (tmp_path / "synth.toml").touch()
    Store.create(tmp_path / "store.duckdb")
    asked = ["review", "--policy", "audited", "--max-error", "0", "--workspace", str(tmp_path)]
    outcome = CliRunner().invoke(app, asked)
    assert outcome.exit_code != 0
    with pytest.raises(UserError, match="share"):
        audits_of(Store.open(tmp_path / "store.duckdb"), 0.0)


def test_the_command_says_what_was_read_what_was_wrong_and_how_many_more(
    tmp_path: Path, store: Store, in_order: list[UUID]
) -> None:
    (tmp_path / "synth.toml").touch()
    say(store, in_order[:29])
    say(store, in_order[29:30], Verdict.REJECT)
    asked = ["review", "--policy", "audited", "--max-error", "0.1", "--workspace", str(tmp_path)]
    printed = CliRunner().invoke(app, asked).stdout
    [row] = [line.split() for line in printed.splitlines() if line.split()[:2] == ["guide", "query"]]
    assert row == ["guide", "query", "420", str(len(in_order)), "30", "1", "14.9%", "16", "read", "on"]
    [audit] = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["audits"]
    assert (audit["read"], audit["wrong"], audit["rejected"], audit["more"]) == (30, 1, 1, 16)

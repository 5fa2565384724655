"""Which run a report is of."""

import pytest

from synth.records import UserError
from synth.store import runs
from synth.store.connection import Store
from synth.store.made import Finished
from synth.store.reported_runs import failed_since, find_reported_run, mined_unreported
from tests.synth.stages.mining_runs import a_mine_run, asked, mined, with_corpora
from tests.synth.stages.reporting import a_run, passage, with_sources


@pytest.mark.parametrize("named", [None, "last"])
def test_last_is_the_latest_run_of_both_kinds_that_brought_anything_whatever_ran_since(
    store: Store, named: str | None
) -> None:
    with_sources(store)
    with_corpora(store)
    with pytest.raises(UserError, match="no run to tell about yet; begin with `synth generate` or `synth mine`"):
        find_reported_run(store, named)
    with runs.recorded(store, "mine", {}) as empty:
        pass
    assert find_reported_run(store, named) == (empty.run_id, "mine")  # none brought anything
    generated = a_run(store, Finished(passage(), []))
    assert find_reported_run(store, named) == (generated, "generate")
    [sample] = asked(store, "who rows?")
    found = a_mine_run(store, mined(sample, status="none"))
    for kind in ("mine", "generate", "check"):
        with pytest.raises(UserError, match="a wrong key"), runs.recorded(store, kind, {}):
            raise UserError("a wrong key")
    assert find_reported_run(store, named) == find_reported_run(store, str(found)) == (found, "mine")
    assert find_reported_run(store, named, ["generate"]) == (generated, "generate")


def test_a_run_of_another_kind_than_what_is_asked_for_is_refused(store: Store) -> None:
    with runs.recorded(store, "mine", {}) as run, runs.recorded(store, "check", {}) as check:
        pass
    with pytest.raises(UserError, match="of the kind mine, and what is asked for is of `synth generate`"):
        find_reported_run(store, str(run.run_id), ["generate"])
    with pytest.raises(UserError, match="of the kind check; only runs of `synth generate` or `synth mine` have"):
        find_reported_run(store, str(check.run_id))


def test_a_later_run_that_failed_and_brought_nothing_is_told_of_its_kinds_alone(store: Store) -> None:
    with_sources(store)
    run_id = a_run(store, Finished(passage(), []))
    assert failed_since(store, run_id) is None
    with pytest.raises(UserError, match="no such folder"), runs.recorded(store, "mine", {}) as run:
        raise UserError("no such folder")
    failed = failed_since(store, run_id)
    assert failed is not None and (failed["run_id"], failed["reason"]) == (run.run_id, "no such folder")
    assert failed_since(store, run.run_id) is None
    assert failed_since(store, run_id, ["generate"]) is None


def test_a_run_that_mined_for_classes_or_pairs_has_no_report_and_is_passed_over(store: Store) -> None:
    with runs.recorded(store, "mine", {"task": "retrieval"}) as retrieval:
        pass
    with runs.recorded(store, "mine", {"task": "sts"}) as pairs:
        pass
    assert find_reported_run(store, None) == (retrieval.run_id, "mine")
    with pytest.raises(
        UserError, match=f"mined for sts, of which there is no report; see synth runs show {pairs.run_id}"
    ):
        find_reported_run(store, str(pairs.run_id))


def test_a_later_run_that_mined_for_classes_or_pairs_is_known_where_mine_runs_are_asked_for(store: Store) -> None:
    with runs.recorded(store, "mine", {"task": "sts"}) as earlier:
        pass
    with pytest.raises(UserError, match=f"run {earlier.run_id} mined for sts, of which there is no report"):
        find_reported_run(store, "last")
    with pytest.raises(UserError, match="no run to tell about yet; begin with `synth generate`"):
        find_reported_run(store, "last", ["generate"])
    with runs.recorded(store, "mine", {}) as retrieval:
        pass
    assert mined_unreported(store, retrieval.run_id) is None
    with runs.recorded(store, "mine", {"task": "classification"}) as later:
        pass
    assert mined_unreported(store, retrieval.run_id) == {"run_id": later.run_id, "task": "classification"}
    assert mined_unreported(store, retrieval.run_id, ["generate"]) is None

"""A cross-encoder as judge, and how far two judges agree."""

import json
import sys
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.records import Retrieval, StoreLocked, UserError, Verdict, key_of, new_id
from synth.stages.judge.agreement import agreements, kappa
from synth.stages.judge.encoder import EncoderOutcome, Thresholds, judge_by_encoder, plan_encoder
from synth.store.connection import Store
from synth.store.console import query
from synth.store.judgements import Scope
from tests.chat_server import ChatServer
from tests.conftest import REPOSITORY
from tests.mining.small_models import save_cross_encoder
from tests.synth.stages.judging import GRADES, SAMPLES, by_the_rule, fill, plan, run
from tests.synth.stages.releasing import give_negatives, judge

ALDER, ELM, CHINESE = SAMPLES
USUAL = Thresholds(0.1, 0.5, 0.9)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_cross_encoder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def filled(store: Store) -> Store:
    fill(store)
    return store


def by_encoder(store: Store, model: str, thresholds: Thresholds = USUAL, limit: int | None = None) -> EncoderOutcome:
    made = plan_encoder(store, model, thresholds, (), limit=limit, device="cpu")
    return judge_by_encoder(store, made, on_progress=lambda _: None)


def test_every_passage_gets_the_relevance_that_the_model_gives_and_the_grade_of_the_thresholds(
    filled: Store, model: str
) -> None:
    outcome = by_encoder(filled, model, Thresholds(0.3, 0.45, 0.6))
    assert (outcome.num_samples, outcome.num_judgements, outcome.num_known) == (3, len(GRADES), 0)
    rows = query(filled, "SELECT query, text, grade, relevance, judge_kind, version FROM judgements").to_pylist()
    encoder = plan_encoder(filled, model, USUAL, (), limit=None, device="cpu").encoder
    expected = encoder.relevances([(row["query"], row["text"]) for row in rows])
    for row, relevance in zip(rows, expected, strict=True):
        assert row["relevance"] == pytest.approx(float(relevance), abs=0.01)
        assert row["grade"] == sum(row["relevance"] >= least for least in (0.3, 0.45, 0.6))
        assert (row["judge_kind"], row["version"]) == ("encoder", encoder.fingerprint)
    [told] = query(filled, "SELECT kind, model, device FROM runs").to_pylist()
    assert told == {"kind": "judge", "model": model, "device": encoder.description}
    assert by_encoder(filled, model, Thresholds(0.3, 0.45, 0.6)).num_samples == 0


def test_other_thresholds_grade_what_is_there_and_compute_nothing(
    filled: Store, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mining.rerank import Reranker

    by_encoder(filled, model)
    before = query(filled, "SELECT text, relevance FROM judgements ORDER BY ALL").to_pylist()
    computed: list[object] = []
    real = Reranker.relevances
    monkeypatch.setattr(Reranker, "relevances", lambda self, pairs: computed.extend(pairs) or real(self, pairs))
    give_negatives(filled, ALDER, [("Mined since.", "mined", 9)])
    outcome = by_encoder(filled, model, Thresholds(0.0, 0.0, 0.0))
    assert (outcome.num_known, outcome.num_judgements) == (len(GRADES), len(GRADES) + 1)
    assert computed == [(ALDER, "Mined since.")]
    after = query(
        filled, "SELECT text, relevance FROM judgements WHERE text <> 'Mined since.' ORDER BY ALL"
    ).to_pylist()
    assert after == before
    assert {row["grade"] for row in query(filled, "FROM judgements").to_pylist()} == {3}
    back = by_encoder(filled, model)  # the first thresholds again count again
    assert back.num_known == len(GRADES) + 1


def test_a_negative_is_to_be_promoted_only_if_it_comes_no_later_than_the_positive(filled: Store, model: str) -> None:
    by_encoder(filled, model, Thresholds(0.0, 0.0, 0.0))
    rows = query(filled, "SELECT suggestion, relevance, positive_relevance, text FROM suggestions").to_pylist()
    assert len(rows) == 7  # all negatives
    for row in rows:
        as_good = row["relevance"] >= row["positive_relevance"]
        if "worse: " in row["text"]:
            assert row["suggestion"] == ("not_worse" if as_good else "drop_negative")
        else:
            assert row["suggestion"] == ("promote" if as_good else "drop_negative")


def test_a_limit_takes_so_many_samples_and_the_next_run_the_others(filled: Store, model: str) -> None:
    assert by_encoder(filled, model, limit=2).num_samples == 2
    assert by_encoder(filled, model).num_samples == 1
    judge(filled, ELM, Verdict.REJECT)
    give_negatives(filled, ALDER, [("Mined since.", "mined", 9)])
    give_negatives(filled, ELM, [("Mined since.", "mined", 9)])
    assert by_encoder(filled, model).num_samples == 1


@pytest.mark.parametrize(("limit", "scope"), [(1, "open"), (None, "reviewed"), (None, "suggested")])
def test_other_thresholds_grade_all_that_was_scored_whichever_new_ones_are_taken(
    filled: Store, model: str, limit: int | None, scope: Scope
) -> None:
    by_encoder(filled, model, limit=2)
    scored = query(filled, "SELECT DISTINCT query FROM judgements").to_pylist()
    num_scored = sum(len(SAMPLES[row["query"]]) for row in scored)
    judge(filled, scored[0]["query"], Verdict.REJECT)  # agreement with people counts it still
    made = plan_encoder(filled, model, Thresholds(0.0, 0.0, 0.0), (), limit=limit, device="cpu", scope=scope)
    outcome = judge_by_encoder(filled, made, on_progress=lambda _: None)
    assert (outcome.num_known, outcome.num_samples) == (num_scored, 1 if scope == "open" else 0)
    assert {row["grade"] for row in query(filled, "FROM judgements").to_pylist()} == {3}
    [counts] = query(filled, "SELECT counts FROM runs ORDER BY started_at DESC LIMIT 1").to_pylist()
    assert json.loads(counts["counts"])["known"] == num_scored
    again = judge_by_encoder(filled, made, on_progress=lambda _: None)
    assert again.num_known == 0


def test_what_was_scored_of_an_earlier_revision_is_not_graded_again(filled: Store, model: str) -> None:
    by_encoder(filled, model)
    judge(filled, ELM, Verdict.APPROVE, edited_id=new_id(), edit=Retrieval(ELM, ("Elm was built by pigs.",)))
    outcome = by_encoder(filled, model, Thresholds(0.0, 0.0, 0.0))
    assert (outcome.num_known, outcome.num_samples) == (len(GRADES) - len(SAMPLES[ELM]), 1)


JUDGING = """
import sys
from pathlib import Path
from uuid import UUID
from synth.store.locks import sole
with sole(Path(sys.argv[1]), UUID(sys.argv[2]), "judging"):
    print("here", flush=True)
    sys.stdin.read()
"""


def test_two_sets_of_thresholds_at_once_are_refused(filled: Store, model: str) -> None:
    encoder = plan_encoder(filled, model, USUAL, (), limit=None, device="cpu").encoder
    key = key_of("judge", model, encoder.fingerprint)  # has no thresholds
    command = [sys.executable, "-c", JUDGING, str(filled.path), str(key)]
    with Popen(command, stdin=PIPE, stdout=PIPE, cwd=REPOSITORY) as other:
        assert other.stdin is not None and other.stdout is not None and other.stdout.readline() == b"here\n"
        with pytest.raises(StoreLocked, match="judging by the same cross-encoder"):
            by_encoder(filled, model)
        other.stdin.close()


def test_what_another_model_of_the_same_name_found_is_not_graded_again(filled: Store, model: str) -> None:
    by_encoder(filled, model)
    with filled.write() as cursor:
        cursor.execute("UPDATE judgement SET version = 'as it was before'")
    outcome = by_encoder(filled, model, Thresholds(0.0, 0.0, 0.0))
    assert (outcome.num_known, outcome.num_judgements, outcome.num_samples) == (0, len(GRADES), 3)


@pytest.mark.parametrize("values", [(0.5, 0.4, 0.9), (0.1, 0.9, 0.5), (-0.1, 0.5, 0.9), (0.1, 0.5, 1.5)])
def test_thresholds_out_of_order_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(UserError, match="none above the next"):
        Thresholds(*values)


async def test_two_judges_are_compared_passage_by_passage(filled: Store, model: str, tmp_path: Path) -> None:
    by_encoder(filled, model, Thresholds(0.0, 1.0, 1.0))  # grade 1 for everything
    assert agreements(filled) == []
    async with ChatServer(by_the_rule) as server:
        await run(filled, plan(filled, tmp_path, server.base_url))
    [found] = agreements(filled)
    assert (found.judge, found.other) == (model, "test-judge")
    equal = sum(grade == 1 for grade in GRADES.values())
    assert (found.num_passages, found.num_equal) == (len(GRADES), equal)
    # the rule leaves out five passages; to the encoder every positive is one that does not answer
    assert found.num_split == 4 + 2
    assert found.kappa == pytest.approx(0.0, abs=0.2)
    assert {abs(each.grade - each.other_grade) for each in found.differences} == {2}
    assert {each.text for each in found.differences} <= {text for text, grade in GRADES.items() if grade == 3}
    assert all(each.other_reason.startswith("says ") and each.reason == "" for each in found.differences)


@given(
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 30), min_size=1),
    st.sampled_from([None, "quadratic"]),
)
def test_kappa_is_that_of_its_formula(counts: dict[tuple[int, int], int], weights: str | None) -> None:
    def weight(a: int, b: int) -> float:
        return float((a - b) ** 2) if weights else float(a != b)

    total = sum(counts.values())
    firsts = [sum(n for (a, _), n in counts.items() if a == grade) for grade in range(4)]
    others = [sum(n for (_, b), n in counts.items() if b == grade) for grade in range(4)]
    observed = sum(weight(a, b) * n for (a, b), n in counts.items()) / total
    expected = sum(weight(a, b) * firsts[a] * others[b] for a in range(4) for b in range(4)) / total**2
    found = kappa(counts, weights=weights)
    if len(set(chain(*counts))) == 1:
        assert found is None
    else:
        assert found == pytest.approx(1 - observed / expected)

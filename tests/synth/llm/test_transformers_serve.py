"""
The engine against an OpenAI-compatible server that others wrote: `transformers serve`, with a tiny random model.

What the model says is noise; what counts is that the server's own ways are understood: how it counts tokens, names its
model, cuts replies, ignores what it does not know, and fails.
"""

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from synth.llm.config import LLMConfig
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.llm.receipts import NoReply
from synth.recipes import RECIPES
from synth.recipes.recipe import Brief
from synth.records import BadReply, LLMError, Passage, Task, new_id, text_id
from tests.conftest import SAMPLE
from tests.synth.llm.asking import asking

pytestmark = pytest.mark.slow

MODEL = "tiny"
MAX_TOKENS = 24
RECIPE = RECIPES[Task.RETRIEVAL, "query"]
SCHEMA = RECIPE.schema
TEMPLATE = """\
{% for message in messages %}\
{% if message.role not in ["system", "user", "assistant"] %}{{ raise_exception("no such role") }}{% endif %}\
<|start|>{{ message.role }}
{{ message.content }}<|end|>
{% endfor %}\
{% if add_generation_prompt %}<|start|>assistant
{% endif %}"""


@dataclass(frozen=True)
class Served:
    base_url: str
    tokenizer: Any

    def config(self, **settings: Any) -> LLMConfig:
        settings = {"max_tokens": MAX_TOKENS, "max_retries": 1, "timeout_seconds": 60.0, **settings}
        return LLMConfig.of(self.base_url, settings.pop("model", MODEL), **settings)


def save_tiny_model(folder: Path) -> Any:
    """Two layers of noise, and a tokenizer of the bundled texts, which is returned."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = [path.read_text(encoding="utf-8") for path in sorted((SAMPLE / "documents").rglob("*.md"))]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config.do_sample = True  # without it the server ignores the temperature
    model.generation_config.suppress_tokens = [tokenizer.eos_token_id]  # no reply ends before max_tokens
    model.save_pretrained(folder)
    return tokenizer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_healthy(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 120
    while not is_healthy(port):
        said = log.read_text(errors="replace")[-2000:]
        assert server.poll() is None and time.monotonic() < until, said
        time.sleep(0.1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    tokenizer = save_tiny_model(folder / MODEL)
    port, log = free_port(), folder / "log"
    command = [Path(sys.executable).parent / "transformers", "serve", MODEL, "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env=offline, stdout=output, stderr=output)
        try:
            wait_until_healthy(port, server, log)
            yield Served(f"http://127.0.0.1:{port}/v1", tokenizer)
        finally:
            server.terminate()
            server.wait(timeout=30)


async def test_a_reply_comes_with_the_tokens_as_the_server_counts_them(served: Served, journal: Journal) -> None:
    messages = [{"role": "system", "content": "Write queries."}, *asking("猫 purr.")]
    async with Engine(served.config(), journal) as engine:
        reply = await engine.complete(messages, schema=SCHEMA)
        (receipt,) = engine.take_receipts()
        usage = engine.usage
    counted = served.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert (reply.tokens_in, reply.tokens_out) == (len(counted), MAX_TOKENS)
    assert (usage.tokens_in, usage.tokens_out) == (len(counted), MAX_TOKENS)
    assert reply.text.strip() and reply.seconds > 0
    assert reply.model == f"{MODEL}@main"  # it names a revision that nobody asked for
    assert receipt.call_id == reply.call_id and receipt.fault is None


async def test_a_reply_that_max_tokens_cut_is_seen_as_cut(served: Served, journal: Journal) -> None:
    async with Engine(served.config(max_tokens=3), journal) as engine:
        reply = await engine.complete(asking("Say a lot."))
    assert (reply.finish_reason, reply.tokens_out) == ("length", 3)


async def test_eight_at_once_are_all_served_and_a_second_run_asks_nothing(served: Served, journal: Journal) -> None:
    async def ask_all() -> tuple[list[str], int, int]:
        async with Engine(served.config(), journal) as engine:
            asked = (engine.complete(asking(f"passage {number}"), schema=SCHEMA) for number in range(8))
            replies = await asyncio.gather(*asked)
            assert not engine.usage.retries
            return [reply.text for reply in replies], engine.usage.requests, engine.usage.replayed

    texts, requests, replayed = await ask_all()
    assert (requests, replayed) == (8, 0) and len(journal) == 8 and len(set(texts)) == 8
    assert await ask_all() == (texts, 0, 8)


@pytest.mark.parametrize("setting", ["auto", "json_schema", "json_object"])
async def test_it_takes_any_format_and_keeps_to_none(served: Served, journal: Journal, setting: Any) -> None:
    async with Engine(served.config(response_format=setting), journal) as engine:
        reply = await engine.complete(asking("Reply in JSON."), schema=SCHEMA)
        assert engine.usage.requests == 1
    with pytest.raises(BadReply):
        RECIPE.parse(reply.text, Passage(text_id(""), "", "", new_id()), Brief(1))
    assert (journal.folder / "formats.json").is_file() == (setting == "auto")


async def test_another_model_than_the_one_it_has_is_an_error_that_names_both(served: Served, journal: Journal) -> None:
    async with Engine(served.config(model="gpt-9"), journal) as engine:
        with pytest.raises(LLMError, match=rf"pinned to '{MODEL}'; requested 'gpt-9'.*check model"):
            await engine.complete(asking("Hello."), schema=SCHEMA)
    assert len(journal) == 0


async def test_a_request_that_breaks_the_server_does_not_stop_the_run(served: Served, journal: Journal) -> None:
    """What the template cannot write is a 500 without a word, after which the server drops the connection."""
    async with Engine(served.config(), journal) as engine:
        await engine.complete(asking("Hello."), schema=SCHEMA)
        with pytest.raises(NoReply, match="500: Internal Server Error"):
            await engine.complete([{"role": "critic", "content": "Hello."}], schema=SCHEMA)
        await engine.complete(asking("Hello again."), schema=SCHEMA)
    assert len(journal) == 2

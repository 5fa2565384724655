"""
A small OpenAI-compatible embeddings server for the tests: real HTTP on loopback in a thread of its own, vectors by
function, refusals as the servers that people run have them.

In a test:   with EmbeddingServer(most_texts=32) as server: ... server.base_url
"""

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

Answer = tuple[int, Any] | web.Response | None
TOKEN = 4  # characters


def vector_of(text: str, dimension: int = 8) -> NDArray[np.float32]:
    """A stand-in for a model: the same text, the same direction, of no particular length."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=dimension).astype(np.float32)


class EmbeddingServer:
    """
    POST /v1/embeddings on 127.0.0.1, on a port of the system's choice.

    Args:
        model: the vector of a text; it may be replaced while the server runs.
        most_texts: a request with more gets 413, as from Text Embeddings Inference.
        most_tokens: a text with more, at four characters each, gets 400, as from OpenAI.
        key: any other gets 401, and hears its own again.
        takes_base64: without, `encoding_format` base64 gets 400, as from older vLLMs, and vectors are lists.
        latency: seconds that each request takes.
        change: has the last word on the body of a reply.
        answer: may answer the number-th request (from 1) with a status and a body, or a response, before anything else.
    """

    def __init__(
        self,
        model: Callable[[str], NDArray[np.float32]] = vector_of,
        *,
        most_texts: int = 2048,
        most_tokens: int = 8192,
        key: str = "",
        takes_base64: bool = True,
        latency: float = 0.0,
        change: Callable[[dict[str, Any]], Any] = lambda body: body,
        answer: Callable[[int, dict[str, Any]], Answer] = lambda number, body: None,
    ) -> None:
        self.model, self.latency = model, latency
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.base_url = ""
        self._most_texts, self._most_tokens, self._key = most_texts, most_tokens, key
        self._takes_base64, self._change, self._answer = takes_base64, change, answer
        self._under_way = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "EmbeddingServer":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def sizes(self) -> list[int]:
        """How many texts each request had."""
        return [len(body["input"]) for body in self.asked]

    @property
    def texts(self) -> list[str]:
        """All texts that were ever sent."""
        return [text for body in self.asked for text in body["input"]]

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/embeddings", self._embeddings)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=256).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # whoever still waits for a slow answer
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await asyncio.sleep(self.latency)
            answer = self._answer(len(self.asked), body) or self._refusal(request, body)
        finally:
            self._under_way -= 1
        if isinstance(answer, web.Response):
            return answer
        status, content = answer or (200, self._change(self._reply(body)))
        return web.json_response(content, status=status)

    def _refusal(self, request: web.Request, body: dict[str, Any]) -> Answer:
        texts: Sequence[str] = body["input"]
        said = request.headers.get("Authorization")
        if self._key and said != f"Bearer {self._key}":
            return 401, {"error": {"message": f"Incorrect API key provided: {said}", "code": "invalid_api_key"}}
        if body["encoding_format"] == "base64" and not self._takes_base64:
            return 400, {"object": "error", "message": "base64 encoding is not currently supported", "code": 400}
        if len(texts) > self._most_texts:
            error = f"batch size {len(texts)} > maximum allowed batch size {self._most_texts}"
            return 413, {"error": error, "error_type": "Validation"}
        if "" in texts:
            return 400, {"error": {"message": "input cannot be an empty string", "type": "invalid_request_error"}}
        if any(len(text) > TOKEN * self._most_tokens for text in texts):
            message = f"This model's maximum context length is {self._most_tokens} tokens, however you requested more"
            return 400, {"error": {"message": message, "type": "invalid_request_error", "code": None}}
        return None

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        vectors = [self.model(text) for text in body["input"]]
        data = [
            {"object": "embedding", "index": index, "embedding": self._written(vector[: body.get("dimensions")])}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(len(text) // TOKEN for text in body["input"])
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}

    def _written(self, vector: NDArray[np.float32]) -> str | list[float]:
        if not self._takes_base64:
            return [float(number) for number in vector]
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()

"""
The clients of the benchmark that run in Skiff's own environment: raw aiohttp, the openai package as it comes, Skiff.

One process each, started by engine.py with a job (engine_job.py).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path

from engine_job import MODEL, Job, Prepared, Tally, measured

FLUSH = 200  # replies; `synth generate` writes its receipts into the store about as often
Ask = Callable[[str], Awaitable[str]]


async def _asked_by_workers(job: Job, tally: Tally, ask: Ask, expected: tuple[type[Exception], ...]) -> None:
    """As many workers as may be in flight, each asking for the next row."""
    rows = job.numbered()

    async def worker() -> None:
        for number, prompt in rows:
            try:
                text = await ask(prompt)
            except expected as error:
                tally.failed(error)
            else:
                tally.reply(number, text)

    async with _in_time(job), asyncio.TaskGroup() as group:
        for _ in range(job.in_flight):
            group.create_task(worker())


@asynccontextmanager
async def _in_time(job: Job) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(job.seconds):
            yield
    except TimeoutError:
        if job.seconds is None:
            raise


def raw_aiohttp(job: Job, tally: Tally, *, retries: int) -> Prepared:
    """What any client must do at least: write the body, post it, read and parse the reply."""
    import aiohttp
    import uvloop

    broken = (aiohttp.ClientError, ValueError)

    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=job.in_flight)) as session:
            url = f"{job.base_url}/chat/completions"
            headers = {"content-type": "application/json", "authorization": "Bearer none"}

            async def post(prompt: str) -> tuple[str, float]:
                body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "temperature": 1.0}
                async with session.post(url, data=json.dumps(body).encode(), headers=headers) as response:
                    content = await response.read()
                    if response.status == 429:
                        return "", float(response.headers["retry-after"])
                    response.raise_for_status()
                return json.loads(content)["choices"][0]["message"]["content"], 0.0

            async def ask(prompt: str) -> str:
                for attempt in range(retries + 1):
                    try:
                        text, seconds = await post(prompt)
                    except broken:
                        if attempt == retries:
                            raise
                        continue
                    if text:
                        return text
                    if attempt < retries:
                        await asyncio.sleep(seconds)
                raise ValueError("refused")

            await _asked_by_workers(job, tally, ask, broken)

    return lambda: uvloop.run(run())


def openai_sdk(job: Job, tally: Tally, *, retries: int) -> Prepared:
    """The openai package as it comes."""
    import openai

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=job.base_url, api_key="none", max_retries=retries) as client:

            async def ask(prompt: str) -> str:
                reply = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": prompt}], temperature=1.0
                )
                return reply.choices[0].message.content or ""

            await _asked_by_workers(job, tally, ask, (openai.OpenAIError, ValueError))

    return lambda: asyncio.run(run())


def skiff(job: Job, tally: Tally) -> Prepared:
    """Skiff's engine with its journal, as the stages use it."""
    import aiohttp  # noqa: F401 - the engine imports what it needs when it opens; others have it beforehand
    import uvloop

    from synth.commands.stopping import rare_garbage
    from synth.llm import client  # noqa: F401
    from synth.llm.config import LLMConfig
    from synth.llm.engine import Engine
    from synth.llm.journal import Journal
    from synth.records import SkiffError

    replies, rows = count(1), job.numbered()
    config = LLMConfig.of(job.base_url, MODEL, concurrency=job.in_flight)

    async def run() -> None:
        with Journal(Path(job.folder) / "journal") as journal:
            async with Engine(config, journal) as engine:

                async def one() -> bool:  # as `synth generate` does
                    for number, prompt in rows:
                        try:
                            reply = await engine.complete([{"role": "user", "content": prompt}])
                        except SkiffError as error:
                            tally.failed(error)
                        else:
                            tally.reply(number, reply.text)
                        if next(replies) % FLUSH == 0:
                            engine.take_receipts()
                        return True
                    return False

                async with _in_time(job):
                    await engine.crew.work(one)

    def as_the_command() -> None:
        with rare_garbage():
            uvloop.run(run())

    return as_the_command


CLIENTS: dict[str, Callable[[Job, Tally], Prepared]] = {
    "aiohttp": partial(raw_aiohttp, retries=10),
    "aiohttp, no retry": partial(raw_aiohttp, retries=0),
    "openai": partial(openai_sdk, retries=2),
    "openai, 10 retries": partial(openai_sdk, retries=10),
    "skiff": skiff,
}

if __name__ == "__main__":
    measured(CLIENTS)

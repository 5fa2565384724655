"""The test servers in processes or threads of their own."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chat_server import ChatServer, Messages
from tests.conftest import REPOSITORY


@contextmanager
def serving(folder: Path, *options: str, program: str = "chat_server.py") -> Iterator[str]:
    """A server in a process of its own; its base_url."""
    port_file = folder / "port"
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tests" / program), "--port-file", port_file, *options]
    )
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port_file.read_text()}/v1"
    finally:
        process.kill()
        process.wait()


class Served:
    """A model that replies as the test says, behind a real server on a loop in a thread of its own."""

    def __init__(self, reply: Callable[[Messages], str]) -> None:
        self.reply = reply
        self.server = ChatServer(self._answer)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def _answer(self, messages: Messages) -> str:
        return self.reply(messages)

    def __enter__(self) -> "Served":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.__aenter__(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.server.__aexit__(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

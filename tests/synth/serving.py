"""The test servers in processes of their own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

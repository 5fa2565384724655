"""`synth mine` in a process that kills itself at a stated point, and what such processes leave in the caches."""

import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# For the server that the processes are forked from: importing them takes longer than mining.
SLOW_IMPORTS = ["sentence_transformers", "mining.relevances", "mining.scan", "synth.cli", "synth.stages.mine.run"]
EVENTS = {"before": "open", "within": "os.rename"}  # as sys.audit calls them
SHARD = re.compile(r"/[0-9a-f]{32}/[^/]*\.part$")  # being written, in the folder of a cache
HEADER = 32  # bytes of a shard before its arrays


@dataclass(frozen=True)
class Point:
    """
    Where a process dies: "before" it opens the file of its shard of this number, so while it encodes or scores what
    would be in there; "within" that, all of it written but not under its name; or when it "stores" its block of this
    number, all of it inserted and nothing committed.
    """

    event: str
    number: int


def synth(arguments: list[str], log: Path, point: Point | None) -> None:
    """Run the command. One that is to die writes a shard for each block of texts, so that there are many points."""
    from mining import cache, relevances
    from synth.cli import main

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if point:
        cache.SHARD_SECONDS = relevances.SHARD_SECONDS = 0.0
        _arm(point)
    sys.argv = ["synth", *arguments]
    main()


def _arm(point: Point) -> None:
    from synth.store import minings

    left = point.number
    add_mined = minings.add_mined

    def reached() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event == EVENTS.get(point.event) and SHARD.search(str(arguments[0])):
            reached()

    def add_and_die(*arguments: Any) -> int:
        number = add_mined(*arguments)
        reached()
        return number

    if point.event == "stores":
        minings.add_mined = add_and_die  # type: ignore[assignment]
    else:
        sys.addaudithook(on_event)


def shards(folder: Path) -> dict[Path, int]:
    """Every shard of the caches, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.shard")}


def kept(folder: Path) -> dict[str, dict[bytes, bytes]]:
    """What each cache keeps of each key, bit for bit. Fails if two shards of one cache have the same key."""
    found: dict[str, dict[bytes, bytes]] = {}
    for path in sorted(shards(folder)):
        with path.open("rb") as file:
            file.seek(HEADER)
            keys, values = np.load(file), np.load(file)
        of_cache = found.setdefault(path.parent.name, {})
        for key, value in zip(keys, values, strict=True):
            assert key.tobytes() not in of_cache, f"{path.parent.name} has this key twice: {key.tobytes().hex()}"
            of_cache[key.tobytes()] = value.tobytes()
    return found

"""
One process per device: each loads the model once, is given shards of texts, and writes their vectors itself.

Only texts and a word that they are done go between the processes. A process that dies takes nothing with it: the shard
that it was at work on is given to another.
"""

import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import perf_counter

import numpy as np

from mining import MiningError
from mining.encode_model import ModelEncoder
from mining.shards import Keys, write_shard

WHAT = "embedding cache"


@dataclass(frozen=True, eq=False)
class Shard:
    """Texts that are kept together, and the blocks of them that are encoded one after the other."""

    keys_S: Keys
    blocks: list[list[str]]


@dataclass(eq=False)
class _Worker:
    device: str
    process: SpawnProcess
    connection: "Connection[Shard, float | str]"
    shard: Shard | None = None  # at work on


def encode_in_workers(
    encoder: ModelEncoder, home: Path, shards: Iterator[Shard], on_done: Callable[[Shard, float], None]
) -> list[str]:
    """
    Encode shards on all devices of an encoder at once; their vectors are then on disk.

    Args:
        encoder: with several devices.
        home: where shards are written.
        shards: taken one by one, as processes become free.
        on_done: told of each shard that was written, and of the seconds that encoding it took.

    Returns:
        A line for each process that died.

    Raises:
        MiningError: a process says why it cannot go on, or all of them died.
    """
    workers = [_start(encoder, device, home) for device in encoder.devices]
    returned: deque[Shard] = deque()
    died: list[str] = []
    try:
        while workers:
            for worker in workers:
                if worker.shard is None and (shard := returned.popleft() if returned else next(shards, None)):
                    _give(worker, shard)
            busy = {id(worker.connection): (worker, worker.shard) for worker in workers if worker.shard is not None}
            if not busy:
                return died
            for connection in wait([worker.connection for worker, _ in busy.values()]):
                worker, shard = busy[id(connection)]
                worker.shard = None
                seconds = _answer(worker)
                if seconds is not None:
                    on_done(shard, seconds)
                else:
                    returned.append(shard)
                    workers.remove(worker)
                    died.append(f"the process on {worker.device} died ({_end(worker)}): others did its work")
        raise MiningError(
            f"every process that encoded died, the last on {worker.device} ({_end(worker)}): see that there is memory "
            "for the model on each device, and run again; what was encoded before is kept"
        )
    finally:
        for worker in workers:
            _stop(worker)


def _start(encoder: ModelEncoder, device: str, home: Path) -> _Worker:
    import torch

    spawn = get_context("spawn")  # a fork would share the threads and the devices of this process
    ours, theirs = spawn.Pipe()
    num_threads = max(1, torch.get_num_threads() // len(encoder.devices))
    process = spawn.Process(target=_work, args=(theirs, encoder.on(device), home, num_threads), daemon=True)
    process.start()
    theirs.close()  # so that its death closes the pipe
    return _Worker(device, process, ours)


def _give(worker: _Worker, shard: Shard) -> None:
    worker.shard = shard
    with suppress(BrokenPipeError):  # it died: its pipe says so next
        worker.connection.send(shard)


def _answer(worker: _Worker) -> float | None:
    """Seconds that a shard took; None if the process died."""
    try:
        answer = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return None
    if isinstance(answer, str):
        raise MiningError(answer)
    return answer


def _end(worker: _Worker) -> str:
    worker.connection.close()
    worker.process.join()
    code = worker.process.exitcode or 0
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _stop(worker: _Worker) -> None:
    worker.connection.close()  # one that waits ends by itself
    if worker.shard is not None:
        worker.process.terminate()
    worker.process.join()


def _work(connection: "Connection[float | str, Shard]", encoder: ModelEncoder, home: Path, num_threads: int) -> None:
    """A process: encode what comes until nothing can come."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    torch.set_num_threads(num_threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            shard = connection.recv()
            try:
                encoder.model.get()  # not a part of the time that a shard takes
                started = perf_counter()
                vectors_SD = np.concatenate([encoder.encode(block) for block in shard.blocks])
                write_shard(home, shard.keys_S, vectors_SD, WHAT)
            except MiningError as error:
                connection.send(str(error))
                return
            connection.send(perf_counter() - started)

"""What people may want to know of their batches, and do about them, while nobody or another process waits for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synth.llm.batch_files import Batch, BatchFolder, Step, read_batches
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Rejected
from synth.llm.server import key_of
from synth.records import LLMError, UserError

if TYPE_CHECKING:
    from synth.llm.batch_server import BatchServer, Seen


@dataclass(frozen=True, slots=True)
class Watched:
    """The batches of a workspace as servers see them now, the oldest first. `notes`: which servers say nothing."""

    batches: list[Batch]
    notes: list[str]


async def watch_batches(root: Path, endpoints: Sequence[Endpoint]) -> Watched:
    """
    The batches in a workspace's folder `root`; endpoints are asked for those that are under way. Nothing is changed.

    Raises:
        SkiffError: a batch is damaged. UserError: the key of an endpoint is none.
    """
    batches: list[Batch] = []
    notes = []
    for kept in _kept(root):
        sent = [batch for batch in kept if batch.step is Step.SENT]
        endpoint = _endpoint_of(sent[0], endpoints) if sent else None
        now, fault = await _looked_at(sent, endpoint) if endpoint else ({}, None)
        batches += [now.get(batch.tag, batch) for batch in kept]
        if sent and endpoint is None:
            notes.append(f"{sent[0].base_url} is not asked, since [llm] names no endpoint there for {sent[0].model}")
        if fault:
            notes.append(f"{sent[0].base_url} does not say how its batches are: {fault}")
    return Watched(sorted(batches, key=lambda batch: (batch.created, batch.tag)), notes)


async def cancel_batch(root: Path, endpoints: Sequence[Endpoint], name: str) -> Batch | None:
    """
    Cancel a batch by its id, or by its tag as long as it has none. Returns it as it is then; None if nothing is left of
    it, since its server never got it or does not know it any more.

    Raises:
        UserError: there is no such batch to cancel. LLMError: the server does not do it.
        SkiffError: another process is about to send it.
    """
    found = [batch for kept in _kept(root) for batch in kept if name in (batch.batch_id, batch.tag)]
    if not found:
        raise UserError(f"there is no batch {name} in this workspace; `synth batches` lists those that there are")
    batch = found[0]
    endpoint = _endpoint_of(batch, endpoints)
    if batch.step is Step.FETCHED:
        raise UserError(f"batch {name} has come to its end, and its replies are fetched: there is nothing to cancel")
    if endpoint is None:
        raise UserError(
            f"batch {name} is for model {batch.model} at {batch.base_url}, which [llm] of synth.toml does not name: put"
            " it there, with api_key_env"
        )
    async with _server(endpoint) as server:
        try:
            if batch.step is Step.SENT:
                return await _cancel(BatchFolder(root, endpoint), server, batch)
            return await _give_up(BatchFolder(root, endpoint), server, batch)
        except Fault as fault:
            raise LLMError(
                f"the LLM server at {batch.base_url} does not cancel batch {name}: {fault}; if it is over, `synth"
                " generate --batch` fetches what there is of it"
            ) from None


async def _cancel(folder: BatchFolder, server: "BatchServer", batch: Batch) -> Batch | None:
    try:
        return _as_seen(batch, await server.cancel(batch.batch_id))
    except Rejected as fault:
        if fault.status != 404:
            raise
    with folder.held():
        folder.remove(folder[batch.tag])
    return None


async def _give_up(folder: BatchFolder, server: "BatchServer", batch: Batch) -> Batch | None:
    """One that the server has not got, as far as is known here."""
    with folder.held():
        batch = folder[batch.tag]
        seen = await server.find(batch.tag, batch.file_id, 0.0, batch.earlier) if batch.step is Step.SENDING else None
        if seen is None:
            folder.remove(batch)
            return None
        sent = folder.save(replace(_as_seen(batch, seen), step=Step.SENT, batch_id=seen.batch_id))
    return await _cancel(folder, server, sent)


async def _looked_at(sent: Sequence[Batch], endpoint: Endpoint) -> tuple[dict[str, Batch], Fault | None]:
    now = {}
    async with _server(endpoint) as server:
        for batch in sent:
            try:
                now[batch.tag] = _as_seen(batch, await server.look(batch.batch_id))
            except Fault as fault:
                return now, fault
    return now, None


def _server(endpoint: Endpoint) -> "BatchServer":
    from synth.llm.batch_server import BatchServer  # the openai package takes a second

    return BatchServer(endpoint, key_of(endpoint))


def _as_seen(batch: Batch, seen: "Seen") -> Batch:
    return replace(batch, status=seen.status, done=seen.done, failed=seen.failed)


def _endpoint_of(batch: Batch, endpoints: Sequence[Endpoint]) -> Endpoint | None:
    """Whose key the server may get: only that of an endpoint which the workspace names."""
    return next((each for each in endpoints if (each.base_url, each.model) == (batch.base_url, batch.model)), None)


def _kept(root: Path) -> list[list[Batch]]:
    """The batches on the disk, by server and model."""
    return [read_batches(folder) for folder in sorted(root.iterdir()) if folder.is_dir()] if root.is_dir() else []

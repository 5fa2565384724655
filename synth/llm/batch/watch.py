"""What people may want to know of their batches, and do about them, while nobody or another process waits for them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synth.llm.batch.files import Batch, BatchFolder, InUse, Step, kept_batches
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Rejected
from synth.llm.journal import Journal
from synth.llm.server import key_of
from synth.records import LLMError, UserError

if TYPE_CHECKING:
    from synth.llm.batch.server import BatchServer, Seen


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
    for folder, kept in kept_batches(root).items():
        sent = [batch for batch in kept if batch.step is Step.SENT]
        endpoint = _endpoint_of(folder, endpoints) if sent else None
        now, fault = await _looked_at(sent, endpoint) if endpoint else ({}, None)
        batches += [now.get(batch.tag, batch) for batch in kept]
        if sent and endpoint is None:
            notes.append(f"{sent[0].base_url} is not asked, since [llm] names no endpoint there for {sent[0].model}")
        if fault:
            notes.append(f"{sent[0].base_url} does not say how its batches are: {fault}")
    return Watched(sorted(batches, key=lambda batch: (batch.created, batch.tag)), notes)


async def cancel_batch(root: Path, endpoints: Sequence[Endpoint], name: str, journal: Path) -> Batch | None:
    """
    Cancel a batch by its id, or by its tag as long as it has none; if it has ended at its server by then, what was done
    is put into the journal. Returns the batch as it is then; None if nothing is left of it, since its server never got
    it or does not know it any more.

    Raises:
        UserError: there is no such batch to cancel. LLMError: the server does not do it.
        SkiffError: another process is about to send it; the journal cannot be written.
    """
    found = [(folder, batch) for folder, kept in kept_batches(root).items() for batch in kept]
    named = [(folder, batch) for folder, batch in found if name in (batch.batch_id, batch.tag)]
    if not named:
        raise UserError(f"there is no batch {name} in this workspace; `synth batches` lists those that there are")
    path, batch = named[0]
    endpoint = _endpoint_of(path, endpoints)
    if batch.step is Step.FETCHED:
        raise UserError(f"batch {name} has come to its end, and its replies are fetched: there is nothing to cancel")
    if endpoint is None:
        raise UserError(
            f"batch {name} is for model {batch.model} at {batch.base_url}, which [llm] of synth.toml does not name: put"
            " it there, with api_key_env"
        )
    folder = BatchFolder(root, endpoint)
    async with _server(endpoint) as server:
        try:
            if batch.step is not Step.SENT:
                sent = await _given_up(folder, server, batch)
                if sent is None:
                    return None
                batch = sent
            seen = await _cancelled(server, batch)
            try:
                with folder.held():
                    return await _settled(folder, server, endpoint, batch, seen, journal)
            except InUse:  # who is at work there waits for it, and fetches what there is
                return batch if seen is None else _as_seen(batch, seen)
        except Fault as fault:
            raise LLMError(
                f"the LLM server at {batch.base_url} does not cancel batch {name}: {fault}; if it is over, the"
                " command that handed it in, with --batch, fetches what there is of it"
            ) from None


async def _cancelled(server: "BatchServer", batch: Batch) -> "Seen | None":
    """What the server says of a batch that was cancelled, now or earlier, or is over; None if it does not know it."""
    try:
        return await server.cancel(batch.batch_id)
    except Rejected as fault:
        if fault.status == 404:
            return None
        seen = await server.look(batch.batch_id)
        if not seen.has_ended and seen.status != "cancelling":
            raise
        return seen


async def _settled(
    folder: BatchFolder, server: "BatchServer", endpoint: Endpoint, batch: Batch, seen: "Seen | None", journal: Path
) -> Batch | None:
    """What is left of a batch that was cancelled; fetched, if the server has come to its end with it."""
    from synth.llm.batch.steps import Steps

    if batch.tag not in folder:  # somebody has fetched it meanwhile
        return batch if seen is None else _as_seen(batch, seen)
    if seen is None or (seen.status == "failed" and not seen.results):  # nothing of it was asked
        folder.remove(folder[batch.tag])
        return None
    folder.save(_as_seen(folder[batch.tag], seen))
    if seen.has_ended:
        with Journal(journal) as replies, suppress(Fault):  # it is cancelled, and can be fetched another time
            await Steps(endpoint, folder, server, replies).advance(folder[batch.tag])
    return folder[batch.tag]


async def _given_up(folder: BatchFolder, server: "BatchServer", batch: Batch) -> Batch | None:
    """One that the server has not got, as far as is known here; None if it has none of it."""
    with folder.held():
        batch = folder[batch.tag]
        seen = await server.find(batch.tag, batch.file_id, 0.0, batch.earlier) if batch.step is Step.SENDING else None
        if seen is None:
            folder.remove(batch)
            return None
        return folder.save(replace(_as_seen(batch, seen), step=Step.SENT, batch_id=seen.batch_id))


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
    from synth.llm.batch.server import BatchServer  # the openai package takes a second

    return BatchServer(endpoint, key_of(endpoint))


def _as_seen(batch: Batch, seen: "Seen") -> Batch:
    return replace(batch, status=seen.status, done=seen.done, failed=seen.failed)


def _endpoint_of(folder: Path, endpoints: Sequence[Endpoint]) -> Endpoint | None:
    """Whose key the server may get: only that of an endpoint which the workspace names."""
    return next((each for each in endpoints if BatchFolder(folder.parent, each).path == folder), None)

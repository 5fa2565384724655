"""
The Batch API of OpenAI and of servers like it: half the price, the replies within a day.

A desk hands requests in as batches, waits for them over any number of runs, and puts every reply into the journal,
where a stage finds it as if it had asked online. What is known of a batch is on the disk before and after every step,
so that a process that is killed at any moment neither pays twice nor loses what is paid for.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

from synth.llm.batch.files import MOST_BYTES, MOST_REQUESTS, Batch, BatchFolder, Request, Step
from synth.llm.batch.results import Harvest, Replies
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Rejected, Transient, Unreachable
from synth.llm.journal import Reply
from synth.records import LLMError, Stopped

__all__ = ["Batch", "BatchDesk", "Request", "Settled"]

POLL_SECONDS = (5.0, 60.0)  # between two looks at the server: at first, and when nothing has happened for long
_GROWTH = 1.5
_GO_ON = "its batches go on, and it is asked again from time to time"
_NOT_ASKED = ("expired", "cancelled", "batch")  # causes of faults
_NO_BATCHES = (404, 405, 501)  # of a server that has no such API
_REMEDIES = {
    401: "set the environment variable {env} to a key that this server takes",
    402: "the account of the key in {env} has no credit left: add some, then run the same command again",
    403: "ask its owner to let the key in {env} use batches of this model",
    429: "the account of the key in {env} has no credit left: add some, then run the same command again",
}


@dataclass(slots=True)
class Settled:
    """
    What came of the batches that were fetched. Tokens are of all that was paid for, replies that must not be kept
    included (`unkept`: those, without their text); `cost` is in US dollars, None where no price of batches is stated.
    """

    replied: int = 0
    failed: dict[UUID, Fault] = field(default_factory=dict)
    unkept: dict[UUID, Reply] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0

    @property
    def to_ask_again(self) -> list[UUID]:
        """Those that may be served another time. The others would be rejected again."""
        return [key for key, fault in self.failed.items() if not isinstance(fault, Rejected)]

    @property
    def lost(self) -> list[UUID]:
        """Those whose reply did not arrive whole: the server may charge for it all the same."""
        return [key for key, fault in self.failed.items() if isinstance(fault, Transient) and fault.paid]

    @property
    def num_asked(self) -> int:
        """How many the servers came to."""
        return self.replied + sum(was_asked(fault) for fault in self.failed.values())

    @property
    def causes(self) -> Counter[str]:
        """How many failed of what."""
        return Counter(fault.cause for fault in self.failed.values())

    def add(self, batch: Batch, harvest: Harvest) -> None:
        """A batch that is fetched."""
        self.replied += batch.done
        self.failed |= harvest.failed
        self.unkept |= {key: reply for key, reply in harvest.unkept.items() if key in harvest.failed}
        self.tokens_in += batch.tokens_in
        self.tokens_out += batch.tokens_out
        self.cost = None if self.cost is None or batch.cost is None else self.cost + batch.cost


def was_asked(fault: Fault) -> bool:
    """Whether the server came to a request that failed so in its batch."""
    return fault.cause not in _NOT_ASKED


class BatchDesk:
    """
    The batches for one endpoint. Open it with `async with`: nobody else may be at them meanwhile.

    Args:
        key: of the server, "" if it needs none.
        root: the folder of all batches of a workspace.
        replies: the open journal.
        on_note: told in one line, each once, what people should hear of while they wait.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        root: Path,
        replies: Replies,
        *,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._endpoint, self._key, self._replies, self._on_note = endpoint, key, replies, on_note
        self._folder = BatchFolder(root, endpoint)
        self._noted: set[str] = set()
        self._stopping = asyncio.Event()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> "BatchDesk":
        from synth.llm.batch.server import BatchServer
        from synth.llm.batch.steps import Steps

        async with AsyncExitStack() as opened:
            opened.enter_context(self._folder.held())
            server = await opened.enter_async_context(BatchServer(self._endpoint, self._key))
            self._steps = Steps(self._endpoint, self._folder, server, self._replies)
            self._open = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._open.aclose()

    @property
    def batches(self) -> list[Batch]:
        """Those that were pending when the desk was opened, and those that came since."""
        return self._folder.current

    def pending(self) -> set[UUID]:
        """The keys of all requests in batches that are not fetched: they are paid for, or will be."""
        return {key for batch in self._folder.pending for key in self._folder.keys(batch)}

    async def submit(
        self, requests: Iterable[Request | None], *, most_requests: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES
    ) -> list[Batch]:
        """
        Hand requests in, in as many batches as the limits of one make necessary; what is pending already is left out.
        At each None among them everybody else has a turn.

        Raises:
            LLMError: the server does not take them. Nothing of them is bought or pending.
            Stopped: `stop` was called. What the server has not got is forgotten.
            SkiffError: they could not be written.
        """
        batches = []
        for batch in self._folder.write(
            self._new(requests), most_requests=most_requests, most_bytes=most_bytes, now=time.time()
        ):
            if batch:
                batches.append(batch.tag)
            await asyncio.sleep(0)
            self.refuse_stopped()
        for tag in batches:
            if not await self._advance(self._folder[tag]):
                break  # `settle` goes on
        return [self._folder[tag] for tag in batches]

    async def settle(
        self,
        on_progress: Callable[[Sequence[Batch]], None] = lambda batches: None,
        *,
        poll_seconds: tuple[float, float] = POLL_SECONDS,
        settled: Settled | None = None,
    ) -> Settled:
        """
        Wait until all batches have come to their end; as each does, its replies go into the journal.

        A network that is away is waited for. `on_progress` gets the batches after each look at them; `settled` is what
        is added to and returned, and so tells what was fetched before an error.

        Raises:
            LLMError: the server does not let us in any more, or does not know a batch.
            Stopped: `stop` was called; the batches go on. What the server has not got is forgotten.
            SkiffError: the disk is full or not writable; nothing is lost.
        """
        settled = Settled() if settled is None else settled
        shortest, longest = poll_seconds
        seconds = shortest
        while pending := self._folder.pending:
            has_moved = False
            for batch in pending:
                has_moved |= await self._advance(batch)
                if batch.tag in self._folder and self._folder[batch.tag].step is Step.FETCHED:
                    settled.add(self._folder[batch.tag], self._steps.harvest(batch.tag))
            on_progress([self._folder[batch.tag] for batch in pending if batch.tag in self._folder])
            seconds = shortest if has_moved else min(longest, seconds * _GROWTH)
            if self._folder.pending:
                await self._pause(seconds)
        return settled

    def booked(self) -> None:
        """What the batches that are fetched took is counted by a run. Raises SkiffError if that cannot be written."""
        for batch in self._folder.current:
            if batch.unbooked:
                self._folder.save(replace(batch, unbooked=False))

    def stop(self) -> None:
        """Wait no longer: `submit` and `settle` raise Stopped. What was handed in goes on at the server."""
        self._stopping.set()

    def refuse_stopped(self) -> None:
        """Raise Stopped if `stop` was called."""
        if self._stopping.is_set():
            self._forget_written()
            pending = self._folder.pending
            if not pending:
                raise Stopped("stopped; no batch is under way")
            batches = "1 batch goes" if len(pending) == 1 else f"{len(pending)} batches go"
            raise Stopped(
                f"stopped waiting; {batches} on at {self._endpoint.base_url}, with"
                f" {sum(batch.num_requests for batch in pending):,} requests: the same command takes them up again,"
                " `synth batches` shows them"
            )

    def _new(self, requests: Iterable[Request | None]) -> Iterator[Request | None]:
        known = self.pending()
        for request in requests:
            if request is None:
                yield None
            elif request.key not in known:
                known.add(request.key)
                yield request

    async def _advance(self, batch: Batch) -> bool:
        """Take the next step of a batch. Whether it has come further by that; more requests done are not a step."""
        from synth.llm.batch.server import NOT_OF_THIS_API

        self.refuse_stopped()
        try:
            await self._unless_stopped(self._steps.advance(batch))
        except Rejected as fault:
            raise self._no_use(batch, fault, fault.status) from None
        except Unreachable as fault:
            if all(each.step is Step.WRITTEN for each in self._folder.pending):  # there is nothing to wait for
                self._forget_written()
                raise LLMError(f"{self._name} cannot be reached: {fault}; start it, or correct base_url") from None
            self._note(f"{self._name} cannot be reached ({fault}); {_GO_ON}")
        except Fault as fault:
            if fault.cause in ("501", NOT_OF_THIS_API) and not batch.file_id:
                raise self._no_use(batch, fault, 501) from None
            self._note(f"{self._name} does not do as it was asked ({fault}); {_GO_ON}")
        if batch.tag not in self._folder:  # it was halved
            return True
        now = self._folder[batch.tag]
        return (now.step, now.status, now.file_id) != (batch.step, batch.status, batch.file_id)

    async def _unless_stopped(self, step: Coroutine[Any, Any, None]) -> None:
        """Take a step of a batch; a stop ends it wherever it is, which is as safe as a kill."""
        task = asyncio.ensure_future(step)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            task.cancel()
            await asyncio.wait((task,))
        if task.cancelled():
            self.refuse_stopped()
        await task

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        self.refuse_stopped()

    def _no_use(self, batch: Batch, fault: Fault, status: int) -> LLMError:
        """What the server will not do, and the remedy."""
        if batch.step is Step.WRITTEN:
            self._forget_written()
            if status in _NO_BATCHES and not batch.file_id:
                return LLMError(f"{self._name} has no Batch API ({fault}): run the command without --batch")
            what = "does not take a batch"
        else:
            what = f"does not say what has become of batch {batch.name}"
        env = self._endpoint.api_key_env
        remedy = _REMEDIES.get(status, "see what it says, then run the same command again").format(env=env)
        if status == 404 and batch.step is not Step.WRITTEN:
            remedy = (
                f"if the key in {env} is of another account than it was submitted with, set that one; to give the batch"
                f" up: `synth batches cancel {batch.name}`"
            )
        return LLMError(f"{self._name} {what} ({status}): {fault}; {remedy}")

    def _forget_written(self) -> None:
        """What the server never took costs nothing, and may be asked in another way."""
        for batch in self._folder.pending:
            if batch.step is Step.WRITTEN:
                self._folder.remove(batch)

    def _note(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self._on_note(line)

    @property
    def _name(self) -> str:
        return f"the LLM server at {self._endpoint.base_url}, asked for batches of model {self._endpoint.model},"

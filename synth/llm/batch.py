"""
The Batch API of OpenAI and of servers like it: half the price, the replies within a day.

A desk hands requests in as batches, waits for them over any number of runs, and puts every reply into the journal,
where a stage finds it as if it had asked online. What is known of a batch is on the disk before and after every step,
so that a process that is killed at any moment neither pays twice nor loses what is paid for.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from uuid import UUID

from synth.llm.batch_files import MOST_BYTES, MOST_REQUESTS, Batch, BatchFolder, Request, Step
from synth.llm.batch_results import Replies
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Rejected, Unreachable
from synth.records import LLMError, Stopped

__all__ = ["Batch", "BatchDesk", "Request", "Settled"]

POLL_SECONDS = (5.0, 60.0)  # between two looks at the server: at first, and when nothing has happened for long
_GROWTH = 1.5
_GO_ON = "its batches go on, and it is asked again from time to time"
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
    included; `cost` is in US dollars, None where no price of batches is stated.
    """

    replied: int = 0
    failed: dict[UUID, Fault] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0

    @property
    def to_ask_again(self) -> list[UUID]:
        """Those that may be served another time. The others would be rejected again."""
        return [key for key, fault in self.failed.items() if not isinstance(fault, Rejected)]

    @property
    def causes(self) -> Counter[str]:
        """How many failed of what."""
        return Counter(fault.cause for fault in self.failed.values())

    def add(self, batch: Batch, failed: dict[UUID, Fault]) -> None:
        """A batch that is fetched."""
        self.replied += batch.done
        self.failed |= failed
        self.tokens_in += batch.tokens_in
        self.tokens_out += batch.tokens_out
        self.cost = None if self.cost is None or batch.cost is None else self.cost + batch.cost


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
        from synth.llm.batch_server import BatchServer
        from synth.llm.batch_steps import Steps

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
        self, requests: Iterable[Request], *, most_requests: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES
    ) -> list[Batch]:
        """
        Hand requests in, in as many batches as the limits of one make necessary; what is pending already is left out.

        Raises:
            LLMError: the server does not take them. Nothing of them is bought or pending.
            SkiffError: they could not be written.
        """
        batches = []
        for batch in self._folder.write(
            self._new(requests), most_requests=most_requests, most_bytes=most_bytes, now=time.time()
        ):
            batches.append(batch.tag)
            await asyncio.sleep(0)
        for tag in batches:
            if not await self._advance(self._folder[tag]):
                break  # `settle` goes on
        return [self._folder[tag] for tag in batches]

    async def settle(
        self,
        on_progress: Callable[[Sequence[Batch]], None] = lambda batches: None,
        *,
        poll_seconds: tuple[float, float] = POLL_SECONDS,
    ) -> Settled:
        """
        Wait until all batches have come to their end; as each does, its replies go into the journal.

        A network that is away is waited for. `on_progress` gets the batches after each look at them.

        Raises:
            LLMError: the server does not let us in any more, or does not know a batch.
            Stopped: `stop` was called; the batches go on.
            SkiffError: the disk is full or not writable; nothing is lost.
        """
        settled = Settled()
        shortest, longest = poll_seconds
        seconds = shortest
        while pending := self._folder.pending:
            has_moved = False
            for batch in pending:
                self._refuse_stopped()
                has_moved |= await self._advance(batch)
            now = [self._folder[batch.tag] for batch in pending if batch.tag in self._folder]
            for batch in now:
                if batch.step is Step.FETCHED:
                    settled.add(batch, self._steps.failed(batch.tag))
            on_progress(now)
            seconds = shortest if has_moved else min(longest, seconds * _GROWTH)
            if self._folder.pending:
                await self._pause(seconds)
        return settled

    def stop(self) -> None:
        """Wait no longer: `settle` raises Stopped. What was handed in goes on at the server."""
        self._stopping.set()

    def _new(self, requests: Iterable[Request]) -> Iterator[Request]:
        known = self.pending()
        for request in requests:
            if request.key not in known:
                known.add(request.key)
                yield request

    async def _advance(self, batch: Batch) -> bool:
        """Take the next step of a batch. Whether it has come further by that; more requests done are not a step."""
        from synth.llm.batch_server import NOT_OF_THIS_API

        try:
            await self._steps.advance(batch)
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

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        self._refuse_stopped()

    def _refuse_stopped(self) -> None:
        if self._stopping.is_set():
            pending = self._folder.pending
            batches = "1 batch goes" if len(pending) == 1 else f"{len(pending)} batches go"
            raise Stopped(
                f"stopped waiting; {batches} on at {self._endpoint.base_url}, with"
                f" {sum(batch.num_requests for batch in pending):,} requests: the same command takes them up again,"
                " `synth batches` shows them"
            )

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

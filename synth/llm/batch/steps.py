"""
The steps of a batch, from the disk here to the replies in the journal. Before one that must not be taken twice it is
saved what is about to be done; after a kill or a broken connection, the server is asked what has become of it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synth.llm.batch.files import Batch, BatchFolder, Step
from synth.llm.batch.results import Harvest, Replies, read_results
from synth.llm.batch.server import BatchServer, Problem, Seen
from synth.llm.config import Endpoint
from synth.llm.faults import Fault, Refused, Rejected, Transient, Unreachable, Unusable

# A server to which the connection broke may still be making the batch; after so long it has made it, or never will.
GRACE_SECONDS = 20.0
# Until a batch that there was no room for is sent again; twice as long each time, and at once when another one ends.
ROOM_SECONDS, MOST_ROOM_SECONDS = 60.0, 900.0
SMALLEST_HALVED = 200  # requests; a smaller batch that there is no room for waits as it is
# Results that are not there, or fewer than the server says there are, are looked for so often.
MOST_LOOKS = 5
NO_ROOM = "no room"  # our word for the status of a batch that waits for some
_CLOCKS_APART = 600.0  # seconds, those of one server's machines
_YIELD_EVERY = 200  # lines of results between two turns of everybody else
# In the codes of problems that every request has, whichever line they are reported for.
_OF_ALL = ("model", "endpoint", "url", "billing", "quota")


class Steps:
    """Takes the batches of one endpoint further."""

    def __init__(self, endpoint: Endpoint, folder: BatchFolder, server: BatchServer, replies: Replies) -> None:
        self._endpoint, self._folder, self._server = endpoint, folder, server
        self._replies = replies
        self._harvests: dict[str, Harvest] = {}
        self._sure_at: dict[str, float] = {}  # when it is sure whether a batch was made
        self._num_looks: Counter[str] = Counter()
        self._room_at, self._room_seconds = 0.0, ROOM_SECONDS

    async def advance(self, batch: Batch) -> None:
        """
        Take the next step of a batch, if there is one to take now. The folder has what became of it.

        Raises:
            Fault: of the server; the batch is as safe as it was.
            SkiffError: of the disk.
        """
        if batch.step is Step.SENT:
            await self._look_at(batch)
        elif batch.step is Step.SENDING:
            await self._look_for(batch)
        elif self._may_send(batch):
            await self._send(batch)

    def harvest(self, tag: str) -> Harvest:
        """What came of a fetched batch."""
        return self._harvests[tag]

    def _may_send(self, batch: Batch) -> bool:
        # of those that there was no room for, one at a time: the server says so when it has validated one
        is_trying = any(
            other.step is Step.SENT and other.status in ("", "validating") for other in self._folder.pending
        )
        return time.monotonic() >= self._room_at and not (batch.earlier and is_trying)

    async def _send(self, batch: Batch) -> None:
        if not batch.file_id:
            with self._folder.requests(batch) as file:
                file_id, uploaded = await self._server.upload(file, f"skiff-{batch.tag}.jsonl")
            batch = self._folder.save(replace(batch, file_id=file_id, uploaded=uploaded))
        sending = self._folder.save(replace(batch, step=Step.SENDING))
        try:
            seen = await self._server.create(batch.file_id, batch.tag)
        except Fault as fault:
            if isinstance(fault, Rejected | Unreachable) or fault.cause == "429":  # it has surely not made it
                self._folder.save(batch)
            if isinstance(fault, Refused):
                self._wait_for_room()
            raise
        self._sent(sending, seen)

    async def _look_for(self, batch: Batch) -> None:
        """The server may have made this batch: either it has, or it may be sent again."""
        if time.monotonic() < self._sure_at.setdefault(batch.tag, time.monotonic() + GRACE_SECONDS):
            return
        since = batch.uploaded - _CLOCKS_APART if batch.uploaded else 0.0
        seen = await self._server.find(batch.tag, batch.file_id, since, batch.earlier)
        del self._sure_at[batch.tag]
        if seen:
            self._sent(batch, seen)
        else:
            self._folder.save(replace(batch, step=Step.WRITTEN))

    def _sent(self, batch: Batch, seen: Seen) -> None:
        batch = replace(batch, step=Step.SENT, batch_id=seen.batch_id, submitted=seen.created or time.time())
        self._folder.save(replace(batch, status=seen.status, done=seen.done, failed=seen.failed))

    async def _look_at(self, batch: Batch) -> None:
        seen = await self._server.look(batch.batch_id)
        news = replace(batch, status=seen.status, done=seen.done, failed=seen.failed)
        if news != batch:
            batch = self._folder.save(news)
        if not seen.has_ended:
            return
        if seen.status == "failed" and any(problem.code == "token_limit_exceeded" for problem in seen.problems):
            self._had_no_room(batch)
            return
        self._room_at, self._room_seconds = 0.0, ROOM_SECONDS
        if batch.tag not in self._harvests:
            keys = self._folder.keys(batch)
            self._harvests[batch.tag] = Harvest(keys, self._endpoint, batch.batch_id, self._replies)
        harvest = self._harvests[batch.tag]
        if seen.status == "failed" and not seen.results:
            self._fail(batch, harvest, seen.problems)
        elif not await self._fetch(batch, harvest, seen):
            return
        self._finish(batch, harvest)

    def _had_no_room(self, batch: Batch) -> None:
        """Nothing of it was asked. It is sent again later; in halves, if it is alone and there is none all the same."""
        is_alone = not any(other.step is Step.SENT and other.tag != batch.tag for other in self._folder.pending)
        if is_alone and batch.earlier and batch.num_requests > SMALLEST_HALVED:
            self._folder.halve(batch)
        else:
            earlier = (*batch.earlier, batch.batch_id)
            again = replace(batch, step=Step.WRITTEN, status=NO_ROOM, batch_id="", submitted=None, earlier=earlier)
            self._folder.save(replace(again, done=0, failed=0))
        self._wait_for_room()

    def _wait_for_room(self) -> None:
        self._room_at = time.monotonic() + self._room_seconds
        self._room_seconds = min(2 * self._room_seconds, MOST_ROOM_SECONDS)

    def _fail(self, batch: Batch, harvest: Harvest, problems: Sequence[Problem]) -> None:
        """The server has found fault with the file and asked nothing of it."""
        faults = [
            self._server.reader.fault(400, {"code": each.code, "message": each.said or each.code}) for each in problems
        ]
        keys = self._folder.keys(batch)
        of_all = [fault for each, fault in zip(problems, faults, strict=True) if not _is_of_one(each, len(keys))]
        if of_all or not problems:
            harvest.close(of_all[0] if of_all else Rejected("the batch failed, and the server does not say why", 400))
            return
        for problem, fault in zip(problems, faults, strict=True):
            assert problem.line is not None
            kind = fault.kind if isinstance(fault, Rejected) else "rejected"
            harvest.take(keys[problem.line - 1], Rejected(str(fault), 400, alone=True, kind=kind))
        harvest.close(Transient("not asked, because of other requests in its batch", "batch"))

    async def _fetch(self, batch: Batch, harvest: Harvest, seen: Seen) -> bool:
        """Journal what came of a batch. False if there should be more, and it may be there at another look."""
        with self._folder.results(batch) as path:
            for file_id in seen.results:
                await self._download(file_id, path, batch)
            for number, (key, outcome) in enumerate(read_results(path, self._server.reader), start=1):
                harvest.take(key, outcome)
                if number % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        self._num_looks[batch.tag] += 1
        is_all = harvest.num_heard >= min(seen.done + seen.failed, batch.num_requests)
        if not is_all and self._num_looks[batch.tag] < MOST_LOOKS:
            return False
        # the server says that it has replied to some that are not there: it may charge for them
        said = f"no reply in its batch, which is {seen.status}"
        harvest.close(Transient(said, seen.status, paid=not is_all and seen.done > harvest.num_replied))
        return True

    async def _download(self, file_id: str, path: Path, batch: Batch) -> None:
        try:
            await self._server.download(file_id, path, batch.num_requests)
        except Unusable:  # far too large; what came of it may be good
            pass
        except Rejected as fault:
            # it may be a moment late; one that stays away has been deleted, or is older than a server keeps it
            if fault.status != 404:
                raise

    def _finish(self, batch: Batch, harvest: Harvest) -> None:
        self._replies.sync()
        self._folder.finish(
            replace(
                batch,
                step=Step.FETCHED,
                done=harvest.num_replied,
                failed=len(harvest.failed),
                tokens_in=harvest.tokens_in,
                tokens_out=harvest.tokens_out,
                cost=harvest.cost,
                unbooked=True,
            )
        )


def _is_of_one(problem: Problem, num_requests: int) -> bool:
    in_file = problem.line is not None and problem.line <= num_requests
    return in_file and not any(word in problem.code for word in _OF_ALL)

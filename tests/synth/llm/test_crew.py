"""The workers of an engine: as many as may be in flight, more only while some are told to wait."""

import asyncio
import time

import pytest

from synth.llm.crew import Crew
from synth.records import Stopped


class Job:
    """Things to do, of which it is known how many are being done and how many wait."""

    def __init__(self, crew: Crew, left: int) -> None:
        self.crew, self.left, self.done = crew, left, 0
        self.at_work = self.most_at_work = self.most_in_all = self.waiting = 0

    async def one(self, pause: float = 0.0) -> bool:
        if not self.left:
            return False
        self.left -= 1
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        self.most_in_all = max(self.most_in_all, self.at_work + self.waiting)
        await asyncio.sleep(0.01)
        self.at_work -= 1
        if pause:
            self.waiting += 1
            await self.crew.pause(pause)
            self.waiting -= 1
        self.done += 1
        return True


async def test_as_many_as_its_size_work_and_all_is_done() -> None:
    crew = Crew(3)
    job = Job(crew, 20)
    await crew.work(job.one)
    assert (job.done, job.most_at_work, job.most_in_all) == (20, 3, 3)


async def test_for_each_that_is_told_to_wait_another_goes_but_not_for_ever_more() -> None:
    crew = Crew(3)
    job = Job(crew, 40)
    started = time.monotonic()
    await crew.work(lambda: job.one(pause=0.1))
    assert job.done == 40
    assert job.most_at_work == 3
    assert job.most_in_all == 6
    assert time.monotonic() - started < 40 / 3 * 0.11  # what it would take if nobody filled in


async def test_those_that_filled_in_leave_when_the_others_are_back() -> None:
    crew = Crew(2)
    job = Job(crew, 60)
    pauses = iter([0.05, 0.05])
    await crew.work(lambda: job.one(pause=next(pauses, 0.0)))
    job.left, job.most_at_work = 20, 0
    await crew.work(job.one)
    assert (job.done, job.most_at_work) == (80, 2)


async def test_a_pause_ends_when_nothing_more_is_to_be_sent() -> None:
    crew = Crew(1)
    asyncio.get_running_loop().call_later(0.01, crew.stopping.set)
    started = time.monotonic()
    with pytest.raises(Stopped):
        await crew.pause(60)
    assert time.monotonic() - started < 30


async def test_what_one_raises_ends_the_work_of_all() -> None:
    crew = Crew(2)

    async def one() -> bool:
        raise ValueError("a bug")

    with pytest.raises(ExceptionGroup) as raised:
        await crew.work(one)
    assert {str(each) for each in raised.value.exceptions} == {"a bug"}
    await crew.pause(0.01)  # and nobody is hired any more

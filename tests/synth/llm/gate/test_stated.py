"""Nobody waits for long because of what a server says of itself, be it wrong or out of date; in virtual time."""

import asyncio

import pytest

from synth.llm.faults import Limits
from synth.llm.gate.gate import Gate
from tests.synth.llm.gate.virtual_servers import Server, constant, in_virtual_time, run


def tokens(limit: int, left: int, reset: float) -> Limits:
    return Limits(tokens=limit, tokens_left=left, tokens_reset=reset)


class Says(Server):
    """Takes all, and says always the same."""

    def __init__(self, said: Limits) -> None:
        super().__init__(constant(0.1), headers=True)
        self.said = said

    def limits(self) -> Limits:
        return self.said


def test_a_limit_that_one_request_passes_is_none() -> None:
    outcome = run(lambda: Says(tokens(100, 0, 60.0)), 640, tokens=lambda: 1400)
    assert outcome.seconds < 640 * 0.1 / 64 + 0.6
    assert outcome.found == ""


def test_it_is_none_either_where_the_server_does_not_say_what_a_reply_took() -> None:
    async def ask(gate: Gate) -> None:
        async with gate.turn(1400) as turn:
            await asyncio.sleep(0.1)
            turn.served(limits=tokens(100, 0, 60.0))

    async def all_of_them() -> float:
        gate = Gate(8)
        await asyncio.gather(*(ask(gate) for _ in range(80)))
        return asyncio.get_running_loop().time()

    assert in_virtual_time(all_of_them()) < 80 * 0.1 / 8 + 0.6


def test_a_limit_that_is_passed_by_far_holds_nobody_back_any_more() -> None:
    assert run(lambda: Says(tokens(2000, 0, 60.0)), 300, tokens=lambda: 1400).seconds < 5


@pytest.mark.parametrize(
    ("number", "took", "said", "longest"), [(8, 1400, (20_000, 0, 5.0), 5), (2, 2900, (3000, 2900, 80.0), 60)]
)
def test_what_was_taken_more_than_expected_is_not_owed_beyond_the_time_when_all_is_there_again(
    number: int, took: int, said: tuple[int, int, float], longest: float
) -> None:
    async def ask(gate: Gate) -> None:
        async with gate.turn(1) as turn:
            await asyncio.sleep(0.1)
            turn.served(tokens=took, limits=tokens(*said))

    async def waited() -> float:
        gate = Gate(8)
        await ask(gate)
        await asyncio.gather(*(ask(gate) for _ in range(number)))
        since = asyncio.get_running_loop().time()
        async with gate.turn(1):
            return asyncio.get_running_loop().time() - since

    assert longest - 2 < in_virtual_time(waited()) < longest + 0.5


@pytest.mark.parametrize("later", [tokens(100_000, 100_000, 1.0), tokens(900, 0, 60.0)], ids=["faster", "wrong"])
def test_who_waits_for_a_pace_goes_as_soon_as_it_changes(later: Limits) -> None:
    went = dict[str, float]()

    async def ask(gate: Gate, name: str, seconds: float, said: Limits | None) -> None:
        async with gate.turn(1000) as turn:
            went[name] = asyncio.get_running_loop().time()
            await asyncio.sleep(seconds)
            turn.served(tokens=1000, limits=said)

    async def all_of_them() -> None:
        gate = Gate(3)
        await asyncio.gather(
            ask(gate, "first", 0.1, tokens(1500, 0, 60.0)),  # 25 tokens a second: 40 seconds for each request
            ask(gate, "second", 1.0, later),
            ask(gate, "third", 0.5, None),  # from then on there is room for the fifth
            ask(gate, "fourth", 100.0, None),
            ask(gate, "fifth", 0.1, None),
        )

    in_virtual_time(all_of_them())
    assert went["fourth"] < 0.5
    assert 1.0 <= went["fifth"] < 1.1

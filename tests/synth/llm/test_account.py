"""What a run has spent is on the disk before it can be killed: counted by all that follow, and by none twice."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from synth.llm.account import Account, Totals, earlier
from synth.llm.budget import PICODOLLARS, Budget
from synth.llm.ceilings import Ceilings
from synth.llm.engine import Engine
from synth.llm.journal import Journal
from synth.llm.receipts import NoReply
from synth.records import SkiffError
from tests.chat_server import ChatServer, Fault, completion
from tests.synth.llm.asking import asking, config_for, echo

STAGE, OTHER = UUID(int=1), UUID(int=2)
RUN = UUID(int=10)
PRICES = {"price_in": 1.0, "price_out": 4.0}


def account(folder: Path, run_id: UUID = RUN, *, at_once: bool = True) -> Account:
    return Account(folder, STAGE, run_id, at_once=at_once)


async def asked(server: ChatServer, journal: Journal, folder: Path, number: int = 20) -> Totals:
    """What the account says after so many requests, as a run that is killed then leaves it."""
    kept = account(folder)
    config = config_for(server, concurrency=4, max_tokens=40, max_retries=9, **PRICES)
    async with Engine(config, journal, budget=Budget(Ceilings(max_requests=10_000), account=kept)) as engine:
        each = (engine.complete(asking(f"text {n}")) for n in range(number))
        for error in await asyncio.gather(*each, return_exceptions=True):
            assert error is None or not isinstance(error, Exception) or isinstance(error, NoReply)
    return earlier(folder, STAGE)[RUN]


async def test_what_was_bought_is_there_as_the_server_counts_it(journal: Journal, tmp_path: Path) -> None:
    async with ChatServer(echo) as server:
        totals = await asked(server, journal, tmp_path)
    assert (totals.requests, totals.lost_tokens, totals.in_flight_tokens, totals.excess) == (20, 0, 0, 1)
    replies = [journal.get(key) for key in _keys(journal)]
    assert totals.tokens == sum(reply.tokens_in + reply.tokens_out for reply in replies if reply)
    assert totals.cost == pytest.approx(PICODOLLARS * sum(reply.cost or 0.0 for reply in replies if reply))


def _keys(journal: Journal) -> list[UUID]:
    lines = [line for path in journal.folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return [UUID(line[8:44]) for line in lines]


FAULTS = {Fault.BROKEN: 0.2, Fault.REFUSED: 0.1, Fault.RESET_AFTER: 0.1}


async def test_requests_that_were_sent_again_and_replies_that_were_lost_are_there(
    journal: Journal, tmp_path: Path
) -> None:
    async with ChatServer(echo, faults=FAULTS, seed=3, retry_after="0.01") as server:
        totals = await asked(server, journal, tmp_path, 60)
        assert totals.requests == len(server.asked) > 70
        assert server.paid > 60
        assert totals.lost_tokens > 0 and totals.lost_cost > 0


async def test_replies_that_the_server_does_not_count_are_there_as_the_most_that_they_can_be(
    journal: Journal, tmp_path: Path
) -> None:
    async with ChatServer(error=lambda body: (200, completion("some words"))) as server:
        totals = await asked(server, journal, tmp_path)
    assert totals.lost_tokens > 20 * 40
    assert totals.lost_cost > 20 * 40 * 4.0 * PICODOLLARS / 1e6


async def test_what_is_in_flight_is_there_before_the_server_hears_of_it(journal: Journal, tmp_path: Path) -> None:
    seen: list[Totals] = []

    def look(body: dict[str, object]) -> tuple[int, object]:
        seen.append(earlier(tmp_path, STAGE)[RUN])
        return 200, completion("some words")

    async with ChatServer(error=look) as server:
        await asked(server, journal, tmp_path, 1)
    assert (seen[0].requests, seen[0].tokens) == (1, 0)
    assert seen[0].in_flight_tokens > 40 and seen[0].in_flight_cost > 0


async def test_a_request_that_took_more_than_it_may_is_remembered(journal: Journal, tmp_path: Path) -> None:
    def hungry(body: dict[str, object]) -> tuple[int, object]:
        return 200, completion("some words") | {"usage": {"prompt_tokens": 10**6, "completion_tokens": 1}}

    async with ChatServer(error=hungry) as server:
        assert (await asked(server, journal, tmp_path, 1)).excess > 100


def test_without_a_ceiling_it_is_written_now_and_then(tmp_path: Path) -> None:
    kept = account(tmp_path, at_once=False)
    for kept.totals.requests in range(1, 100):
        kept.changed()
    assert earlier(tmp_path, STAGE)[RUN].requests == 1


def test_a_run_whose_end_is_recorded_and_runs_of_other_settings_leave_nothing(tmp_path: Path) -> None:
    for stage_key, run_id in ((OTHER, RUN), (STAGE, RUN), (STAGE, UUID(int=11))):
        with Account(tmp_path, stage_key, run_id, at_once=True) as kept:
            kept.totals.requests = 3
            kept.changed()
        if stage_key == STAGE and run_id == RUN:
            kept.remove()
    assert list(earlier(tmp_path, STAGE)) == [UUID(int=11)]


@pytest.mark.parametrize(
    "damage",
    [b"", b"\n", b"1 2 3\n", b"1 2 3 4 5 6 7 nan\n", b"1 2 3 4 5 6 7 0\n", b"a b c d e f g h\n"],
)
def test_one_that_is_damaged_is_left_out(tmp_path: Path, damage: bytes) -> None:
    kept = account(tmp_path)
    kept.changed()
    [path] = tmp_path.iterdir()
    path.write_bytes(damage)
    (tmp_path / f"{STAGE.hex}.x.account").write_text("1 2 3 4 5 6 7 1\n")
    assert earlier(tmp_path, STAGE) == {}


def test_absurd_numbers_are_bounded(tmp_path: Path) -> None:
    (tmp_path / f"{STAGE.hex}.{RUN.hex}.account").write_text(f"{'9' * 100} -5 3 0 0 0 0 1\n")
    assert earlier(tmp_path, STAGE)[RUN] == Totals(requests=10**30, tokens=0, cost=3)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert earlier(tmp_path / "nowhere", STAGE) == {}
    with pytest.raises(SkiffError, match="cannot keep account of what is spent"):
        account(tmp_path / "nowhere").changed()

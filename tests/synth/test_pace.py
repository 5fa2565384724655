"""The time left: right for steady work, volleys and slow models, and right again as soon as a wait is over."""

import pytest

from synth.commands.pace import Pace

TICK = 0.25


class Clock:
    """A pace that is told every quarter of a second how things stand, as the display does."""

    def __init__(self) -> None:
        self.now = self.made = 0.0
        self.pace = Pace(0.0)

    def work(self, seconds: float, per_second: float, *, in_flight: int = 64, at_once: int = 64) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.made += per_second * TICK
            self.pace.saw(self.now, int(self.made), in_flight=in_flight, at_once=at_once)

    def rest(self, seconds: float) -> None:
        self.work(seconds, 0.0, in_flight=0)

    def volley(self, size: int, every: float) -> None:
        """Nothing for a while, then many within a second."""
        self.work(every - 1, 0.0)
        self.work(1, float(size))

    @property
    def per_second(self) -> float:
        found = self.pace.per_second()
        assert found is not None
        return found


@pytest.mark.parametrize("per_second", [0.05, 1, 40, 1000])
def test_steady_work_has_its_pace(per_second: float) -> None:
    clock = Clock()
    clock.work(40 / per_second + 60, per_second)
    assert clock.per_second == pytest.approx(per_second, rel=0.15)


def test_nothing_is_known_before_the_first_seed() -> None:
    clock = Clock()
    clock.work(30, 0.0)
    assert clock.pace.per_second() is None
    clock.work(TICK, 4.0)
    assert clock.per_second == pytest.approx(1 / 30, rel=0.1)  # one in half a minute


@pytest.mark.parametrize("seconds", [20, 60, 600])
def test_a_wait_that_the_server_asked_for_is_forgotten_as_soon_as_it_is_over(seconds: float) -> None:
    clock = Clock()
    clock.work(60, 10)
    clock.rest(seconds)
    assert clock.per_second == pytest.approx(10, rel=0.05)  # what is left will take as long as before
    clock.work(3, 10)
    assert clock.per_second == pytest.approx(10, rel=0.4)
    clock.work(20, 10)
    assert clock.per_second == pytest.approx(10, rel=0.2)


def test_requests_that_hang_slow_it_down() -> None:
    clock = Clock()
    clock.work(60, 10)
    clock.work(60, 0.0)
    assert clock.per_second < 4


def test_a_process_that_was_stopped_learns_nothing_of_that_time() -> None:
    clock = Clock()
    clock.work(60, 10)
    clock.now += 3600  # Ctrl-Z, and fg an hour later
    clock.work(1, 10)
    assert clock.per_second == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("every", [5, 30])
def test_volleys_are_seen_over_several_of_them(every: float) -> None:
    clock = Clock()
    for _ in range(8):
        clock.volley(64, every)
    before = clock.per_second
    clock.work(every - 2, 0.0)
    assert before == pytest.approx(64 / every, rel=0.25)
    assert clock.per_second == pytest.approx(64 / every, rel=0.35)


@pytest.mark.parametrize("every", [2, 8, 20])
def test_a_server_that_takes_few_requests_a_minute_sets_the_pace(every: float) -> None:
    clock = Clock()
    for _ in range(12):
        clock.rest(every - TICK)
        clock.work(TICK, 4.0)
    assert clock.per_second == pytest.approx(1 / every, rel=0.25)


def test_what_is_skipped_is_neither_time_nor_work() -> None:
    clock = Clock()
    clock.work(60, 10)
    for _ in range(100):
        clock.now += TICK
        clock.pace.skip(clock.now)
    clock.work(1, 10)
    assert clock.per_second == pytest.approx(10, rel=0.05)

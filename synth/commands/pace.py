"""How fast a run gets on, as a number that a time left can be worked out from."""

import math

SMOOTHED_SECONDS = 30.0
SMOOTHED_ROUNDS = 4  # of at_once seeds: what comes in volleys, as equal replies do, is seen over several of them
FEWEST_SEEDS = 8
BLIND_SECONDS = 5.0
PATIENT_SECONDS = 10.0


class Pace:
    """
    Seeds per second of late, told now and then how many are made.

    A mean over half a minute or some rounds of what is in flight, whichever is longer, the newer seeds weighing more.
    Silence counts as time when the next seed has come, so that the pace does not sink between two volleys. It counts
    earlier if requests are under way and it lasts unusually long; if none are, the server has told us to wait, and what
    is unusually long does not count at all: the pace is right again as soon as the wait is over.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._made = 0.0  # all of it, so far
        self._recent = self._recent_seconds = 0.0  # both fade alike
        self._silence = 0.0
        self._patience = PATIENT_SECONDS  # the longest silence that is not unusual

    def per_second(self) -> float | None:
        """None until it is known."""
        return self._recent / self._recent_seconds if self._recent and self._recent_seconds >= 1 else None

    def skip(self, now: float) -> None:
        """Nothing can be learnt of the time since it was last told."""
        self._now = now

    def saw(self, now: float, made: float, *, in_flight: int, at_once: int) -> None:
        """
        So many seeds are made in all at `now` (seconds of a clock).

        Args:
            in_flight: requests under way, of `at_once` that may be; 0 and 0 where nothing is asked.
        """
        seconds, gained = now - self._now, max(made - self._made, 0.0)
        self._now, self._made = now, max(made, self._made)
        if seconds > BLIND_SECONDS:  # stopped by Ctrl-Z, or the machine slept: nobody knows what this time was
            return
        if gained:
            self._add(gained, min(self._silence, self._patience) + seconds, at_once)
            self._patience = max(PATIENT_SECONDS, 0.9 * self._patience, 2 * self._silence)
            self._silence = 0.0
            return
        self._silence += seconds
        if self._silence > self._patience and (in_flight or not at_once):
            self._add(0.0, seconds, at_once)

    def _add(self, gained: float, seconds: float, at_once: int) -> None:
        if self._recent:  # before the first seed no time is forgotten: it took that one
            round_trips = SMOOTHED_ROUNDS * max(at_once, FEWEST_SEEDS) * self._recent_seconds / self._recent
            kept = math.exp(-seconds / max(SMOOTHED_SECONDS, round_trips))
            self._recent *= kept
            self._recent_seconds *= kept
        self._recent += gained
        self._recent_seconds += seconds

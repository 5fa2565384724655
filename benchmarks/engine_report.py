"""What the parts of the engine's benchmark found, and the bounds that it is held to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from store import Figures, Goal

Table = list[Sequence[object]]  # its head first


GOALS = (
    Goal("cpu_vs_aiohttp", "", 1.5, "CPU of a request by raw aiohttp's, 256 in flight"),
    Goal("cpu_vs_aiohttp_64", "", 1.5, "the same, 64 in flight"),
    Goal("cpu_vs_aiohttp_1024", "", 1.5, "the same, 1,024 in flight"),
    Goal("rps_vs_curator", "", 3, "requests/s by curator's, 256 in flight", "", True),
    Goal("rps_vs_distilabel", "", 3, "requests/s by distilabel's, 256 in flight", "", True),
    Goal("quick_rps_vs_curator", "", 3, "the same with replies after 20 ms", "", True),
    Goal("quick_rps_vs_distilabel", "", 3, "... by distilabel's pipeline", "", True),
    Goal("quick_rps_vs_distilabel_LLM", "", 3, "... by distilabel's LLM class alone", "", True),
    Goal("memory_100k_vs_10k", "", 1.1, "peak memory of 100,000 requests by that of 10,000"),
    Goal("faults_completed", "", 1, "3,000 requests, 13 in 100 broken or refused: share completed", "", True),
    Goal("faults_time_vs_ideal", "", 1.2, "... and seconds by those of an ideal client"),
    Goal("edit_paid", "requests", 11, "500 rows done, 1 corrected and 10 added: requests of the second run"),
    Goal("edit_right", "rows", 510, "... and rows with the right answer", "", True),
    Goal("kill_paid_again_vs_in_flight", "", 1, "ten times kill -9: requests paid twice by those in flight then"),
    Goal("kill_right", "", 1, "... share of the rows with the right answer in the end", "", True),
    Goal("at_once_held", "", 0.9, "a server that takes 50 at a time: share of it that is used", "", True),
    Goal("at_once_refused", "", 0.02, "... share of the requests refused"),
    Goal("bucket_held", "", 0.9, "600 a minute by a token bucket that says nothing: share used", "", True),
    Goal("bucket_refused", "", 0.02, "... share refused"),
    Goal("window_held", "", 0.9, "600 in each minute, said in headers: share used", "", True),
    Goal("window_refused", "", 0.02, "... share refused"),
    Goal("estimate_off_unasked", "", 0.1, "the estimate before anything is asked: off the final cost by"),
    Goal("estimate_off", "", 0.1, "... after `--sample 30`"),
    Goal("budget_spent_vs_ceiling", "", 1, "a budget on a server with faults, stopped and raised: most spent of it"),
)


@dataclass(slots=True)
class Report:
    """What all parts found: figures for the last line, tables for people."""

    figures: Figures = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def markdown(self) -> str:
        """Every table, and at last what has a bound."""
        lines = []
        for title, (head, *rows) in self.tables.items():
            lines += [f"#### {title}", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]
        lines += ["#### Bounds", "", _line(["what", "figure", "measured", "floor or peer", "bound", "met"])]
        lines += [_line(["---"] * 6), *(goal.row(self.figures) for goal in GOALS if goal.key in self.figures), ""]
        return "\n".join(lines)

    def last_line(self) -> str:
        """Everything as one line of JSON."""
        goals = [goal for goal in GOALS if goal.key in self.figures]
        missed = [goal.key for goal in goals if not _met(goal, self.figures[goal.key])]
        bounds = {goal.key: f"at {'least' if goal.at_least else 'most'} {goal.bound:g}" for goal in goals}
        rounded = {key: round(value, 4) for key, value in self.figures.items()}
        return json.dumps({**rounded, "bounds": bounds, "missed": missed})


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(f'{cell:,.4g}' if isinstance(cell, float) else str(cell) for cell in cells)} |"


def _met(goal: Goal, value: float) -> bool:
    return value >= goal.bound if goal.at_least else value <= goal.bound

"""
What the benchmark's server and all its clients share: the prompts, the right answer to each, the faults, the measuring.

Standard library only, and nothing of Skiff: the environments of the peers run it too.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

MODEL = "bench-model"
PROMPT = """\
Write four search queries that the passage between the two lines of dashes answers. Each stands alone, is in words of
its own, and is one that somebody could type who has never seen the passage. Reply with one JSON object.
-----
{row}
-----"""
_MARK = re.compile(r"^-----.*$", re.MULTILINE)
_ROW_CHARACTERS = 520  # with what stands around them, about 180 tokens
FAULTS = (("429", 0.10), ("500", 0.02), ("reset", 0.005), ("cut", 0.005))  # and how often
RETRY_AFTER = 1.0  # seconds that the 429 of that mix asks to wait


@dataclass(frozen=True, slots=True)
class Job:
    """What one client process is to do: ask for the rows 0, 1, ... with so many requests in flight."""

    client: str
    base_url: str
    in_flight: int
    rows: int
    folder: str  # where the client keeps what it keeps, for the next run
    data: str  # a folder like data/sample, for the texts
    corrected: int | None = None  # the row whose text was changed since the last run
    seconds: float | None = None  # stop after so long, wherever it is

    @classmethod
    def read(cls) -> "Job":
        """The job of this process, from its command line."""
        table = json.loads(sys.argv[1])
        return cls(**{field.name: table[field.name] for field in fields(cls)})

    def numbered(self) -> Iterator[tuple[int, str]]:
        """Every row's number and prompt, made when it is asked for: 100,000 are not to lie in the client's memory."""
        for number in range(self.rows):
            yield number, PROMPT.format(row=self.row(number))

    def row(self, number: int) -> str:
        """The text of a row."""
        prose = _prose(self.data)
        start = 37 * number % (len(prose) - _ROW_CHARACTERS)
        corrected = " (corrected)" if number == self.corrected else ""
        return f"{number}.{corrected} {prose[start : start + _ROW_CHARACTERS].strip()}"


@cache
def _prose(data: str) -> str:
    """The English corpus as one line in ASCII, so that every client sends the same bytes."""
    with (Path(data) / "retrieval" / "squad-en" / "corpus.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return " ".join(" ".join(texts).encode("ascii", "ignore").decode().replace('"', "'").split())


def row_in(messages: list[dict[str, Any]]) -> str:
    """What stands between the two lines of dashes in the last message, whatever a client has put around them."""
    content = messages[-1]["content"]
    if not isinstance(content, str):  # Data Designer sends it in parts
        content = "".join(part["text"] for part in content)
    parts = _MARK.split(content, maxsplit=2)
    return parts[1].strip() if len(parts) == 3 else content


def mark_of(row: str) -> str:
    """Sixteen characters that only the answer to this row has."""
    return blake2b(row.encode(), digest_size=8).hexdigest()


def answer(row: str) -> str:
    """The right answer to a row, about 150 tokens of JSON. The mark comes last: half an answer is not right."""
    queries = [row[start : start + 120] for start in range(20, 500, 120)]
    return json.dumps({"queries": queries, "row": mark_of(row)})


def fault_of(row: str, attempt: int) -> str | None:
    """What goes wrong with this attempt (0, 1, ...) at a row: the same for every client that gets so far."""
    drawn = int.from_bytes(blake2b(f"{attempt} {row}".encode(), digest_size=8).digest()) / 2**64
    for fault, share in FAULTS:
        drawn -= share
        if drawn < 0:
            return fault
    return None


class Tally:
    """What a client got, counted as it comes."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.got = self.right = self.lost = 0
        self.error = ""

    def reply(self, number: int, text: str) -> None:
        """The client hands out this text for that row."""
        self.got += 1
        self.right += f'"row": "{mark_of(self._job.row(number))}"' in text

    def failed(self, error: object) -> None:
        """The client gave a row up."""
        self.lost += 1
        self.error = self.error or f"{type(error).__name__}: {error}"[:300]


Prepared = Callable[[], None]


def measured(clients: dict[str, Callable[[Job, Tally], Prepared]]) -> None:
    """Run this process's job by its client and print what it took. Imports, made by `prepare`, are not counted."""
    job = Job.read()
    tally = Tally(job)
    job.row(0)  # the texts are read before the clock runs
    run = clients[job.client](job, tally)
    started, used = time.monotonic(), _cpu_seconds()
    run()
    seconds, cpu = time.monotonic() - started, _cpu_seconds() - used
    counts = {"got": tally.got, "right": tally.right, "lost": tally.lost, "error": tally.error}
    sys.stdout.write("\n" + json.dumps({**counts, "seconds": seconds, "cpu": cpu, "peak_mb": _peak_mb()}) + "\n")


def _cpu_seconds() -> float:
    """Of this process and of the processes it started and has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _peak_mb() -> float:
    """The most memory of this process (VmHWM), and of the largest of those it started."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    own = int(status.partition("VmHWM:")[2].split()[0])
    return (own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024

"""
Lines of files that anybody may have written: bytes, unpacked, none longer than `MAX_LINE`.

A line that cannot be used is a `BadLine`, so that whoever reads decides whether to stop at it.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from synth.records import UserError

MAX_LINE = 8 << 20  # bytes of a line, characters of a CSV row or of an element of a JSON array
NOT_UTF8 = "not UTF-8; convert the file first"

Row = dict[str, Any]


class BadLine(UserError):
    """A line that cannot be used. `reason` is the same for all lines that fail alike, `detail` what this one holds."""

    def __init__(self, reason: str, detail: str = "", *, text: str = "") -> None:
        super().__init__(f"{reason}{detail}")
        self.reason = reason
        self.text = text  # the line itself, where it is at hand


Rows = Iterator[tuple[int, Row | BadLine]]


@contextmanager
def reading(path: Path) -> Iterator[BufferedIOBase]:
    """A file's bytes, unpacked if it is a .gz. Raises UserError for whatever keeps it from being read to its end."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(f"{path}: a damaged gzip file; copy or download it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def lines_of(file: BufferedIOBase) -> Iterator[tuple[int, bytes | BadLine]]:
    """The lines of a file with their numbers; one that is longer than MAX_LINE is passed over and said to be so."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) < MAX_LINE or line.endswith(b"\n"):
            yield number, line
            continue
        start = line[:200].decode(errors="replace")
        while len(line) == MAX_LINE and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
        yield number, BadLine(f"more than {MAX_LINE >> 20} MiB; is every row on a line of its own?", text=start)

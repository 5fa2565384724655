"""A terminal for the tests: a command runs in it, keys are typed, and its screen can be read."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

PIECE = re.compile(r"\x1b\[(\?25[hl])|\x1b\[([0-9;]*)([A-Za-z])|([\r\n])|(\x1b)|([^\x1b\r\n]+)", re.DOTALL)


class Terminal:
    """
    A pseudo-terminal that controls one command: standard input and error are its, standard output is a pipe.

    `screen` has the lines that were ever shown, those that have scrolled off as well. It knows the escape codes that a
    progress display needs (cursor up, erase line, colours, cursor off and on) and refuses all others.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 100) -> None:
        self.columns = columns
        self.shows_cursor = True
        self.lines = [""]
        self._row = self._column = 0
        self._is_closed = False
        self.raw = ""
        self._unfinished = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # The first terminal that the leader of a new session opens controls it: its Ctrl-C is theirs.
        opens = 'exec "$@" <"$0" 2>"$0"'
        self.process = subprocess.Popen(
            ["sh", "-c", opens, os.ttyname(slave), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environment},
            start_new_session=True,
        )
        self._slave = slave  # held, or what is read before the command opens it would be its end

    def type(self, keys: str) -> None:
        """Type keys; "\\x03" is Ctrl-C."""
        os.write(self._master, keys.encode())

    def close(self) -> None:
        """Close the terminal's window."""
        os.close(self._slave)
        os.close(self._master)
        self._is_closed = True

    def read(self, until: Callable[["Terminal"], bool], *, seconds: float = 15) -> None:
        """Show what comes until the screen is as wished or the command has ended."""
        end = time.monotonic() + seconds
        while not until(self):
            assert time.monotonic() < end, "\n".join(self.lines)
            if select.select([self._master], [], [], 0.05)[0]:
                self._feed(os.read(self._master, 65536).decode(errors="replace"))
            elif self.process.poll() is not None:
                return

    def end(self) -> tuple[int, str]:
        """Exit code and standard output of the command, once it has ended."""
        if not self._is_closed:
            self.read(lambda _: False)
        out, _ = self.process.communicate(timeout=15)
        return self.process.returncode, out

    @property
    def screen(self) -> str:
        """All lines, without trailing spaces."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")

    def _feed(self, text: str) -> None:
        """Show text, and do as its escape codes say."""
        self.raw += text
        text = self._unfinished + text
        tail = re.search(r"\x1b(\[[0-9;?]*)?\Z", text)  # the rest comes with the next read
        self._unfinished = tail.group() if tail else ""
        for cursor, numbers, command, control, torn, shown in PIECE.findall(text[: tail.start()] if tail else text):
            assert not torn, f"a torn escape code in {text!r}"
            if cursor:
                self.shows_cursor = cursor.endswith("h")
            elif command:
                self._obey(command, int(numbers or 1) if numbers.isdigit() or not numbers else 0)
            elif control:
                self._move(0, self._row + (control == "\n"))
            else:
                self._put(shown)

    def _obey(self, command: str, number: int) -> None:
        if command == "A":
            self._move(self._column, self._row - number)
        elif command == "K":
            self.lines[self._row] = ""
        else:
            assert command == "m", f"a display has no need of the escape code {command!r}"

    def _put(self, shown: str) -> None:
        for char in shown:
            if self._column == self.columns:
                self._move(0, self._row + 1)
            line = self.lines[self._row].ljust(self._column)
            self.lines[self._row] = line[: self._column] + char + line[self._column + 1 :]
            self._column += 1

    def _move(self, column: int, row: int) -> None:
        assert row >= 0, "the cursor left the screen"
        self._column, self._row = column, row
        self.lines += [""] * (row + 1 - len(self.lines))

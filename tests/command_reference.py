"""Writes docs/commands.md from the commands' own help: `make docs`."""

import os
import subprocess
import sys

COMMANDS = (
    (
        "synth",
        (
            *("init", "ingest", "recipes", "recipes show", "generate", "report"),
            *("relabel", "mine", "judge", "triage", "check", "review"),
            *("runs", "runs show", "runs retry", "batches", "batches cancel"),
            *(f"release {name}" for name in ("create", "list", "show", "diff", "verify", "export")),
            *(f"store {name}" for name in ("verify", "rebuild", "compact", "backup")),
            *("show", "sql", "stats"),
        ),
    ),
    ("trainer", ("plan", "run", "evaluate", "curve", "merge")),
)


def reference() -> str:
    """The page: the help of every command, as it is printed at 100 columns."""
    parts = ["# Commands\n\nThis page is made from the commands' own `--help` by `make docs`.\n"]
    for program, names in COMMANDS:
        parts += [f"## {program}\n\n```text\n{help_of(program)}```\n"]
        parts += [f"### {program} {name}\n\n```text\n{help_of(program, *name.split())}```\n" for name in names]
    return "\n".join(parts)


def help_of(program: str, *arguments: str) -> str:
    """What `program arguments --help` prints."""
    script = f"import sys\nfrom {program}.cli import main\nsys.argv = [{program!r}, *sys.argv[1:], '--help']\nmain()"
    environment = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())

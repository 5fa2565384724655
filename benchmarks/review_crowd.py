"""
Three reviewers at work while documents come in, queries are made of them and all is mined again, on one store.

Example: python benchmarks/review_crowd.py --minutes 10

Each reviewer is a real Chromium page with real keys; a bare page (review_bare.py) is pressed beside them for
comparison. The commands `synth ingest`, `synth generate` and `synth mine` follow each other until the time is up. Ends
with one line of JSON: keys pressed and verdicts stored, what a reviewer was told of a busy store, commands that failed,
and from a key to the next sample on the screen.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from review import ALL_STORED, FLAGS, Sides, compared, judged, key_to_paint, pending_samples, served
from review_bare import fill
from store import Figures, apart

if TYPE_CHECKING:
    from playwright.async_api import Page

HERE = Path(__file__).resolve().parent
SYNTH = Path(sys.executable).with_name("synth")
REVIEWERS = 3
SEED = 0
READING = (0.5, 2.5)  # seconds between two keys of a reviewer
DOCUMENTS = 40  # that come in at a time
WAIT = 60_000  # milliseconds for the last verdicts to be stored


def main() -> None:
    """Run for the time asked for; figures go to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="half a minute")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample", help="what comes in first")
    options = parser.parse_args()
    seconds = 30.0 if options.quick else 60 * options.minutes
    with tempfile.TemporaryDirectory() as scratch:
        figures = asyncio.run(_measured(options.data, Path(scratch), seconds))
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in figures.items()}) + "\n")


async def _measured(data: Path, scratch: Path, seconds: float) -> Figures:
    from playwright.async_api import async_playwright

    workspace = scratch / "crowd"
    await asyncio.to_thread(_filled, workspace, data)
    store = workspace / "store.duckdb"
    fill(scratch / "bare.sqlite", apart(pending_samples, store))
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    app = ["-m", "review_app", str(workspace), "--no-browser", "--port"]
    with served(app) as app_server, served([str(HERE / "review_bare.py"), str(scratch / "bare.sqlite")]) as bare_server:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
            sides = Sides(browser, app_server.url, bare_server.url)
            figures = await _crowd(sides, workspace, time.monotonic() + seconds)
            figures["server_mb"] = app_server.megabytes
            await browser.close()
    return figures


def _filled(workspace: Path, data: Path) -> None:
    """Make a workspace with samples to review."""
    subprocess.run([SYNTH, "init", str(workspace)], check=True, capture_output=True)
    for command in (["ingest", str(data)], ["generate", "--task", "retrieval"], ["mine"]):
        subprocess.run([SYNTH, *command, "-w", str(workspace)], check=True, capture_output=True)


async def _crowd(sides: Sides, workspace: Path, deadline: float) -> Figures:
    took: list[float] = []
    bare: list[float] = []
    told: list[str] = []
    people = [f"reviewer-{number}" for number in range(REVIEWERS)]
    async with asyncio.TaskGroup() as group:
        pipeline = group.create_task(asyncio.to_thread(_pipeline, workspace, deadline))
        for name in people:
            group.create_task(_reviewer(sides, sides.app, name, deadline, took, told))
        group.create_task(_reviewer(sides, sides.bare, "bare", deadline, bare, []))
    num_commands, num_failed = pipeline.result()
    for said, times in Counter(told).items():
        sys.stderr.write(f"{times} times: {said}\n")
    stored = sum([len(await asyncio.to_thread(apart, judged, workspace / "store.duckdb", name)) for name in people])
    return {
        "pressed": len(took),
        "stored": stored,
        "lost_or_doubled": abs(len(took) - stored),
        "lock_messages": len(told),
        "commands": num_commands,
        "commands_failed": num_failed,
        **compared(took, bare),
    }


async def _reviewer(sides: Sides, url: str, name: str, deadline: float, took: list[float], told: list[str]) -> None:
    chance = random.Random(f"{SEED} {name}")
    async with sides.opened(url, name) as page:
        while time.monotonic() < deadline and await page.locator(".card.empty").count() == 0:
            took.append(await key_to_paint(page))
            await asyncio.sleep(chance.uniform(*READING))
            told += await _trouble(page)
        if url == sides.app:
            await page.wait_for_selector(ALL_STORED, timeout=WAIT)


async def _trouble(page: "Page") -> list[str]:
    """What the card says of the store, if it says anything."""
    status = page.locator("output.status")
    said = await status.inner_text() if await status.count() else ""
    return [said] if said.startswith(("Trying again", "The store")) or "not stored" in said else []


def _pipeline(workspace: Path, deadline: float) -> tuple[int, int]:
    """Documents come in, queries are made of them, all is mined: again and again. Returns commands, and failed ones."""
    num_commands = num_failed = 0
    for number in range(1_000_000):
        folder = workspace.parent / f"documents-{number}"
        folder.mkdir()
        for name, text in _documents(number):
            (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        for command in (
            ["ingest", str(folder)],
            ["generate", "--task", "retrieval"],
            ["mine", "--seed", str(number)],
        ):
            if time.monotonic() > deadline:
                return num_commands, num_failed
            done = subprocess.run([SYNTH, *command, "-w", str(workspace)], capture_output=True, check=False, text=True)
            num_commands += 1
            if done.returncode:
                num_failed += 1
                sys.stderr.write(f"synth {' '.join(command)}: {done.stderr.strip()}\n")
    return num_commands, num_failed


def _documents(number: int) -> Iterable[tuple[str, str]]:
    """Texts that no other round has."""
    for place in range(DOCUMENTS):
        harbour = f"Harbour {number}-{place}"
        yield (
            harbour.replace(" ", "-"),
            f"{harbour} opens at {place % 24} o'clock and closes when the tide has turned. Boats wait before its gate,"
            f" and the keeper of {harbour} writes their names into a book with {place + 17} pages.\n",
        )


if __name__ == "__main__":
    main()

"""
What a reviewer waits for: from a key to the next sample on the screen, against a bare page in the same run.

Example: python benchmarks/review.py --quick

A real Chromium (the environment variable CHROMIUM, or the one on the PATH) presses real keys in the review app and in a
page without a framework (review_bare.py), in turn. benchmarks/README.md says what each figure means. Ends with one line
of JSON.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from review_bare import fill
from store import Figures, Goal, apart, made_store

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

HERE = Path(__file__).resolve().parent
SIZES = {"1k": 1_000, "100k": 100_000}
CROWD = 5  # sessions at once
PAUSE = 0.25  # seconds after a key, in which the server of the page that had it comes to rest
THINKING = 0.4  # seconds between the keys of each of several sessions
BURST, BURST_SECONDS = 20, 0.6
PATIENCE = 180  # seconds
WRONG = ("doubled", "blind", "lost", "early")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
CARD = ".query .text:not(:empty)"
ALL_STORED = ".stored:not(.wait):not(.late)"
# In every page, before its own scripts: `keyToPaint` is the milliseconds from the last key to the second frame after
# the query changed; `painted` holds every query that was there when a frame was drawn, and `early`
# counts keys that came before the query was drawn.
RECORDER = """
window.painted = new Set()
window.early = 0
const find = (node) => node.querySelector?.(".query .text")
    ?? [...node.querySelectorAll("*")].map((each) => each.shadowRoot && find(each.shadowRoot)).find(Boolean)
addEventListener("keydown", (event) => {
    const text = find(document), before = text?.textContent
    if (event.key !== "a" || !text) return
    if (!window.painted.has(before)) window.early += 1
    window.keyToPaint = new Promise((done) => {
        const observer = new MutationObserver(() => {
            if (find(document)?.textContent === before) return
            observer.disconnect()
            requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - event.timeStamp)))
        })
        observer.observe(text.getRootNode(), { subtree: true, childList: true, characterData: true })
    })
}, { capture: true })
window.recordFrames = () => {
    window.painted.add(find(document)?.textContent)
    requestAnimationFrame(window.recordFrames)
}
"""
GOALS = (
    *(
        Goal(f"key_to_paint_vs_bare_{name}", "", 1.2, f"a key to the next sample, {what}, median by the bare page's")
        for name, what in (
            ("1k", "1,000 samples"),
            ("100k", "100,000 samples"),
            ("1k_crowd", "1,000 samples, five sessions"),
            ("100k_crowd", "100,000 samples, five sessions"),
        )
    ),
    Goal("p95_vs_bare_100k_crowd", "", 1.2, "the slowest 5 in 100 keys, 100,000 samples, five sessions"),
    Goal("first_page_s_1k", "s", 3, "the first card of a new browser, 1,000 samples", "bare_first_page_s_1k"),
    Goal("first_page_s_100k", "s", 3, "the same, 100,000 samples", "bare_first_page_s_100k"),
    Goal("doubled_blind_or_lost", "", 0, "keys of bursts that went wrong"),
    Goal("server_mb_100k", "MB", 300, "the server's memory, 100,000 samples"),
)


def main() -> None:
    """Measure what was asked for; figures go to standard output, progress to standard error."""
    options = _options()
    figures: Figures = {"cpus": os.cpu_count() or 1}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.size or (["1k"] if options.quick else SIZES):
            started = time.perf_counter()
            found = asyncio.run(measured(name, options, Path(scratch)))
            figures |= found
            load = os.getloadavg()[0]
            sys.stderr.write(f"{name}: {time.perf_counter() - started:.1f} s, load {load:.1f}: {json.dumps(found)}\n")
    for whole in ("key_to_paint_vs_bare", "p95_ms", "first_page_s"):
        figures[whole] = max(value for key, value in figures.items() if key.startswith(whole))
    for whole in WRONG:
        figures[whole] = sum(value for key, value in figures.items() if key.startswith(whole))
    figures["doubled_blind_or_lost"] = sum(figures[each] for each in ("doubled", "blind", "lost"))
    if options.markdown:
        sys.stdout.write("| what | figure | measured | bare page | bound | met |\n|---|---|---|---|---|---|\n")
        sys.stdout.write("\n".join([*(goal.row(figures) for goal in GOALS if goal.key in figures), "", ""]))
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in figures.items()}) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute: 1,000 samples, one session")
    parser.add_argument("--size", action="append", choices=SIZES, help="only stores of this size (repeatable)")
    parser.add_argument(
        "--data", type=Path, default=HERE.parent / "data" / "sample", help="folder whose texts are cut up"
    )
    parser.add_argument("--store", type=Path, help="keep the made stores in this folder, and use those that are there")
    parser.add_argument("--markdown", action="store_true", help="print the table of benchmarks/README.md as well")
    options = parser.parse_args()
    if not any(options.data.glob("retrieval/*/corpus.jsonl")):
        parser.error(f"{options.data}: has no retrieval/*/corpus.jsonl to take texts from; name one like data/sample")
    if options.store and not options.store.is_dir():
        parser.error(f"{options.store}: is no folder; make it first")
    if not _chromium():
        parser.error("no Chromium: install it, or name it in the environment variable CHROMIUM")
    return options


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


async def measured(name: str, options: argparse.Namespace, scratch: Path) -> Figures:
    """Every figure of a store of one size, under names that end in `name`."""
    from playwright.async_api import async_playwright

    workspace = scratch / name
    workspace.mkdir()
    kept = options.store or workspace
    shutil.copyfile(made_store(options.data, kept, SIZES[name]), workspace / "store.duckdb")
    fill(workspace / "bare.sqlite", apart(pending_samples, workspace / "store.duckdb"))
    app = ["-m", "review_app", str(workspace), "--no-browser", "--port"]
    bare = [str(HERE / "review_bare.py"), str(workspace / "bare.sqlite")]
    with served(app) as app_server, served(bare) as bare_server:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
            sides = Sides(browser, app_server.url, bare_server.url)
            figures = await first_pages(sides, 1 if options.quick else 3)
            figures |= await one_session(sides, 30 if options.quick else 100)
            figures |= await bursts(sides, workspace / "store.duckdb", 2 if options.quick else 5)
            if not options.quick:
                crowd = await several_sessions(sides, rounds=3, keys=10)
                figures |= {f"{key}_crowd": value for key, value in crowd.items()}
            figures["server_mb"] = app_server.megabytes
            await browser.close()
    # `p50_ms_crowd` becomes `p50_ms_1k_crowd`.
    return {
        f"{key.removesuffix('_crowd')}_{name}{'_crowd' * key.endswith('_crowd')}": value
        for key, value in figures.items()
    }


def pending_samples(path: Path) -> list[tuple[str, str, str, str, float]]:
    from synth.store.connection import Store

    with Store.open(path).read() as cursor:
        return cursor.execute(
            "SELECT s.sample_id::VARCHAR, s.query, s.positives[1], min(n.text), coalesce(s.hardness, 0)"
            " FROM samples s JOIN negatives n USING (revision_id) WHERE s.status = 'pending' GROUP BY ALL"
        ).fetchall()


@dataclass(frozen=True, slots=True)
class Server:
    """A server of this run."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def megabytes(self) -> float:
        """The memory that it has now, of all its pages."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@contextmanager
def served(arguments: list[str]) -> Iterator[Server]:
    """A Python process that is given a free port as its last argument, once it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, *arguments, str(port)], cwd=HERE.parent, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(arguments)}: does not listen on port {port}")
            time.sleep(0.05)
        yield Server(f"http://127.0.0.1:{port}/", process)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


@dataclass(frozen=True, slots=True)
class Sides:
    """The app and the bare page, in one browser."""

    browser: "Browser"
    app: str
    bare: str

    @asynccontextmanager
    async def opened(self, url: str, reviewer: str) -> AsyncIterator["Page"]:
        """A page in a browser profile of its own, once its first card was painted."""
        context = await self.browser.new_context(viewport={"width": 1400, "height": 900})
        await context.add_init_script(RECORDER)
        page = await context.new_page()
        page.set_default_timeout(1e3 * PATIENCE)
        await page.goto(f"{url}?reviewer={reviewer}&task=retrieval")
        await page.wait_for_selector(CARD)
        await page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        yield page
        await context.close()


async def first_pages(sides: Sides, times: int) -> Figures:
    """From the address to the first card, with an empty cache; the very first one of a new server apart."""
    took: dict[str, list[float]] = {sides.app: [], sides.bare: []}
    for number in range(times + 1):
        for url in took:
            started = time.perf_counter()
            async with sides.opened(url, f"newcomer-{number}"):
                took[url].append(time.perf_counter() - started)
    return {
        "cold_first_page_s": took[sides.app][0],
        "first_page_s": statistics.median(took[sides.app][1:]),
        "bare_first_page_s": statistics.median(took[sides.bare][1:]),
    }


async def one_session(sides: Sides, keys: int) -> Figures:
    """A key in the app, a key in the bare page, and so on."""
    async with sides.opened(sides.app, "alone") as app, sides.opened(sides.bare, "alone") as bare:
        took: dict[str, list[float]] = {"app": [], "bare": []}
        for _ in range(keys):
            for name, page in (("app", app), ("bare", bare)):
                took[name].append(await key_to_paint(page))
                await asyncio.sleep(PAUSE)
    return compared(took["app"], took["bare"])


async def several_sessions(sides: Sides, *, rounds: int, keys: int) -> Figures:
    """Five reviewers press keys in the app, then five in the bare page, and so on."""
    took: dict[str, list[float]] = {sides.app: [], sides.bare: []}
    for each in range(rounds):
        for url, found in took.items():
            async with asyncio.TaskGroup() as group:
                waiting = asyncio.Barrier(CROWD)
                for number in range(CROWD):
                    group.create_task(_reviewer(sides, url, f"crowd-{each}-{number}", keys, waiting, found))
    return compared(took[sides.app], took[sides.bare])


async def _reviewer(sides: Sides, url: str, name: str, keys: int, waiting: asyncio.Barrier, took: list[float]) -> None:
    async with sides.opened(url, name) as page:
        await waiting.wait()
        for _ in range(keys):
            took.append(await key_to_paint(page))
            await asyncio.sleep(THINKING)
        await waiting.wait()


async def key_to_paint(page: "Page") -> float:
    """Milliseconds from a key to the next sample on the screen."""
    await page.keyboard.press("a")
    return float(await asyncio.wait_for(page.evaluate("() => window.keyToPaint"), PATIENCE))


def compared(app: list[float], bare: list[float]) -> Figures:
    return {
        "key_to_paint_vs_bare": statistics.median(app) / statistics.median(bare),
        "p50_ms": statistics.median(app),
        "p95_ms": _p95(app),
        "p95_vs_bare": _p95(app) / _p95(bare),
        "bare_p50_ms": statistics.median(bare),
        "bare_p95_ms": _p95(bare),
    }


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values))]


async def bursts(sides: Sides, store: Path, times: int) -> Figures:
    """
    Twenty keys in 0.6 s, faster than anybody reads: how many verdicts are doubled, blind or missing. Of the lost keys
    some may have come early, before the next sample was on the screen.
    """
    figures = dict.fromkeys(WRONG, 0.0)
    for number in range(times):
        async with sides.opened(sides.app, f"burst-{number}") as page:
            await page.evaluate("window.recordFrames()")
            started = time.perf_counter()
            for key in range(BURST):
                await page.keyboard.press("a")
                await asyncio.sleep(max(0.0, started + (key + 1) * BURST_SECONDS / BURST - time.perf_counter()))
            await asyncio.sleep(PAUSE)
            await page.wait_for_selector(ALL_STORED)
            painted = set(await page.evaluate("[...window.painted]"))
            figures["early"] += await page.evaluate("window.early")
        found = await asyncio.to_thread(apart, judged, store, f"burst-{number}")
        figures["doubled"] += len(found) - len(set(found))
        figures["blind"] += len(set(found) - painted)
        figures["lost"] += BURST - len(set(found))
    return figures


def judged(path: Path, reviewer: str) -> list[str]:
    """The queries of the samples that somebody judged, as the card draws them, each as often as it was judged."""
    from review_app.segments import segments
    from synth.store.connection import Store

    with Store.open(path).read() as cursor:
        rows = cursor.execute(
            "SELECT s.query FROM reviews v JOIN samples s USING (sample_id) WHERE v.reviewer = ?"
            " AND s.query IS NOT NULL AND v.negative_id IS NULL AND NOT v.is_undo",
            [reviewer],
        ).fetchall()
    return ["".join(part for part, _ in segments(query)) for (query,) in rows]


if __name__ == "__main__":
    main()

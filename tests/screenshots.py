"""
Pictures of every page of the review app, for docs/review.md.

    python -m tests.screenshots docs/images              # makes a workspace of the bundled data first: some minutes
    python -m tests.screenshots FOLDER --workspace W --dark --width 1024 --height 768
"""

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlencode
from uuid import UUID

from playwright.sync_api import Page, sync_playwright

from synth.records import Retrieval, ReviewEvent, Verdict, new_id
from synth.store.connection import Store
from synth.store.guidelines import ReviewSettings, add_guideline
from synth.store.queues import Queue, cards
from synth.store.reviews import add_reviews
from tests.browser.conftest import FLAGS, Server, until_painted
from tests.conftest import REPOSITORY, SAMPLE

SYNTH = Path(sys.executable).with_name("synth")
SEED = 0
NUM_READ = 240  # verdicts of each of two people, so that the figures have something to rest on
PEOPLE = ("ada", "bob")
CARDS = MappingProxyType({"retrieval": "retrieval", "sts": "sts", "classification": "classification"})
PAGES = MappingProxyType(
    {
        "explore": {},
        "sql": {},
        "dashboard": {"section": "Acceptance"},
        "compare": {"a": "release:first", "b": "release:second", "show": "Pairs"},
        "releases": {},
        "guidelines": {},
    }
)
GUIDELINE = """A query is good if somebody would type it, and if its positive answers it without the rest of the page.

Grades of the other passages:
0  has another subject, or only shares words with the query
1  is about the same subject and does not answer: a good hard negative
2  answers a part of the query, or leaves out what matters
3  answers it as well as the positive: promote it

Names, numbers and dates have to be those of the passage. Spelling mistakes that people make are no fault of a query.
"""


def main() -> None:
    """Write review-NAME.png for each card and each page."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    with _workspace(options.workspace) as workspace, _served(workspace) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        page = browser.new_page(
            viewport={"width": options.width, "height": options.height},
            color_scheme="dark" if options.dark else "light",
        )
        for task in CARDS:
            _open(page, server, "", reviewer="eve", task=task)
            page.wait_for_selector(".query .text:not(:empty), .card .text:not(:empty)", timeout=60_000)
            _take(page, options.folder / f"review-{task}.png")
        for name, asked in PAGES.items():
            _open(page, server, name, reviewer="eve", **asked)
            if name == "sql":
                page.get_by_role("button", name="Run").click()
            _take(page, options.folder / f"review-{name}.png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--workspace", type=Path, help="an existing one; made of the bundled data if left out")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    return parser.parse_args()


@contextmanager
def _workspace(given: Path | None) -> Iterator[Path]:
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "demo"
        for command in (
            ["init", str(workspace)],
            ["ingest", str(SAMPLE), "-w", str(workspace)],
            ["generate", "--task", "retrieval", "-w", str(workspace)],
            ["mine", "-w", str(workspace)],
            ["triage", "-w", str(workspace)],
        ):
            subprocess.run([SYNTH, *command], cwd=REPOSITORY, check=True)
        store = Store.open(workspace / "store.duckdb")
        review(store)
        freeze = [SYNTH, "release", "create", "-w", str(workspace)]
        subprocess.run([*freeze, "first"], cwd=REPOSITORY, check=True)
        edit(store)
        subprocess.run([*freeze, "second"], cwd=REPOSITORY, check=True)
        add_guideline(store, author="eve", text=GUIDELINE, settings=ReviewSettings(), after=0)
        yield workspace


def review(store: Store) -> None:
    """Verdicts of two made-up people on the same samples, who mostly agree."""
    chance = random.Random(SEED)
    shown = cards(store, reviewer=PEOPLE[0], queue=Queue.UNREVIEWED, limit=NUM_READ)
    outcomes = {card.sample_id: chance.random() < 0.9 for card in shown}
    for reviewer in PEOPLE:
        add_reviews(store, [_said(reviewer, card.sample_id, outcomes, chance) for card in shown])


def edit(store: Store) -> None:
    """Some queries as somebody would rather have them."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT sample_id, revision_id, query, positives FROM samples WHERE status = 'approved'"
            " AND task = 'retrieval' AND query SIMILAR TO '[A-Z][a-z ]+' ORDER BY sample_id LIMIT 12"
        ).fetchall()
    add_reviews(
        store,
        [
            ReviewEvent(
                new_id(),
                PEOPLE[0],
                sample_id,
                revision_id,
                Verdict.APPROVE,
                edited_id=new_id(),
                edit=Retrieval(f"What is known about {query[0].lower()}{query[1:]}?", tuple(positives)),
            )
            for sample_id, revision_id, query, positives in rows
        ],
    )


def _said(reviewer: str, sample_id: UUID, outcomes: dict[UUID, bool], chance: random.Random) -> ReviewEvent:
    is_right = outcomes[sample_id] if chance.random() < 0.95 else not outcomes[sample_id]
    return ReviewEvent(
        new_id(),
        reviewer,
        sample_id,
        sample_id,
        Verdict.APPROVE if is_right else Verdict.REJECT,
        reasons=() if is_right else (chance.choice(("wrong-positive", "unclear-query", "meaning-drift")),),
        difficulty=chance.choice((1, 1, 2, 2, 3, 4)),
        seconds=round(chance.lognormvariate(1.6, 0.6), 3),
        saw_scores=False,
    )


@contextmanager
def _served(workspace: Path) -> Iterator[Server]:
    server = Server(workspace)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _open(page: Page, server: Server, path: str, **asked: str) -> None:
    page.goto(f"{server.url}{path}?{urlencode(asked)}")
    page.wait_for_load_state("networkidle")


def _take(page: Page, path: Path) -> None:
    page.wait_for_timeout(2500)  # charts draw themselves in
    until_painted(page)
    page.screenshot(path=path)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()

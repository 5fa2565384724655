"""The reviewer's guide, followed to the letter: every key of its table, pressed in the order of its lines."""

import re

import pytest

from synth.store.connection import Store
from tests.browser.conftest import Opened, Server, shown, until_painted, wait_until_stored
from tests.conftest import REPOSITORY
from tests.review_app.seeding import add_samples

pytestmark = pytest.mark.slow

GUIDE = (REPOSITORY / "docs" / "guide-review.md").read_text()
PASSAGE = "The harbour opens at six and closes at nine, and boats wait before its gate until then."
OTHERS = [f"{number}. In the town, bread is baked at four, and the market is full by seven." for number in range(3)]
# What each line of the table leaves in the store: verdicts on the sample and on its negatives, and reasons.
EXPECTED = [
    {("approve", False)},
    {("reject", False)},
    {("skip", False)},
    {("skip", False)},
    {("flag", False)},
    {("promote", True), ("approve", False)},
    {("partial", True), ("approve", False)},
    {("keep", True), ("approve", False)},
    {("approve", False)},
]


def told(store: Store, reviewer: str, query: str) -> set[tuple[str, bool]]:
    """The verdicts of a reviewer on a sample (False) and on its negatives (True)."""
    with store.read() as cursor:
        rows = cursor.execute(
            "SELECT v.verdict, v.negative_id IS NOT NULL FROM reviews v JOIN revisions r USING (revision_id)"
            " WHERE v.reviewer = ? AND r.query LIKE ? AND NOT v.is_undone AND NOT v.is_undo",
            [reviewer, f"{query[:20]}%"],
        ).fetchall()
    return set(rows)


def keys_of(line: str) -> list[str]:
    """The keys that a cell of the table names: letters, digits as 1 (the first passage, the first reason)."""
    found = re.findall(r"Ctrl and Enter|mend it|\bdigit\b|\b[A-Z]\b", line)
    named = {"Ctrl and Enter": "Control+Enter", "digit": "1", "mend it": "mend it"}
    return [named.get(each, each.lower()) for each in found]


def test_every_key_of_the_guide_does_what_the_guide_says(review: Opened, server: Server) -> None:
    add_samples(server.store, [f"{n:02d} when does it open?" for n in range(40)], positive=PASSAGE, negatives=OTHERS)
    rows = [line.strip("| ").split(" | ") for line in GUIDE.splitlines() if re.match(r"\| [a-z]", line)]
    pressed = [keys_of(row[1]) for row in rows if row[0] != "you find"]
    assert len(pressed) == len(EXPECTED) + 1 and pressed[-1] == ["z"]
    page = review("guide")
    seen = []
    for keys, expected in zip(pressed, EXPECTED, strict=False):
        query = shown(page)
        seen.append(query)
        for key in keys:
            if key == "mend it":
                box = page.locator(".editor textarea, .editor input").first
                box.fill(query + " And when does it close?")
            else:
                page.keyboard.press(key)
            until_painted(page)
        if shown(page) == query:  # a grade alone decides nothing yet
            page.keyboard.press("a")
            until_painted(page)
        wait_until_stored(page)
        assert told(server.store, "guide", query) == expected, keys
    page.keyboard.press("z")
    until_painted(page)
    wait_until_stored(page)
    assert told(server.store, "guide", seen[-1]) == set()

"""The card's scripts, function by function, in a real browser."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page

from review_app.card import SCRIPTS
from tests.browser.conftest import Server
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

APP = REPOSITORY / "review_app"
# Two cards, as JavaScript.
CARDS = """[1, 2].map((n) => ({sample_id: `${n}`, revision_id: `${n}`, task: "retrieval", source: "s", operation: "o",
    method: "", instruction: [], query: [["Who?", ""]], positives: [], negatives: []}))"""
ID = "0192f0c1-0000-7000-8000-00000000000"


@pytest.fixture
def run(page: Page, server: Server) -> Any:
    """Run JavaScript after the card's scripts, on a page of the app's origin that is otherwise empty."""
    page.goto(f"{server.url}favicon.png")
    scripts = "\n".join((APP / name).read_text() for name in SCRIPTS)
    scripts = scripts.replace("export default", "")
    return lambda code: page.evaluate(f"async () => {{ {scripts}\n{code} }}")


def test_idle_time_above_a_minute_is_cut(run: Any) -> None:
    seconds = run("""
        let now = 0
        performance.now = () => now
        const watch = new Stopwatch()
        watch.start()
        now += 5_000; watch.touch()
        now += 3_600_000; watch.touch()
        now += 2_500
        return watch.seconds""")
    assert seconds == 5 + 60 + 2.5


def test_ids_are_version_7_and_ordered_by_time(run: Any) -> None:
    first, second = run("const now = Date.now(); const a = newId(); Date.now = () => now + 5; return [a, newId()]")
    assert first < second
    assert (first[14], len(first)) == ("7", 36)
    assert first[19] in "89ab"


def test_two_tabs_keep_each_others_events(run: Any) -> None:
    kept = run(f"""
        const one = new Outbox("o"), two = new Outbox("o")
        one.add([{{review_id: "{ID}1"}}])
        two.add([{{review_id: "{ID}2"}}])
        one.settle(["{ID}1"])
        return [...new Outbox("o").events.keys()]""")
    assert kept == [f"{ID}2"]


def test_what_is_no_event_of_ours_leaves_the_outbox(run: Any) -> None:
    left = run(f"""
        localStorage.setItem("o/1", "not json")
        localStorage.setItem("o/2", "3")
        localStorage.setItem("o/3", JSON.stringify({{review_id: "another"}}))
        localStorage.setItem("other/{ID}1", "{{}}")
        return [new Outbox("o").events.size, localStorage.length]""")
    assert left == [0, 1]


def test_a_full_browser_keeps_events_in_memory(run: Any) -> None:
    size = run(f"""
        localStorage.setItem("filler", "x".repeat(5_242_000))
        const outbox = new Outbox("o")
        outbox.add([{{review_id: "{ID}1", reasons: ["x".repeat(2000)]}}])
        return outbox.events.size""")
    assert size == 1


@pytest.mark.parametrize(
    ("text", "room", "expected"),
    [
        ("No term here. None at all. Nothing.", 10, 0),
        ("A [gate] first. Then much that does not matter at all.", 20, 0),
        ("Much that does not matter. The [gate] of the [harbour] opens. More that does not matter.", 40, 27),
        ("words that end nowhere and so on " * 4 + "[gate] [harbour]" + " and on" * 9, 40, 122),
        ("一些无关的文字。这是[港口]的[大门]。还有一些无关的文字。", 12, 8),
    ],
)
def test_a_clipped_text_starts_where_it_shares_most_with_the_query(
    run: Any, text: str, room: int, expected: int
) -> None:
    segments = [[part, "term" if index % 2 else ""] for index, part in enumerate(text.replace("]", "[").split("["))]
    length = sum(len(part) for part, _ in segments)
    assert run(f"return bestStart({segments!r}, {room}, {length})") == expected


def test_cards_held_for_too_long_are_let_go_and_others_asked_for(run: Any) -> None:
    found = run(f"""
        const data = {{
            cards: {CARDS},
            stored: [], refused: {{}}, trouble: "", reasons: [], held_for: 840,
            progress: {{done: 0, left: 9, claimed: 0}},
        }}
        const root = document.body.appendChild(document.createElement("div")).attachShadow({{mode: "open"}})
        root.innerHTML = {json.dumps((APP / "card.html").read_text())}
        const sent = []
        const card = new ReviewCard(root, "o")
        card.update({{data, setStateValue: (_, value) => sent.push(value)}})
        await new Promise((done) => setTimeout(done, 200))
        const start = Date.now()
        Date.now = () => start + 850_000
        window.dispatchEvent(new KeyboardEvent("keydown", {{key: "a"}}))
        return [sent.length, sent[0].events.length, sent[0].holding, card.current]""")
    assert found == [1, 0, [], None]


def test_of_two_cards_that_are_mounted_for_a_moment_only_the_newer_hears_keys(run: Any) -> None:
    sent = run(f"""
        const data = {{
            cards: {CARDS},
            stored: [], refused: {{}}, trouble: "", reasons: [], progress: {{done: 0, left: 2}},
        }}
        const sent = []
        for (const name of ["older", "newer"]) {{
            const root = document.body.appendChild(document.createElement("div")).attachShadow({{mode: "open"}})
            root.innerHTML = {json.dumps((APP / "card.html").read_text())}
            const setStateValue = (_, value) => sent.push([name, value.events.length])
            new ReviewCard(root, name).update({{data, setStateValue}})
        }}
        await new Promise((done) => setTimeout(done, 200))
        window.dispatchEvent(new KeyboardEvent("keydown", {{key: "a"}}))
        return sent""")
    assert sent == [["newer", 1]]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [["a", "x"], []]),
        ({"approve": "L"}, [["l", "x"], []]),
        ({"approve": "x", "reject": "a"}, [["x", "a"], []]),
        ({"approve": "x"}, [["a", "x"], ["the key of approve is another's too"]]),
        ({"approve": "r"}, [["a", "x"], ["R is taken, not for approve"]]),
        ({"reject": "7"}, [["a", "x"], ["7 is taken, not for reject"]]),
        ({"fly": "l"}, [["a", "x"], ["there is no action fly"]]),
        ({"approve": "Enter", "reject": 3}, [["a", "x"], ["approve needs a single key", "reject needs a single key"]]),
        ({"approve": "l", "reject": "l"}, [["a", "x"], ["the key of approve is", "the key of reject is"]]),
    ],
)
def test_keys_of_ones_own_hold_unless_they_are_unknown_reserved_or_anothers(
    run: Any, own: dict[str, Any], expected: list[list[str]]
) -> None:
    keys, faults = run(f"""
        const {{ keys, faults }} = keyMap({json.dumps(own)})
        return [[keys.get("approve"), keys.get("reject")], faults]""")
    assert keys == expected[0]
    assert len(faults) == len(expected[1])
    assert all(fault.startswith(start) for fault, start in zip(faults, expected[1], strict=True))


def test_a_text_is_its_segments_again_unless_it_was_cut(run: Any) -> None:
    whole, cut = run("""
        const cut = [["a", ""], ["9 more characters", "hidden"]]
        return [plain([["a", "ins"], ["U+200B", "hidden"], ["b", ""]]), plain(cut)]
    """)
    assert (whole, cut) == ("a\u200bb", None)

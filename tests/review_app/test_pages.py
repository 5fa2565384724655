"""The pages as Streamlit runs them, without a browser."""

import fcntl
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from review_app.outbox import receive
from synth.records import Classification, Sts
from synth.store.connection import Store
from tests.conftest import REPOSITORY
from tests.review_app.seeding import add_samples, add_unmined, approve_by_policy, num_events, verdicts
from tests.review_app.test_outbox import sent

HOSTILE = (
    "<script>fetch('http://attacker.example/s')</script> ![x](http://attacker.example/i.png) :red[gone] $5$ # Title"
    " <style>*{display:none}</style> [link](javascript:alert(1)) \u202eevil\u202c zero\u200bwidth :smile:"
)
Open = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("plain_queues")


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> Open:
    """Run the app on the test's store."""
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path)])
    monkeypatch.setattr(sys, "path", list(sys.path))  # Streamlit adds the app's folder

    def run(reviewer: str = "ada", **query: str) -> AppTest:
        app = AppTest.from_file(str(REPOSITORY / "review_app" / "app.py"), default_timeout=30)
        app.query_params.update({"reviewer": reviewer} if reviewer else {})
        app.query_params.update(query)
        app.run()
        assert not app.exception
        return app

    return run


def payload(app: AppTest) -> dict[str, Any]:
    (card,) = app.get("bidi_component")
    found: dict[str, Any] = json.loads(card.proto.json)
    return found


def send(
    app: AppTest, *events: dict[str, Any], holding: tuple[str, ...] = (), queue: str = "unreviewed", **more: Any
) -> AppTest:
    key = f"card {queue} ada"
    app.session_state[key] = {"outbox": {"events": list(events), "holding": list(holding), "sent": 1, **more}}
    app.run()
    assert not app.exception
    return app


def queries(app: AppTest) -> list[str]:
    return ["".join(part for part, _ in card["query"]) for card in payload(app)["cards"]]


def revealed(app: AppTest, queue: str = "unreviewed") -> dict[str, Any]:
    """The scores of the first card, once the reviewer has asked for them."""
    card = payload(app)["cards"][0]
    app = send(app, holding=(card["sample_id"],), queue=queue, reveal=True)
    found: dict[str, Any] = payload(app)["scores"][card["revision_id"]]
    return found


def drawn_by_streamlit(app: AppTest) -> str:
    """Every text that Streamlit itself would draw, Markdown or not."""
    lists = (app.markdown, app.text, app.title, app.caption, app.header, app.subheader, app.code, app.table)
    return "\n".join(str(element.value) for found in lists for element in found)


def test_a_name_is_asked_for_and_an_empty_one_refused(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    app = opened(reviewer="")
    assert not app.get("bidi_component")
    app.text_input[0].set_value("   ")
    app.form_submit_button[0].click().run()
    assert app.error[0].value == "A name is needed."
    app.text_input[0].set_value("  ada   lovelace ")
    app.form_submit_button[0].click().run()
    assert app.query_params["reviewer"] == "ada lovelace"
    assert "Reviewing as ada lovelace" in [text.value for text in app.text]
    assert queries(app) == ["When does it open?"]


def test_another_reviewer_can_take_over(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    app = opened()
    app.button[0].click().run()
    assert app.text_input[0].label == "Your name"
    assert "reviewer" not in app.query_params


def test_the_card_has_texts_and_origin(opened: Open, store: Store) -> None:
    add_samples(store, ["When does the harbour open?"], positive="Harbour\nIt opens at six.")
    (card,) = payload(opened())["cards"]
    assert (card["task"], card["source"], card["operation"], card["method"]) == ("retrieval", "guide", "query", "llm")
    assert card["positives"] == [
        {"title": [["Harbour", "term"]], "body": [["It ", ""], ["opens", "term"], [" at six.", ""]]}
    ]
    first = card["negatives"][0]
    assert [len(card["negatives"]), first["title"], first["body"][1]] == [2, [], ["harbour", "term"]]


def test_a_verdict_is_stored_acknowledged_and_followed_by_the_next_card(opened: Open, store: Store) -> None:
    first, _ = add_samples(store, ["When does it open?", "When does it close?"])
    app = opened()
    assert queries(app) == ["When does it open?", "When does it close?"]
    event = sent(first)
    send(app, event)
    assert payload(app)["stored"] == [event["review_id"]]
    assert queries(app) == ["When does it close?"]
    assert payload(app)["progress"] == {"done": 1, "left": 1, "claimed": 0}
    assert verdicts(store) == [("When does it open?", "approve")]


def test_cards_that_the_browser_holds_are_not_sent_again(opened: Open, store: Store) -> None:
    ids = [str(each) for each in add_samples(store, [f"Question {number}?" for number in range(30)])]
    app = opened()
    assert len(payload(app)["cards"]) == 25
    assert payload(send(app, sent(ids[0]), holding=tuple(ids[1:25])))["cards"] is None
    app = send(app, sent(ids[20]), holding=tuple(ids[1:16]))
    assert queries(app) == [f"Question {number}?" for number in (16, 17, 18, 19, 21, 22, 23, 24, 25, 26)]


def test_a_browser_cannot_claim_cards_by_saying_that_it_holds_them(opened: Open, store: Store) -> None:
    ids = tuple(map(str, add_samples(store, [f"Question {number}?" for number in range(140)])))
    send(opened("ada"), holding=ids)
    assert len(payload(opened("bob"))["cards"]) == 25


def test_hostile_texts_go_only_into_the_card_and_hidden_characters_are_named(opened: Open, store: Store) -> None:
    add_samples(store, [HOSTILE], positive=HOSTILE, negatives=[HOSTILE + "!"])
    app = opened()
    assert "attacker" not in drawn_by_streamlit(app)
    assert not app.get("html")
    (card,) = payload(app)["cards"]
    for segments in (card["query"], card["positives"][0]["body"], card["negatives"][0]["body"]):
        shown = "".join(chr(int(part[2:], 16)) if kind == "hidden" else part for part, kind in segments)
        assert shown.rstrip("!") == HOSTILE
        assert [part for part, kind in segments if kind == "hidden"] == ["U+202E", "U+202C", "U+200B"]


def test_a_hostile_reviewer_name_is_drawn_as_text(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    app = opened(reviewer="![x](http://attacker.example/a.png)\u202e")
    assert not any("attacker" in str(each.value) for each in app.markdown)
    assert any("⟨U+202E⟩" in text.value for text in app.text)


def test_the_audit_queue_has_what_only_a_policy_approved(opened: Open, store: Store) -> None:
    approve_by_policy(store, add_samples(store, ["When does it open?"])[:1])
    add_samples(store, ["When does it close?"])
    app = opened(queue="audit")
    assert queries(app) == ["When does it open?"]
    assert revealed(app, queue="audit")["decided_by"] == "policy:everything"


def test_two_reviewers_are_not_shown_the_same_card(opened: Open, store: Store) -> None:
    add_samples(store, [f"Question {number}?" for number in range(40)])
    ada, bob = opened("ada"), opened("bob")
    assert (len(payload(ada)["cards"]), len(payload(bob)["cards"])) == (25, 15)
    assert not set(queries(ada)) & set(queries(bob))
    assert payload(bob)["held_for"] == 840
    late = opened("eve")
    assert (payload(late)["cards"], payload(late)["progress"]) == ([], {"done": 0, "left": 0, "claimed": 40})


def test_a_verdict_renews_no_claim_that_is_fresh_but_an_undo_does(opened: Open, store: Store) -> None:
    ids = [str(each) for each in add_samples(store, [f"Question {number}?" for number in range(30)])]
    event = sent(ids[0])
    app = send(opened(), event, holding=tuple(ids[1:25]))
    assert (payload(app)["cards"], payload(app)["held_for"]) == (None, None)
    undo = sent(ids[0], verdict="skip", undoes=event["review_id"])
    assert payload(send(app, undo, holding=tuple(ids[:25])))["held_for"] == 840


def test_the_disputed_queue_has_what_people_disagree_on(opened: Open, store: Store) -> None:
    first, _ = add_samples(store, ["When does it open?", "When does it close?"])
    for who, verdict in (("bob", "approve"), ("eve", "reject")):
        assert receive(store, who, [sent(first, verdict=verdict)]).refused == {}
    app = opened(queue="disputed")
    assert queries(app) == ["When does it open?"]
    assert revealed(app, queue="disputed")["decided_by"] == "bob, eve"


def test_a_labelled_negative_goes_without_rank_and_scores(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    with store.write() as cursor:
        cursor.execute("UPDATE negative SET origin = 'labelled', rank = NULL, score = NULL, positive_score = NULL")
    negative = next(iter(revealed(opened())["negatives"].values()))
    assert [negative[key] for key in ("origin", "rank", "score", "positive_score")] == ["labelled", None, None, None]


def test_an_unknown_queue_in_the_address_is_the_unreviewed_one(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    assert queries(opened(queue="nonsense")) == ["When does it open?"]


def test_an_empty_queue_offers_the_other_one(opened: Open, store: Store) -> None:
    approve_by_policy(store, add_samples(store, ["When does it open?"]))
    app = opened()
    assert payload(app)["cards"] == []
    (button,) = [each for each in app.button if each.label.startswith("Go on")]
    assert button.label == "Go on with the audit queue: 1 left"
    button.click().run()
    assert queries(app) == ["When does it open?"]


def test_an_empty_store_says_what_to_run(opened: Open) -> None:
    app = opened()
    assert app.subheader[0].value == "No samples yet"
    assert "synth ingest" in app.code[0].value
    assert not app.get("bidi_component")


def test_a_task_without_samples_names_those_that_have_some(opened: Open, store: Store) -> None:
    add_unmined(store, Classification("It is late.", "time"))
    add_unmined(store, Sts("It rains.", "Rain falls.", 4.5))
    app = opened(task="retrieval")
    assert app.subheader[0].value == "No retrieval samples to review"
    assert "1 classification and 1 sts" in app.text[-1].value


def test_all_tasks_come_unless_the_address_names_one(opened: Open, store: Store) -> None:
    add_samples(store, ["When does it open?"])
    add_unmined(store, Classification("It is late.", "time"))
    add_unmined(store, Sts("It rains.", "Rain falls.", 4.5))
    assert sorted(card["task"] for card in payload(opened())["cards"]) == ["classification", "retrieval", "sts"]
    app = opened("bob", task="sts")
    assert (payload(app)["cards"], payload(app)["progress"]["left"]) == ([], 0)  # ada has it


def test_while_another_process_keeps_the_store_nothing_is_acknowledged(
    opened: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sample,) = add_samples(store, ["When does it open?"])
    patient = Store.open
    monkeypatch.setattr(Store, "open", lambda path, lock_timeout: patient(path, lock_timeout=0.1))
    app = opened()
    with open(f"{store.path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = payload(send(app, sent(sample)))
    assert (found["stored"], found["cards"], found["progress"]) == ([], None, None)
    assert "another process has kept the store" in found["trouble"]
    assert num_events(store) == 0

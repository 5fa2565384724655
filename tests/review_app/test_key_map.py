"""Keys of a reviewer's own: what may be one."""

import pytest

from review_app.key_map import actions, keep_keys, own_keys
from synth.records import UserError
from synth.store.connection import Store
from tests.conftest import REPOSITORY


def test_every_action_of_the_cards_table_can_have_another_key() -> None:
    table = (REPOSITORY / "review_app" / "keys.js").read_text()
    assert len(actions()) == table.count("{ action: ") > 20
    assert len({action.key for action in actions()}) == len(actions())


def test_what_differs_is_kept_and_two_may_change_places(store: Store) -> None:
    keep_keys(store, "ada", {"approve": "S", "skip": "a", "expand": "space", "undo": "é"})
    assert own_keys(store, "ada") == {"approve": "s", "skip": "a", "undo": "é"}
    assert own_keys(store, "bob") == {}
    keep_keys(store, "ada", {})
    assert own_keys(store, "ada") == {}


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"approve": "x"}, "X cannot be for both Approve and Reject"),
        ({"approve": "y", "reject": "Y"}, "cannot be for both"),
        ({"approve": "r"}, "R is taken"),
        ({"approve": "C"}, "C is taken"),
        ({"approve": "3"}, "3 is taken"),
        ({"approve": ""}, "no single key"),
        ({"approve": "ab"}, "no single key"),
        ({"approve": "\u200b"}, "no single key"),
    ],
)
def test_a_key_that_cannot_be_is_refused_and_nothing_is_kept(store: Store, wanted: dict[str, str], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        keep_keys(store, "ada", wanted)
    assert own_keys(store, "ada") == {}

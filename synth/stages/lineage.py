"""The life of a thing with the replies of the LLM in it, which the journal keeps and the store does not."""

from pathlib import Path
from typing import Any

from synth.llm.journal import Journal
from synth.store.connection import Store
from synth.store.history import life


def life_with_replies(store: Store, journal: Path, given: str) -> dict[str, Any]:
    """
    What `life` tells, each call with its `reply`: the text as it came, None where the journal has it no more.

    Raises UserError if nothing, or more than one thing, is called `given`.
    """
    told = life(store, given)
    calls = [told] if told["thing"] == "call" else []
    if told["thing"] == "sample":
        calls += [each["call"] for each in (*told["revisions"], *told["negatives"]) if each["call"]]
    if calls:
        with Journal(journal, read_only=True) as replies:
            for call in calls:
                reply = replies.get(call.get("call_id") or told["id"])
                call["reply"] = reply and reply.text
    return told

"""
What a recipe is, and how the JSON in a reply is found. A reply is hostile input: it is parsed as JSON, never run.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from synth.checks import Rejection
from synth.records import BadReply, Draft, Passage, Task

_MOST_SHOWN = 120


class Parse(Protocol):
    """The drafts in a reply and what its checks rejected. Raises BadReply if the reply does not fit the recipe."""

    def __call__(self, reply_text: str, seed: Passage) -> tuple[list[Draft], list[Rejection]]: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    Prompt and parser of one operation on one task. `messages(seed, num_queries)` are what the LLM is sent.

    `prompt_version` names the prompt and changes with it; the parser may change alone, and old replies are parsed anew.
    """

    task: Task
    operation: str
    prompt_version: str
    messages: Callable[[Passage, int], list[dict[str, str]]]
    parse: Parse


def json_object(reply_text: str) -> dict[str, Any]:
    """
    The JSON object that a reply is, or else the one within it: after the thoughts of a reasoning model, inside a
    fence, between a preamble and a farewell.

    Raises:
        BadReply: there is none.
    """
    answer = reply_text.rpartition("</think>")[2]
    outermost = answer[answer.find("{") : answer.rfind("}") + 1]
    for text in (reply_text, outermost):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):  # not JSON, a number of thousands of digits, or ten thousand brackets
            continue
        if isinstance(value, dict):
            return value
    shown = reply_text if len(reply_text) <= _MOST_SHOWN else f"{reply_text[:_MOST_SHOWN]}…"
    raise BadReply(f"the reply is no JSON object: {shown!r}")

"""
What a recipe is: what the LLM is sent, the form that its reply must have, and what is made of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from synth.checks import Rejection
from synth.recipes.reading import Repaired
from synth.records import Draft, Passage, Task

_MOST_REPEATED = 4_000  # characters of a reply that are shown to the LLM again


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply gave: drafts, what the checks rejected, and what had to be done to read it."""

    drafts: Sequence[Draft]
    rejections: Sequence[Rejection]
    repaired: Repaired


class Parse(Protocol):
    """
    What a reply to the messages about a seed gives. The drafts' `model` is left to the caller, who knows who replied.

    Raises BadReply if the reply does not fit the recipe, in a line that tells the LLM how to mend it.
    """

    def __call__(self, reply_text: str, seed: Passage) -> Parsed: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    Prompt, form of the reply and parser of one operation on one task.

    `messages(seed, num_queries)` are what the LLM is sent; `prompt_version` names them and changes with them.
    `schema` is the JSON schema of the reply, in the strict form that servers take; None if it may be any text.
    `parser_version` changes with parser and checks: replies from earlier are then parsed anew, and cost nothing.
    `example_reply(seed, num_queries)` is as long as a usual reply, to estimate its tokens; it is no sample.
    """

    task: Task
    operation: str
    prompt_version: str
    parser_version: str
    schema: Mapping[str, Any] | None
    messages: Callable[[Passage, int], list[dict[str, str]]]
    parse: Parse
    example_reply: Callable[[Passage, int], str]


def asking_again(messages: Sequence[Mapping[str, str]], reply_text: str, error: str) -> list[Mapping[str, str]]:
    """
    The conversation so far, the reply that did not fit, and what was wrong with it.

    Args:
        error: what `parse` said of it.
    """
    # Thoughts are not sent back: they are long, and chat templates drop them. Some servers refuse an empty message.
    answer = reply_text.rpartition("</think>")[2].strip() or "(nothing)"
    shown = answer if len(answer) <= _MOST_REPEATED else f"{answer[:_MOST_REPEATED]}…"
    demand = (
        f"This reply cannot be used: {error}. Reply to the first request again, with one JSON object as it asks for, "
        "complete, and nothing before or after it."
    )
    return [*messages, {"role": "assistant", "content": shown}, {"role": "user", "content": demand}]

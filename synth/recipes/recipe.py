"""
What a recipe is: what the LLM is sent about a seed, the form that its reply must have, and what is made of it.
"""

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal
from uuid import UUID

from synth.checks import Rejection, rejected
from synth.recipes.reading import Repaired
from synth.records import (
    Classification,
    Content,
    Draft,
    Passage,
    Retrieval,
    Sample,
    Seed,
    Sts,
    Task,
    UserError,
    Written,
    text_id,
)

_MOST_REPEATED = 4_000  # characters of a reply that are shown to the LLM again
_MOST_NAMED, _MOST_QUOTED = 8, 80  # rejections that it is told, and characters of their texts

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class NewSample:
    """
    A sample as a reply gave it: its content, hard negatives written with it, and by which method of the operation it
    was made, if there are several.
    """

    content: Content
    written: tuple[Written, ...] = ()
    method: str = "llm"


Made = NewSample | Written
# Of a check: a reason in a word, the text at fault, and what was found; None: nothing.
Finding = tuple[str, str, str | None]
# The checks of one item of a reply, the cheap ones first, and behind them what is made of it.
Checked = Iterator[Finding | Made]


@dataclass(frozen=True, slots=True)
class Brief:
    """
    What is wanted of a seed: `number` more samples or negatives, other than those `made` by earlier replies about it.
    `language`, as in "French", is that of what is to be written; "" is the seed's own. `facts` are what the reply to
    the recipe's `first` request gave.
    """

    number: int
    made: Sequence[Made] = ()
    language: str = ""
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def samples(self) -> list[NewSample]:
        """The samples among what was made."""
        return [each for each in self.made if isinstance(each, NewSample)]

    @property
    def negatives(self) -> list[Written]:
        """The negatives among what was made."""
        return [each for each in self.made if isinstance(each, Written)]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply gave: samples or negatives, what the checks rejected, and what had to be done to read it."""

    made: Sequence[Made]
    rejections: Sequence[Rejection]
    repaired: Repaired = ""


def parsed(items: Iterable[Iterable[Finding | Made]], repaired: Repaired = "") -> Parsed:
    """
    What a reply gives: of each of its items what is made of it, or the first finding, as a rejection.

    Args:
        items: of each in turn, what its checks find and behind it what is made of it. What stands behind the first
            that found something is never run: a text that is far too long is not compared with others, and what was
            not accepted is not remembered as made.
    """
    made: list[Made] = []
    rejections: list[Rejection] = []
    for item in items:
        outcome = _outcome(item)
        if isinstance(outcome, Rejection):
            rejections.append(outcome)
        else:
            made += outcome
    return Parsed(made, rejections, repaired)


def _outcome(item: Iterable[Finding | Made]) -> list[Made] | Rejection:
    made: list[Made] = []
    for each in item:
        if isinstance(each, (NewSample, Written)):
            made.append(each)
            continue
        reason, text, found = each
        if found:
            return rejected(reason, text, found)
    return made


@dataclass(frozen=True, slots=True)
class First:
    """
    A request that goes before the one for samples, about the same seed: its reply decides facts for the `Brief`.

    `read` raises BadReply if the reply does not fit, in a line that tells the LLM how to mend it. `example` is a reply
    that it reads.
    """

    messages: Callable[[Any, Brief], Messages]
    schema: Mapping[str, Any] | None
    read: Callable[[str, Any], Mapping[str, str]]
    example: str


@dataclass(frozen=True)
class Recipe:
    """
    Prompt, form of the reply and parser of one operation on one task.

    Every function is given a seed: a Passage or a Sample, as `seeds` says.

    Args:
        title: what it makes, in a line.
        source: the paper that it follows.
        per_seed: how many samples or negatives are asked for of a seed, where nobody says.
        messages: what the LLM is sent. `prompt_version` changes with it, by itself.
        schema: the JSON schema of the reply, in the strict form that servers take; None if it may be any text.
        parse: what a reply gives. Raises BadReply if the reply does not fit the recipe, in a line that tells the LLM
            how to mend it.
        example_reply: as long as a usual reply, to estimate its tokens; it is no sample.
        checks: the reasons for which `parse` rejects.
        most_tries: requests about a seed, as long as fewer than asked were accepted.
        parser_version: changes with parser and checks: replies from earlier are then parsed anew, and cost nothing. By
            itself that of the file that `parse` stands in.
        first: a request that goes before.
        again: how to ask again for seeds that got no usable reply; `{only}` is the option's value for why.
        makes: what a seed gives: "negatives" where no sample is written.
        language: whose language a reply is in: the seed's, any that `Brief.language` names, or one that it must name.
    """

    task: Task
    operation: str
    title: str
    source: str
    seeds: Literal["passages", "samples"]
    per_seed: int
    messages: Callable[[Any, Brief], Messages]
    schema: Mapping[str, Any] | None
    parse: Callable[[str, Any, Brief], Parsed]
    example_reply: Callable[[Any, int], str]
    checks: Sequence[str] = ()
    most_tries: int = 1
    parser_version: str = ""
    first: First | None = None
    makes: Literal["samples", "negatives"] = "samples"
    language: Literal["seed", "any", "needed"] = "seed"
    again: str = "synth runs retry last --only {only}"

    @cached_property
    def prompt_version(self) -> str:
        """Names what the LLM is sent: a hash of the messages about made-up seeds, and of the schema."""
        sent = []
        for seed in self.probes:
            for number in (1, 5):
                facts = self.first.read(self.first.example, seed) if self.first else {}
                brief = Brief(number, facts=facts)
                sent += [self.messages(seed, brief), self.first.messages(seed, brief) if self.first else []]
        schemas = [self.schema, self.first.schema if self.first else None]
        return f"{self.task}-{self.operation}-{_digest(json.dumps([sent, schemas], sort_keys=True, default=dict))}"

    @cached_property
    def parsing(self) -> str:
        """Names the parser: its version, or a hash of the file that it stands in."""
        return self.parser_version or _digest(inspect.getsource(sys.modules[self.parse.__module__]))

    def check_language(self, language: str) -> None:
        """Raise UserError if a language is needed and none is given, given and none is taken, or none at all."""
        if language and not re.fullmatch(r"[^\W\d_][\w ()-]{1,39}", language):
            raise UserError(f"--language {language[:40]!r}: name one as in `French` or `Brazilian Portuguese`")
        if language and self.language == "seed":
            raise UserError(f"the operation {self.operation} writes in the language of its seeds: leave --language out")
        if not language and self.language == "needed":
            raise UserError(f"the operation {self.operation} needs to know the other language: --language French")

    def draft(self, made: NewSample, seed: Seed, *, model: str, call_id: UUID | None) -> Draft:
        """A new sample with all that is known of where it came from."""
        return Draft(
            content=made.content,
            source_id=seed.source_id,
            operation=self.operation,
            method=made.method,
            seed_id=seed.passage_id if isinstance(seed, Sample) else seed.text_id,
            model=model,
            prompt_version=self.prompt_version,
            call_id=call_id,
            parent_id=seed.revision_id if isinstance(seed, Sample) else None,
            written=tuple([replace(each, call_id=call_id) for each in made.written]),
        )

    @property
    def probes(self) -> Sequence[Seed]:
        """The made-up seeds that `prompt_version` is a hash over. A recipe of seeds of another kind has its own."""
        return _PASSAGES if self.seeds == "passages" else [_probe(_CONTENT[self.task])]


_CONTENT: Mapping[Task, Content] = {
    Task.RETRIEVAL: Retrieval(
        "what is a skiff?", ("A skiff is a small flat boat. One person rows it.",), "Find boats."
    ),
    Task.STS: Sts("A boat sails.", "A ship is sailing.", 4.2),
    Task.CLASSIFICATION: Classification("my card has not come", "card_arrival"),
}
_PASSAGES = [  # with ids of all residues that a recipe may decide something by
    Passage(UUID(int=number), f"A skiff is a small flat boat. {number}", "Skiff", UUID(int=0)) for number in range(12)
]


def _probe(content: Content) -> Sample:
    return Sample(UUID(int=1), UUID(int=1), content, UUID(int=0), text_id("A skiff is a small flat boat."))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def asking_again(messages: Sequence[Mapping[str, str]], reply_text: str, error: str) -> list[Mapping[str, str]]:
    """
    The conversation so far, the reply that did not fit, and what was wrong with it.

    Args:
        error: what `parse` said of it.
    """
    demand = (
        f"This reply cannot be used: {error}. Reply to the first request again, with one JSON object as it asks for, "
        "complete, and nothing before or after it."
    )
    return _continued(messages, reply_text, demand)


def asking_for_more(
    messages: Sequence[Mapping[str, str]], reply_text: str, parsed: Parsed, number: int
) -> list[Mapping[str, str]]:
    """
    The conversation so far, a reply of which not everything could be used, why, and the demand for so many more.
    """
    lines = [f"- {_quoted(each.text)}: {each.found}" for each in parsed.rejections[:_MOST_NAMED]]
    if len(parsed.rejections) > _MOST_NAMED:
        lines.append(f"- and {len(parsed.rejections) - _MOST_NAMED} more")
    found = "\n".join(["Of this reply these cannot be used:", *lines]) if lines else "This reply holds too few."
    demand = (
        f"{found}\n\nReply again in the same form, with exactly {number} new: each must meet every rule of the first "
        "request, and none may repeat one of your earlier replies."
    )
    return _continued(messages, reply_text, demand)


def _continued(messages: Sequence[Mapping[str, str]], reply_text: str, demand: str) -> list[Mapping[str, str]]:
    # Thoughts are not sent back: they are long, and chat templates drop them. Some servers refuse an empty message.
    answer = reply_text.rpartition("</think>")[2].strip() or "(nothing)"
    shown = answer if len(answer) <= _MOST_REPEATED else f"{answer[:_MOST_REPEATED]}…"
    return [*messages, {"role": "assistant", "content": shown}, {"role": "user", "content": demand}]


def _quoted(text: str) -> str:
    shown = " ".join(text[: 4 * _MOST_QUOTED].split())
    return json.dumps(shown if len(shown) <= _MOST_QUOTED else f"{shown[:_MOST_QUOTED]}…", ensure_ascii=False)

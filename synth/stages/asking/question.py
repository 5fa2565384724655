"""
One question about a seed: the request, the reading of its reply, one more request if that cannot be read, and what
became of each reply and of each seed that got none.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from uuid import UUID

from synth.llm.engine import Engine
from synth.llm.journal import Reply
from synth.llm.receipts import NoReply
from synth.llm.server import Messages
from synth.recipes.recipe import asking_again
from synth.records import BadReply, FailureKind
from synth.store.calls import Call
from synth.store.failures import Failure

T = TypeVar("T")

# Failures that the engine hands out without having said a word.
UNSAID: frozenset[FailureKind] = frozenset({"withheld", "empty"})


@dataclass(frozen=True, slots=True)
class Request:
    """Messages, and the JSON schema of the reply; None if it may be any text."""

    messages: Messages
    schema: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a reply says, or why nothing of it is used, and what had to be done to read it."""

    said: T
    is_used: bool = True
    reason: str = ""
    repaired: str = ""


@dataclass(slots=True)
class Subject:
    """A seed that is being asked about: which attempt, which try (from 0), and how many replies were bought for it."""

    seed_id: UUID
    attempt: int = 0
    turn: int = 0
    num_bought: int = 0  # of the replies that came; a request without one counts what it was sent


@dataclass(frozen=True, slots=True)
class _Fate:
    outcome: str
    reason: str = ""
    repaired: str = ""
    turn: int = 0


class Questions:
    """
    Asks `engine`, and tells the store's rows of it.

    Args:
        hopeless: the keys of the requests of which an earlier run learnt that no usable reply comes.
        again: the command that asks again for seeds that got no usable reply; `{only}` is the option's value for why.
    """

    def __init__(
        self, engine: Engine, stage_key: UUID, prompt_version: str, hopeless: Collection[UUID], again: str
    ) -> None:
        self._engine, self._stage_key, self._prompt_version = engine, stage_key, prompt_version
        self._hopeless, self._again = hopeless, again
        self._fates: dict[UUID, _Fate] = {}
        self._num_cut = 0  # replies that were used in part

    async def ask(self, request: Request, subject: Subject, read: Callable[[str], Found[T]]) -> tuple[Reply, Found[T]]:
        """
        A reply and what `read` makes of it; after one for which it raises BadReply, of one more.

        Raises what Engine.complete raises; NoReply too where a reply came and is of no use.
        """
        reply = await self._complete(request, subject)
        try:
            return reply, self._read(reply, read, subject.turn, repaired="")
        except _Unread as error:
            again = replace(request, messages=asking_again(request.messages, reply.text, str(error)))
        reply = await self._complete(again, subject)
        try:
            return reply, self._read(reply, read, subject.turn, repaired="asked again")
        except _Unread as error:
            said = f"the reply of {reply.model} is not as asked, nor is the one to a second request: {error}"
            raise _of_no_use(said, "unusable", reply) from None

    async def _complete(self, request: Request, subject: Subject) -> Reply:
        reply = await self._engine.complete(
            request.messages, subject.attempt, schema=request.schema, seed_id=subject.seed_id
        )
        subject.num_bought += not reply.replayed
        return reply

    def _read(self, reply: Reply, read: Callable[[str], Found[T]], turn: int, *, repaired: str) -> Found[T]:
        """Raises _Unread for a reply that does not fit, NoReply for one that was cut before anything."""
        assert reply.call_id is not None
        was_cut = reply.finish_reason == "length"
        try:
            found = read(reply.text)
        except BadReply as error:
            if was_cut:
                raise self._cut(reply, turn) from None
            self._fates[reply.call_id] = _Fate("unusable", str(error), repaired, turn)
            raise _Unread(str(error)) from None
        if was_cut and not found.is_used:
            raise self._cut(reply, turn)
        if was_cut:
            self._used_in_part(reply)
        outcome = "used" if found.is_used else "rejected"
        self._fates[reply.call_id] = _Fate(outcome, found.reason, found.repaired or repaired, turn)
        return found

    def _cut(self, reply: Reply, turn: int) -> NoReply:
        assert reply.call_id is not None
        self._fates[reply.call_id] = _Fate("cut", turn=turn)
        said = f"the reply of {reply.model} was cut at max_tokens = {self._engine.config.max_tokens}; raise max_tokens"
        return _of_no_use(said, "cut", reply)

    def _used_in_part(self, reply: Reply) -> None:
        self._num_cut += 1
        cut = f"a reply of {reply.model} was cut at max_tokens = {self._engine.config.max_tokens} and used in part"
        self._engine.tally.note(f"{cut}; raise max_tokens for longer ones", once="cut in part")

    @property
    def found(self) -> list[str]:
        """What there is to say of the replies at the end, one line each."""
        if not self._num_cut:
            return []
        replies = "1 reply was" if self._num_cut == 1 else f"{self._num_cut:,} replies were"
        return [f"{replies} cut at max_tokens and used in part: raise max_tokens for longer ones"]

    def left(self, error: NoReply, subject: Subject) -> tuple[Failure, bool]:
        """
        Leave a seed: what the store is to keep, and whether an earlier run had left it already and nothing was sent
        now. The first of each kind is said at once, unless the engine has.
        """
        is_said = not isinstance(error, _OfNoUse) and error.kind not in UNSAID
        error.num_attempts += subject.num_bought
        passed_over = error.request_key in self._hopeless and not error.num_attempts
        if not (is_said or passed_over):
            only = "unusable" if error.kind == "unusable" else "failed"
            again = f"; its seed is left, `{self._again.format(only=only)}` asks again"
            self._engine.tally.note(f"{error}{'' if error.kind == 'cut' else again}", once=f"left {error.kind}")
        return self._failure(error, subject), passed_over

    def _failure(self, error: NoReply, subject: Subject) -> Failure:
        return Failure(
            stage_key=self._stage_key,
            seed_id=subject.seed_id,
            request_key=error.request_key,
            asked=error.asked,
            server=error.server,
            prompt_version=self._prompt_version,
            kind=error.kind,
            reason=str(error),
            permanent=error.permanent,
            attempts=error.num_attempts,
            attempt=subject.attempt,
        )

    def take_calls(self) -> list[Call]:
        """
        The replies paid for since the calls were last taken. One that nobody has read to its end is left out: the
        journal has it for the next run.
        """
        calls = []
        for receipt in self._engine.take_receipts():
            reply = receipt.reply
            fate = _Fate(receipt.fault) if receipt.fault else self._fates.pop(receipt.call_id, None)
            if fate is None:
                continue
            calls.append(
                Call(
                    call_id=receipt.call_id,
                    seed_id=receipt.seed_id,
                    model=reply.model,
                    asked=reply.asked,
                    server=reply.server,
                    prompt_version="" if receipt.fault == "probe" else self._prompt_version,
                    sampling=self._engine.config.sampling,
                    attempt=receipt.attempt,
                    outcome=fate.outcome,
                    reason=fate.reason,
                    repaired=fate.repaired,
                    turn=fate.turn,
                    tokens_in=reply.tokens_in,
                    tokens_out=reply.tokens_out,
                    cost=reply.cost,
                    seconds=reply.seconds if reply.seconds else None,
                    batch=reply.batch,
                )
            )
        return calls


class _Unread(Exception):
    """A reply that does not fit what was asked. Its own class: NoReply is a BadReply too."""


class _OfNoUse(NoReply):
    """A reply that came, and that cannot be used: the engine knows nothing of it."""


def _of_no_use(said: str, kind: FailureKind, reply: Reply) -> _OfNoUse:
    assert reply.call_id is not None
    return _OfNoUse(said, kind, reply.call_id, asked=reply.asked, server=reply.server)

"""
Asking an LLM what a recipe wants of one seed: the request, the reading of the reply, one more request if it cannot be
read, further ones for what the checks rejected, and what became of each reply.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import UUID

from synth.llm.batch.asking import Asked
from synth.llm.engine import Engine
from synth.llm.journal import Reply
from synth.llm.receipts import NoReply
from synth.llm.server import Messages
from synth.recipes import recipe as recipes
from synth.recipes.recipe import Brief, Parsed, Recipe, asking_again, asking_for_more
from synth.records import (
    TASK_OF,
    BadReply,
    BudgetSpent,
    Draft,
    FailureKind,
    Retrieval,
    Seed,
    SkiffError,
    Stopped,
    UserError,
    Written,
)
from synth.store.calls import Call
from synth.store.failures import Failure
from synth.store.made import Rejected
from synth.store.verdicts import content_fault

T = TypeVar("T")

MOST_FRUITLESS = 3  # tries in a row that bring nothing: it was told what is wrong each time, and does not mend it

# Failures that the engine hands out without having said a word.
UNSAID: frozenset[FailureKind] = frozenset({"withheld", "empty"})


@dataclass(frozen=True, slots=True)
class Made:
    """
    What one seed gave: drafts or negatives, and what the checks rejected. With a `failure` the seed is not done: it is
    left for another run. `passed_over`: an earlier run learnt that, and nothing was sent now. `ended`: a ceiling or a
    stop came between two tries; what was made counts, and another run goes on with the seed.
    """

    made: Sequence[Draft | Written] = ()
    rejections: Sequence[Rejected] = ()
    failure: Failure | None = None
    passed_over: bool = False
    ended: SkiffError | None = None


@dataclass(frozen=True, slots=True)
class _Fate:
    outcome: str
    reason: str = ""
    repaired: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class _Request:
    messages: Messages
    schema: Mapping[str, Any] | None


@dataclass(slots=True)
class _Told:
    """What has come of a seed so far."""

    made: list[tuple[recipes.Made, Reply]] = field(default_factory=list)
    rejections: list[Rejected] = field(default_factory=list)
    num_bought: int = 0  # of the replies that came; a request without one counts what it was sent
    turn: int = 0  # the number of the try, from 0

    def add(self, parsed: Parsed, reply: Reply) -> None:
        """What a reply gave."""
        self.made += [(each, reply) for each in parsed.made]
        self.rejections += [Rejected(each.reason, each.text, each.found, reply.call_id) for each in parsed.rejections]


class Asker:
    """
    Asks `engine` what `recipe` wants, by this `brief` of each seed and in `most_tries` requests at most. `attempts` are
    the numbers of those seeds that are asked anew, `hopeless` the keys of the requests of which an earlier run learnt
    that no usable reply comes.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        brief: Brief,
        most_tries: int,
        attempts: Mapping[UUID, int],
        stage_key: UUID,
        hopeless: Collection[UUID] = (),
    ) -> None:
        self._engine, self._recipe, self._hopeless = engine, recipe, hopeless
        self._brief, self._most_tries = brief, most_tries
        self._attempts, self._stage_key = attempts, stage_key
        self._fates: dict[UUID, _Fate] = {}
        self._num_cut = 0  # replies that were used in part

    def asked(self, seed: Seed) -> Asked:
        """The first request for a seed."""
        first = self._recipe.first or self._recipe
        messages = first.messages(seed, self._brief)
        return Asked(messages, self._attempts.get(seed.seed_id, 0), first.schema, seed.seed_id)

    async def ask(self, seed: Seed) -> Made:
        """
        What a seed gave. A reply that cannot be read is shown to the LLM once, with what is wrong with it; one of which
        the checks leave too little, with what they found, until enough was accepted, nothing is accepted three times in
        a row, it would be asked the same again, or there were tries enough.

        Raises what Engine.complete raises, but for NoReply, and for an end between two tries of which the first gave
        something.
        """
        told = _Told()
        try:
            await self._ask(seed, told)
        except (BudgetSpent, Stopped) as error:
            if not told.made:
                raise
            return replace(self._made(seed, told), ended=error)
        except NoReply as error:
            if told.made and error.permanent:  # what is accepted is worth keeping, and there will be no more
                return self._made(seed, told)
            error.num_attempts += told.num_bought
            is_said = not isinstance(error, _OfNoUse) and error.kind not in UNSAID
            return self._left(error, seed, is_said=is_said)
        return self._made(seed, told)

    def _made(self, seed: Seed, told: _Told) -> Made:
        made = [
            replace(each, call_id=reply.call_id)
            if isinstance(each, Written)
            else self._recipe.draft(each, seed, model=reply.model, call_id=reply.call_id)
            for each, reply in told.made
        ]
        for each in made:
            self._check(each)
        return Made(made, told.rejections)

    def _check(self, made: Draft | Written) -> None:
        """Raise UserError for what a recipe of one's own makes and no store can take."""
        if isinstance(made, Written):
            fault = content_fault(Retrieval(made.text, (made.text,)))
        elif TASK_OF.get(type(made.content)) != self._recipe.task:
            fault = f"is no sample of {self._recipe.task}"
        else:
            fault = content_fault(made.content)
        if fault:
            raise UserError(
                f"the recipe {self._recipe.operation} makes what {fault}; the reply is kept: mend it and run again"
            )

    async def _ask(self, seed: Seed, told: _Told) -> None:
        recipe, brief = self._recipe, self._brief
        if recipe.first is not None:
            first = _Request(recipe.first.messages(seed, brief), recipe.first.schema)
            read = recipe.first.read
            _, facts = await self._read(first, lambda text: read(text, seed), seed, told)
            brief = replace(brief, facts=facts)
        request = begun = _Request(recipe.messages(seed, brief), recipe.schema)
        asked, num_fruitless = [begun.messages], 0
        for told.turn in range(self._most_tries):
            wanted = replace(brief, number=brief.number - len(told.made), made=tuple(each for each, _ in told.made))
            reply, parsed = await self._read(request, self._parse(seed, wanted), seed, told)
            told.add(replace(parsed, made=parsed.made[: wanted.number]), reply)
            missing = brief.number - len(told.made)
            num_fruitless = 0 if parsed.made else num_fruitless + 1
            if missing <= 0 or num_fruitless == MOST_FRUITLESS:
                return
            messages = asking_for_more(begun.messages, reply.text, parsed, missing)
            if messages in asked:  # it says the same again, and so does the journal
                return
            asked.append(messages)
            request = replace(begun, messages=messages)

    def _parse(self, seed: Seed, brief: Brief) -> Callable[[str], Parsed]:
        return lambda reply_text: self._recipe.parse(reply_text, seed, brief)

    async def _read(self, request: _Request, read: Callable[[str], T], seed: Seed, told: _Told) -> tuple[Reply, T]:
        """A reply and what `read` makes of it; after one that it cannot read, of one more. Raises NoReply."""
        reply = await self._complete(request, seed, told)
        try:
            return reply, self._made_of(reply, read, told.turn, repaired="")
        except _Unread as error:
            again = replace(request, messages=asking_again(request.messages, reply.text, str(error)))
        reply = await self._complete(again, seed, told)
        try:
            return reply, self._made_of(reply, read, told.turn, repaired="asked again")
        except _Unread as error:
            assert reply.call_id is not None
            raise _OfNoUse(
                f"the reply of {reply.model} is not as asked, nor is the one to a second request: {error}",
                "unusable",
                reply.call_id,
                asked=reply.asked,
                server=reply.server,
            ) from None

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
                    prompt_version="" if receipt.fault == "probe" else self._recipe.prompt_version,
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

    async def _complete(self, request: _Request, seed: Seed, told: _Told) -> Reply:
        attempt = self._attempts.get(seed.seed_id, 0)
        reply = await self._engine.complete(request.messages, attempt, schema=request.schema, seed_id=seed.seed_id)
        told.num_bought += not reply.replayed
        return reply

    def _made_of(self, reply: Reply, read: Callable[[str], T], turn: int, *, repaired: str) -> T:
        """Raises _Unread for a reply that does not fit the recipe, NoReply for one that was cut before anything."""
        assert reply.call_id is not None
        was_cut = reply.finish_reason == "length"
        try:
            found = read(reply.text)
        except BadReply as error:
            if was_cut:
                raise self._cut(reply, turn) from None
            self._fates[reply.call_id] = _Fate("unusable", str(error), repaired, turn)
            raise _Unread(str(error)) from None
        parsed = found if isinstance(found, Parsed) else None
        is_used = parsed is None or bool(parsed.made)
        if was_cut and not is_used:
            raise self._cut(reply, turn)
        if was_cut:
            self._used_in_part(reply)
        reason = _reasons(parsed) if parsed and not is_used else ""
        repaired = (parsed.repaired if parsed else "") or repaired
        self._fates[reply.call_id] = _Fate("used" if is_used else "rejected", reason, repaired, turn)
        return found

    def _cut(self, reply: Reply, turn: int) -> "_OfNoUse":
        assert reply.call_id is not None
        self._fates[reply.call_id] = _Fate("cut", turn=turn)
        said = f"the reply of {reply.model} was cut at max_tokens = {self._engine.config.max_tokens}; raise max_tokens"
        return _OfNoUse(said, "cut", reply.call_id, asked=reply.asked, server=reply.server)

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

    def _left(self, error: NoReply, seed: Seed, *, is_said: bool) -> Made:
        """Leave a seed. The first of each kind is said at once, unless it `is_said` already."""
        passed_over = error.request_key in self._hopeless and not error.num_attempts
        if not (is_said or passed_over):
            only = "unusable" if error.kind == "unusable" else "failed"
            again = f"; its seed is left, `{self._recipe.again.format(only=only)}` asks again"
            self._engine.tally.note(f"{error}{'' if error.kind == 'cut' else again}", once=f"left {error.kind}")
        return Made(failure=self._failure(error, seed), passed_over=passed_over)

    def _failure(self, error: NoReply, seed: Seed) -> Failure:
        return Failure(
            stage_key=self._stage_key,
            seed_id=seed.seed_id,
            request_key=error.request_key,
            asked=error.asked,
            server=error.server,
            prompt_version=self._recipe.prompt_version,
            kind=error.kind,
            reason=str(error),
            permanent=error.permanent,
            attempts=error.num_attempts,
            attempt=self._attempts.get(seed.seed_id, 0),
        )


class _Unread(Exception):
    """A reply that does not fit its recipe."""


class _OfNoUse(NoReply):
    """A reply that came, and that the recipe cannot use: the engine knows nothing of it."""


def _reasons(parsed: Parsed) -> str:
    return ", ".join(dict.fromkeys(rejection.reason for rejection in parsed.rejections))

"""
Asking an LLM what a recipe wants of one seed: the request, the reading of the reply, one more request if it cannot be
read, and what became of each reply.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from synth.llm.batch.asking import Asked
from synth.llm.engine import Engine
from synth.llm.journal import Reply
from synth.llm.receipts import NoReply
from synth.llm.server import Messages
from synth.recipes.recipe import Parsed, Recipe, asking_again
from synth.records import BadReply, Draft, FailureKind, Passage
from synth.store.calls import Call
from synth.store.failures import Failure

# Failures that the engine hands out without having said a word.
UNSAID: frozenset[FailureKind] = frozenset({"cut", "withheld", "empty"})


@dataclass(frozen=True, slots=True)
class Made:
    """
    What one seed gave: drafts, and rejected candidates by reason. With a `failure` the seed is not done: it is left for
    another run. `passed_over`: an earlier run learnt that, and nothing was sent now.
    """

    drafts: Sequence[Draft] = ()
    rejections: Mapping[str, int] = field(default_factory=dict)
    failure: Failure | None = None
    passed_over: bool = False


@dataclass(frozen=True, slots=True)
class _Fate:
    outcome: str
    reason: str = ""
    repaired: str = ""


class Asker:
    """
    Asks `engine` what `recipe` wants; `attempts` are the numbers of those seeds that are asked anew, `hopeless` the
    keys of the requests of which an earlier run learnt that no usable reply comes.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        num_queries: int,
        attempts: Mapping[UUID, int],
        stage_key: UUID,
        hopeless: Collection[UUID] = (),
    ) -> None:
        self._engine, self._recipe, self._hopeless = engine, recipe, hopeless
        self._num_queries, self._attempts, self._stage_key = num_queries, attempts, stage_key
        self._fates: dict[UUID, _Fate] = {}
        self._num_cut = 0  # replies that were used in part

    def asked(self, seed: Passage) -> Asked:
        """The first request for a seed."""
        messages = self._recipe.messages(seed, self._num_queries)
        return Asked(messages, self._attempts.get(seed.text_id, 0), self._recipe.schema, seed.text_id)

    async def ask(self, seed: Passage) -> Made:
        """
        What a seed gave. A reply that cannot be read is shown to the LLM once, with what is wrong with it.

        Raises what Engine.complete raises, but for NoReply.
        """
        messages = self._recipe.messages(seed, self._num_queries)
        num_bought = 0  # of the replies that came; a request without one counts what it was sent
        try:
            reply = await self._complete(messages, seed)
            num_bought += not reply.replayed
            try:
                parsed = self._read(reply, seed, repaired="")
            except _Unread as error:
                reply = await self._complete(asking_again(messages, reply.text, str(error)), seed)
                num_bought += not reply.replayed
                parsed = self._read(reply, seed, repaired="asked again")
        except NoReply as error:
            error.num_attempts += num_bought
            return self._left(error, seed, is_said=error.kind not in UNSAID)
        except _Unread as error:
            assert reply.call_id is not None
            last = NoReply(
                f"the reply of {reply.model} is not as asked, nor is the one to a second request: {error}",
                "unusable",
                reply.call_id,
                asked=reply.asked,
                server=reply.server,
                num_attempts=num_bought,
            )
            return self._left(last, seed, is_said=False)
        drafts = [replace(draft, model=reply.model, call_id=reply.call_id) for draft in parsed.drafts]
        return Made(drafts, Counter(rejection.reason for rejection in parsed.rejections))

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
                    tokens_in=reply.tokens_in,
                    tokens_out=reply.tokens_out,
                    cost=reply.cost,
                    seconds=reply.seconds if reply.seconds else None,
                    batch=reply.batch,
                )
            )
        return calls

    async def _complete(self, messages: Messages, seed: Passage) -> Reply:
        attempt = self._attempts.get(seed.text_id, 0)
        return await self._engine.complete(messages, attempt, schema=self._recipe.schema, seed_id=seed.text_id)

    def _read(self, reply: Reply, seed: Passage, *, repaired: str) -> Parsed:
        """Raises _Unread for a reply that does not fit the recipe, NoReply for one that was cut before anything."""
        assert reply.call_id is not None
        was_cut = reply.finish_reason == "length"
        try:
            parsed = self._recipe.parse(reply.text, seed)
        except BadReply as error:
            if was_cut:
                raise self._cut(reply) from None
            self._fates[reply.call_id] = _Fate("unusable", str(error), repaired)
            raise _Unread(str(error)) from None
        if was_cut and not parsed.drafts:
            raise self._cut(reply)
        if was_cut:
            self._used_in_part(reply)
        outcome = "used" if parsed.drafts else "rejected"
        self._fates[reply.call_id] = _Fate(outcome, _reasons(parsed), parsed.repaired or repaired)
        return parsed

    def _cut(self, reply: Reply) -> NoReply:
        assert reply.call_id is not None
        self._fates[reply.call_id] = _Fate("cut")
        said = f"the reply of {reply.model} was cut at max_tokens = {self._engine.config.max_tokens}; raise max_tokens"
        return NoReply(said, "cut", reply.call_id, asked=reply.asked, server=reply.server)

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

    def _left(self, error: NoReply, seed: Passage, *, is_said: bool) -> Made:
        """Leave a seed. The first of each kind is said at once, unless it `is_said` already."""
        passed_over = error.request_key in self._hopeless and not error.num_attempts
        if not (is_said or passed_over):
            only = "unusable" if error.kind == "unusable" else "failed"
            again = f"; its passage is left, `synth runs retry last --only {only}` asks again"
            self._engine.tally.note(f"{error}{'' if error.kind == 'cut' else again}", once=f"left {error.kind}")
        return Made(failure=self._failure(error, seed), passed_over=passed_over)

    def _failure(self, error: NoReply, seed: Passage) -> Failure:
        return Failure(
            stage_key=self._stage_key,
            seed_id=seed.text_id,
            request_key=error.request_key,
            asked=error.asked,
            server=error.server,
            prompt_version=self._recipe.prompt_version,
            kind=error.kind,
            reason=str(error),
            permanent=error.permanent,
            attempts=error.num_attempts,
            attempt=self._attempts.get(seed.text_id, 0),
        )


class _Unread(Exception):
    """A reply that does not fit its recipe."""


def _reasons(parsed: Parsed) -> str:
    return ", ".join(dict.fromkeys(rejection.reason for rejection in parsed.rejections)) if not parsed.drafts else ""

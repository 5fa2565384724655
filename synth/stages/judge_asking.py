"""
Asking an LLM to judge a sample: its requests, the reading of each reply, one more request where it cannot be read, and
what became of each reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from synth.llm.engine import Engine
from synth.llm.journal import Reply
from synth.llm.receipts import NoReply
from synth.llm.server import Messages
from synth.recipes import judging
from synth.recipes.judging import Graded
from synth.recipes.recipe import asking_again
from synth.records import BadReply
from synth.store.calls import Call
from synth.store.failures import Failure
from synth.store.judgements import Judge, Judgement, Unjudged


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a judge said of a sample. With a `failure`, what it did not say is left for another run; `passed_over`: an
    earlier run learnt that no usable reply comes, and nothing was sent now.
    """

    judgements: Sequence[Judgement] = ()
    failure: Failure | None = None
    passed_over: bool = False


@dataclass(slots=True)
class _Asked:
    """A sample that is being asked about: what came of it, and how many replies were bought for it."""

    sample: Unjudged
    attempt: int
    judgements: list[Judgement] = field(default_factory=list)
    num_bought: int = 0


class JudgeAsker:
    """Asks `engine`. `seed` shuffles passages; `attempts` are the numbers of those samples that are asked anew."""

    def __init__(self, engine: Engine, judge: Judge, seed: int, attempts: Mapping[UUID, int]) -> None:
        self._engine, self._judge, self._seed, self._attempts = engine, judge, seed, attempts
        self._calls: dict[UUID, tuple[str, str, str]] = {}  # outcome, reason and how repaired, by call

    async def ask(self, sample: Unjudged) -> Answer:
        """
        The grades of a sample's passages. A reply that cannot be read is shown to the LLM once, with what is wrong.

        Raises what Engine.complete raises, but for NoReply.
        """
        asked = _Asked(sample, self._attempts.get(sample.revision_id, 0))
        for request in judging.requests(sample, self._seed):
            try:
                reply, graded = await self._grades(request, asked)
            except NoReply as error:
                error.num_attempts += asked.num_bought
                return self._left(asked, error)
            asked.judgements += [_judgement(sample, each, reply) for each in graded]
        return Answer(asked.judgements)

    async def _grades(self, request: Unjudged, asked: _Asked) -> tuple[Reply, Sequence[Graded]]:
        messages: Messages = judging.messages(request)
        reply = await self._complete(messages, asked)
        try:
            return reply, self._read(reply, request, "")
        except NoReply:
            raise
        except BadReply as error:
            messages = asking_again(messages, reply.text, str(error))
        reply = await self._complete(messages, asked)
        try:
            return reply, self._read(reply, request, "asked again")
        except NoReply:
            raise
        except BadReply as error:
            assert reply.call_id is not None
            raise NoReply(
                f"the reply of {reply.model} is not as asked, nor is the one to a second request: {error}",
                "unusable",
                reply.call_id,
                asked=reply.asked,
                server=reply.server,
            ) from None

    async def _complete(self, messages: Messages, asked: _Asked) -> Reply:
        reply = await self._engine.complete(
            messages, asked.attempt, schema=judging.SCHEMA, seed_id=asked.sample.revision_id
        )
        asked.num_bought += not reply.replayed
        return reply

    def _read(self, reply: Reply, request: Unjudged, repaired: str) -> Sequence[Graded]:
        """Raises NoReply for a reply that was cut, BadReply for another that cannot be read."""
        assert reply.call_id is not None
        try:
            graded, how = judging.parse(reply.text, request)
        except BadReply as error:
            if reply.finish_reason == "length":
                self._calls[reply.call_id] = ("cut", "", repaired)
                said = f"the reply of {reply.model} was cut at max_tokens = {self._engine.config.max_tokens}"
                raise NoReply(
                    f"{said}; raise max_tokens", "cut", reply.call_id, asked=reply.asked, server=reply.server
                ) from None
            self._calls[reply.call_id] = ("unusable", str(error), repaired)
            raise
        self._calls[reply.call_id] = ("used", "", how or repaired)
        return graded

    def _left(self, asked: _Asked, error: NoReply) -> Answer:
        passed_over = error.permanent and not error.num_attempts
        if not passed_over:
            again = "" if error.kind == "cut" else "; its sample is left, `--again` asks once more"
            self._engine.tally.note(f"{error}{again}", once=f"left {error.kind}")
        failure = Failure(
            stage_key=self._judge.key,
            seed_id=asked.sample.revision_id,
            request_key=error.request_key,
            asked=error.asked,
            server=error.server,
            prompt_version=self._judge.version,
            kind=error.kind,
            reason=str(error),
            permanent=error.permanent,
            attempts=error.num_attempts,
            attempt=asked.attempt,
        )
        return Answer(asked.judgements, failure, passed_over)

    def take_calls(self) -> list[Call]:
        """
        The replies paid for since the calls were last taken. One that nobody has read to its end is left out: the
        journal has it for the next run.
        """
        calls = []
        for receipt in self._engine.take_receipts():
            reply = receipt.reply
            fate = (receipt.fault, "", "") if receipt.fault else self._calls.pop(receipt.call_id, None)
            if fate is None:
                continue
            calls.append(
                Call(
                    call_id=receipt.call_id,
                    seed_id=receipt.seed_id,
                    model=reply.model,
                    asked=reply.asked,
                    server=reply.server,
                    prompt_version="" if receipt.fault == "probe" else self._judge.version,
                    sampling=self._engine.config.sampling,
                    attempt=receipt.attempt,
                    outcome=fate[0],
                    reason=fate[1],
                    repaired=fate[2],
                    tokens_in=reply.tokens_in,
                    tokens_out=reply.tokens_out,
                    cost=reply.cost,
                    seconds=reply.seconds if reply.seconds else None,
                    batch=reply.batch,
                )
            )
        return calls


def _judgement(sample: Unjudged, graded: Graded, reply: Reply) -> Judgement:
    passage = graded.passage
    return Judgement(
        sample_id=sample.sample_id,
        revision_id=sample.revision_id,
        text_id=passage.text_id,
        is_positive=passage.is_positive,
        judge=reply.asked or reply.model,
        grade=graded.grade,
        reason=graded.reason,
        place=graded.place,
        call_id=reply.call_id,
    )

"""Asking an LLM to judge a sample: a question for some passages at a time, and what was said of each of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

from synth.llm.batch.asking import Asked
from synth.llm.journal import Reply
from synth.llm.receipts import NoReply
from synth.recipes import judging
from synth.recipes.judging import Graded
from synth.records import BudgetSpent, Stopped
from synth.stages.asking.plan import Made
from synth.stages.asking.question import Found, Questions, Request, Subject
from synth.store.calls import Call
from synth.store.failures import Failure
from synth.store.judgements import Judgement, Unjudged


class JudgeAsker:
    """Asks `questions`. `seed` shuffles passages; `attempts` are the numbers of those samples that are asked anew."""

    def __init__(self, questions: Questions, seed: int, attempts: Mapping[UUID, int]) -> None:
        self._questions, self._seed, self._attempts = questions, seed, attempts

    def asked(self, sample: Unjudged) -> Iterator[Asked]:
        """The requests for a sample."""
        attempt = self._attempts.get(sample.seed_id, 0)
        for request in judging.requests(sample, self._seed):
            yield Asked(judging.messages(request), attempt, judging.SCHEMA, sample.seed_id)

    async def ask(self, sample: Unjudged) -> Made[Judgement]:
        """
        What is said of a sample's passages: by all its requests, though one of them got no usable reply.

        Raises what Engine.complete raises, but for NoReply, and for an end between two requests of which the first gave
        something.
        """
        attempt = self._attempts.get(sample.seed_id, 0)
        said: list[Judgement] = []
        left: list[tuple[Failure, bool]] = []
        for request in judging.requests(sample, self._seed):
            subject = Subject(sample.seed_id, attempt)
            asked = Request(judging.messages(request), judging.SCHEMA)
            try:
                reply, graded = await self._questions.ask(asked, subject, _parse(request))
            except NoReply as error:
                left.append(self._questions.left(error, subject))
            except (BudgetSpent, Stopped) as error:
                if not said:
                    raise
                return Made(said, ended=error)
            else:
                said += [_judgement(sample, each, reply) for each in graded.said]
        if not left:
            return Made(said)
        [failure, *others] = [each for each, _ in left]
        return Made(said, failure=failure, others=others, passed_over=all(known for _, known in left))

    def take_calls(self) -> Sequence[Call]:
        """The replies paid for since the calls were last taken."""
        return self._questions.take_calls()

    @property
    def found(self) -> Sequence[str]:
        """What there is to say of the replies at the end, one line each."""
        return self._questions.found


def _parse(request: Unjudged) -> Callable[[str], Found[Sequence[Graded]]]:
    def read(reply_text: str) -> Found[Sequence[Graded]]:
        graded, repaired = judging.parse(reply_text, request)
        return Found(graded, repaired=repaired)

    return read


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

"""
Asking an LLM what a recipe wants of one seed: a question, further ones for what the checks rejected, and what was made
of it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from synth.llm.batch.asking import Asked
from synth.llm.engine import Engine
from synth.llm.journal import Reply
from synth.llm.receipts import NoReply
from synth.recipes import recipe as recipes
from synth.recipes.recipe import Brief, Parsed, Recipe, asking_for_more
from synth.records import TASK_OF, BudgetSpent, Draft, Retrieval, Seed, Stopped, UserError, Written
from synth.stages.asking.plan import Made
from synth.stages.asking.question import Found, Questions, Request, Subject
from synth.store.calls import Call
from synth.store.made import Rejected
from synth.store.verdicts import content_fault

MOST_FRUITLESS = 3  # tries in a row that bring nothing: it was told what is wrong each time, and does not mend it


@dataclass(slots=True)
class _Told:
    """What has come of a seed so far."""

    subject: Subject
    made: list[tuple[recipes.Made, Reply]] = field(default_factory=list)
    rejections: list[Rejected] = field(default_factory=list)

    def add(self, parsed: Parsed, reply: Reply) -> None:
        """What a reply gave."""
        self.made += [(each, reply) for each in parsed.made]
        self.rejections += [Rejected(each.reason, each.text, each.found, reply.call_id) for each in parsed.rejections]


class RecipeAsker:
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
        self._recipe, self._brief, self._most_tries, self._attempts = recipe, brief, most_tries, attempts
        self._questions = Questions(engine, stage_key, recipe.prompt_version, hopeless, recipe.again)

    def asked(self, seed: Seed) -> Iterator[Asked]:
        """The first request for a seed."""
        first = self._recipe.first or self._recipe
        messages = first.messages(seed, self._brief)
        yield Asked(messages, self._attempts.get(seed.seed_id, 0), first.schema, seed.seed_id)

    async def ask(self, seed: Seed) -> Made[Draft | Written]:
        """
        What a seed gave. A reply that cannot be read is shown to the LLM once, with what is wrong with it; one of which
        the checks leave too little, with what they found, until enough was accepted, nothing is accepted three times in
        a row, it would be asked the same again, or there were tries enough.

        Raises what Engine.complete raises, but for NoReply, and for an end between two tries of which the first gave
        something.
        """
        told = _Told(Subject(seed.seed_id, self._attempts.get(seed.seed_id, 0)))
        try:
            await self._ask(seed, told)
        except (BudgetSpent, Stopped) as error:
            if not told.made:
                raise
            return replace(self._made(seed, told), ended=error)
        except NoReply as error:
            if told.made and error.permanent:  # what is accepted is worth keeping, and there will be no more
                return self._made(seed, told)
            failure, passed_over = self._questions.left(error, told.subject)
            return Made(failure=failure, passed_over=passed_over)
        return self._made(seed, told)

    def _made(self, seed: Seed, told: _Told) -> Made[Draft | Written]:
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
        recipe, brief, ask = self._recipe, self._brief, self._questions.ask
        if recipe.first is not None:
            first = Request(recipe.first.messages(seed, brief), recipe.first.schema)
            read = recipe.first.read
            _, facts = await ask(first, told.subject, lambda text: Found(read(text, seed)))
            brief = replace(brief, facts=facts.said)
        request = begun = Request(recipe.messages(seed, brief), recipe.schema)
        asked, num_fruitless = [begun.messages], 0
        for told.subject.turn in range(self._most_tries):
            wanted = replace(brief, number=brief.number - len(told.made), made=tuple(each for each, _ in told.made))
            reply, found = await ask(request, told.subject, self._parse(seed, wanted))
            parsed = found.said
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

    def _parse(self, seed: Seed, brief: Brief) -> Callable[[str], Found[Parsed]]:
        def read(reply_text: str) -> Found[Parsed]:
            parsed = self._recipe.parse(reply_text, seed, brief)
            reasons = dict.fromkeys(rejection.reason for rejection in parsed.rejections)
            is_used = bool(parsed.made)
            return Found(parsed, is_used, "" if is_used else ", ".join(reasons), parsed.repaired)

        return read

    def take_calls(self) -> Sequence[Call]:
        """The replies paid for since the calls were last taken."""
        return self._questions.take_calls()

    @property
    def found(self) -> Sequence[str]:
        """What there is to say of the replies at the end, one line each."""
        return self._questions.found

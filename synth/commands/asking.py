"""What commands that ask an LLM share: their options, and how a run of theirs is carried out, shown and told."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeVar

import typer

from synth.commands.figures import counted
from synth.commands.outcomes import (
    SAME,
    estimated,
    outcome_json,
    paid_json,
    say_filled,
    tell_ended,
    tell_outcome,
    unpriced,
)
from synth.commands.screens import print_json
from synth.records import SkiffError, StoreError, UserError
from synth.screen import progress, say

if TYPE_CHECKING:
    from synth.llm.ceilings import Ceilings
    from synth.llm.config import LLMConfig
    from synth.stages.asking.forecast import Forecast
    from synth.stages.asking.plan import Asking, Plan
    from synth.stages.asking.watch import Watch
    from synth.stages.asking.work import Outcome
    from synth.store.connection import Store
    from synth.workspace import Workspace

BaseUrlOption = Annotated[str | None, typer.Option(help="OpenAI-compatible server, over synth.toml's.")]
ModelOption = Annotated[str | None, typer.Option(help="The LLM to ask, over synth.toml's.")]
MaxCostOption = Annotated[
    float | None, typer.Option(help="US dollars that this may cost in all, earlier runs of the same settings included.")
]
MaxTokensOption = Annotated[int | None, typer.Option(help="The same for tokens, sent and replied together.")]
MaxRequestsOption = Annotated[int | None, typer.Option(help="The same for requests, those asked again included.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show three prompts and what the run will cost; ask and write nothing.")
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1000,
        help="With --dry-run: instead of prompts, measure on so many of what is to be asked about. They are asked"
        " about, paid and stored as by a run; the next sample is of others.",
    ),
]
BatchOption = Annotated[
    bool, typer.Option("--batch", help="Through the server's Batch API: half the price, within a day.")
]

P = TypeVar("P", bound="Plan[Any, Any]")
O = TypeVar("O", bound="Outcome")  # noqa: E741 (of Outcome)
P_contra = TypeVar("P_contra", bound="Plan[Any, Any]", contravariant=True)
O_co = TypeVar("O_co", bound="Outcome", covariant=True)


def asking_of(
    opened: "Workspace", llm: "LLMConfig | None", ceilings: "Ceilings", *, in_batches: bool = False
) -> "Asking | None":
    """Which servers a workspace asks. Raises UserError for ceilings or batches where none is configured."""
    from synth.llm.ceilings import Ceilings

    if llm is not None:
        return asking_at(opened, llm, ceilings, in_batches=in_batches)
    if in_batches or ceilings != Ceilings():
        raise UserError("batches and ceilings are for an LLM: name base_url and model in [llm] of synth.toml")
    return None


def asking_at(opened: "Workspace", llm: "LLMConfig", ceilings: "Ceilings", *, in_batches: bool = False) -> "Asking":
    """The same where servers are configured. Raises UserError for a ceiling in money where no price is stated."""
    from synth.stages.asking.plan import Asking

    ceilings.check_prices(llm.endpoints, batch=in_batches, settings=opened.config.llm)
    return Asking(llm, opened.journal, ceilings, opened.batches, in_batches)


class Running(Protocol[P_contra, O_co]):
    """What carries out a plan."""

    def __call__(
        self, store: "Store", plan: P_contra, *, watch: "Watch", stop: asyncio.Event
    ) -> Coroutine[Any, Any, O_co]: ...


class Foretelling(Protocol[P_contra]):
    """What tells what the rest of a plan takes; `seed` is that of the draw of prompts."""

    def __call__(self, store: "Store", plan: P_contra, *, seed: int) -> "Forecast": ...


@dataclass(frozen=True)
class Job(Generic[P, O]):
    """
    A plan, and how it is carried out and told of.

    Args:
        name: of the command.
        run: of this plan, or of one like it.
        forecast: of this plan, or of one like it.
        made: what a run of the plan made, a line each; `told`: what machines are told beside the outcome.
        can_sample: some seeds can be asked first, to measure what the others will take.
        again: the command that goes on where this run ends.
    """

    name: str
    opened: "Workspace"
    plan: P
    run: Running[P, O]
    forecast: Foretelling[P]
    made: Callable[[O, P], Iterable[str]]
    told: Callable[[], Mapping[str, object]] = dict
    can_sample: bool = False
    again: str = SAME
    as_json: bool = False

    def carry_out(self, note: str = "") -> O:
        """Run, show how it goes with a note above it, and print the outcome; what follows is the command's to say."""
        outcome = self._shown(self.plan, note or self._estimated())
        if self.as_json:
            print_json({**outcome_json(outcome, self.plan), **self.told()})
        else:
            self._tell(outcome)
        return outcome

    def _tell(self, outcome: O, error: str = "") -> None:
        say_filled(f"engine: {self.plan.engine}")
        tell_outcome(outcome, self.plan, self.made(outcome, self.plan), error)

    def tell_ended(self, outcome: O) -> None:
        """Print why a run ended early, what it did not come to, and what does."""
        tell_ended(outcome, self.plan, self.opened.store, self.again)

    def _estimated(self) -> str:
        if self.plan.asking is None or not self.plan.seeds:
            return ""
        return estimated(self._forecast(self.plan), can_sample=self.can_sample)

    def _forecast(self, plan: P) -> "Forecast":
        return self.forecast(self.opened.store, plan, seed=0)

    def _shown(self, plan: P, note: str) -> O:
        from synth.commands.stopping import run_stoppable, stopping_line
        from synth.stages.asking.watch import Watch

        outcomes: list[Any] = []
        watch = Watch(ended=outcomes.append)
        most_seconds = plan.asking.llm.timeout_seconds if plan.asking else 0.0

        def stopping() -> None:
            watch.note(stopping_line(watch.usage().in_flight, most_seconds))
            watch.state("stopping")

        try:
            with ExitStack() as stack:
                self._show(plan, watch, stack)
                if note:
                    watch.note(note)
                store = self.opened.store
                return run_stoppable(
                    lambda stop: self.run(store, plan, watch=watch, stop=stop.event), on_first=stopping
                )
        except SkiffError as error:  # what was stored and paid before it
            if self.as_json:
                of_run = {**outcome_json(outcomes[0], plan), **self.told()} if outcomes else None
                told = of_run or paid_json(watch.usage(), plan)
                print_json(told | {"error": str(error), "exit_code": error.exit_code})
            elif outcomes:
                self._tell(outcomes[0], str(error))
                if isinstance(error, StoreError) and plan.asking is not None:  # the lease may have failed at its end
                    say(f"at least this much is stored; what the journal has is stored by {self.again}, for nothing")
            raise

    def _show(self, plan: P, watch: "Watch", stack: ExitStack) -> None:
        from synth.commands.live import live

        if plan.asking is None or not plan.seeds:
            watch.advance = stack.enter_context(progress(f"{self.name} with {plan.engine}", len(plan.seeds)))
            return
        shown = stack.enter_context(
            live(
                f"{self.name} with {plan.model}",
                len(plan.seeds),
                lambda: watch.usage(),
                as_json=self.as_json,
                ceilings=plan.asking.ceilings,
                spent=lambda: watch.spent(),
                unpriced=unpriced(plan.asking.llm),
            )
        )
        watch.advance, watch.fail = shown.advance, shown.fail
        watch.note, watch.state = shown.note, shown.state

    def tell_forecast(self, sample: int | None = None) -> None:
        """
        Print three prompts and what the run will cost; with `sample` ask about so many seeds, and print what the rest
        will cost.
        """
        from synth.stages.asking.forecast import passed

        if self.plan.asking is None:
            raise UserError(
                "without an LLM nothing is asked, and nothing costs: name base_url and model in [llm] of synth.toml, or"
                " leave --dry-run out"
            )
        found = self._forecast(self.plan)
        if sample is not None:
            self._tell_sample(sample, found)
            return
        over = passed(self.opened.store, self.plan, found)
        if self.as_json:
            print_json(asdict(found) | {"passed": over})
            return
        for number, messages in enumerate(found.prompts, start=1):
            for message in messages:
                say(f"=== prompt {number}, {message['role']} ===\n{message['content']}\n")
        say_filled(estimated(found, can_sample=self.can_sample))
        for note in self.plan.notes:
            say_filled(note)
        _tell_passed(over)

    def _tell_sample(self, sample: int, before: "Forecast") -> None:
        from synth.stages.asking.forecast import passed, remaining, sampled

        store = self.opened.store
        if not self.as_json:
            say_filled(estimated(before, can_sample=self.can_sample))
        chosen = sampled(store, self.plan, sample, seed=0)
        asked = self._shown(replace(self.plan, seeds=chosen), "")
        rest = remaining(store, self.plan, chosen)
        after = self._forecast(rest)
        over = passed(store, rest, after)
        if self.as_json:
            of_sample = {**outcome_json(asked, self.plan), **self.told()}
            print_json(asdict(after) | {"before": asdict(before.estimate), "sample": of_sample, "passed": over})
        else:
            say_filled(f"asked for a sample of {counted(len(chosen), self.plan.of.kind[:-1])}")
            tell_outcome(asked, self.plan, self.made(asked, self.plan))
            if asked.ended:
                say_filled(asked.ended)
            say_filled(f"the rest: {estimated(after, can_sample=self.can_sample)}")
            _tell_passed(over)
        leave(asked)


def _tell_passed(options: Iterable[str]) -> None:
    if options:
        say_filled(f"{' and '.join(options)} would end the run before all of it")


def leave(outcome: "Outcome") -> None:
    """End the command with the exit code of a run that ended early."""
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)

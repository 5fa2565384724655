"""Outcomes of the `trainer` command on the terminal."""

import dataclasses
import json
from typing import TYPE_CHECKING

from synth.screen import cell, new_table, say, show
from synth.units import finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.compare import Change, Comparison
    from trainer.curve import Curve
    from trainer.evaluate import Evaluation
    from trainer.forecast import Forecast
    from trainer.loop import Outcome
    from trainer.metrics import Interval


def show_outcome(outcome: "Outcome", *, as_json: bool) -> None:
    """What a run did."""
    if as_json:
        say(json.dumps(dataclasses.asdict(outcome), indent=2, default=str))
        return
    for note in outcome.notes:
        say(f"note: {note}")
    if outcome.already_finished:
        say(f"{outcome.output} is finished: nothing was trained; choose another --output to train again")
        return
    went_on = f", went on after step {outcome.resumed_at}" if outcome.resumed_at else ""
    say(f"trained {outcome.num_steps} steps in {outcome.seconds} s on {outcome.hardware}{went_on}")
    for task, (first, last) in outcome.losses.items():
        say(f"loss of {task}: {first:.3f} in the first quarter of its steps, {last:.3f} in the last")
    say(f"model: {outcome.output}")


def show_forecast(found: "Forecast", *, as_json: bool) -> None:
    """What a run would take."""
    if as_json:
        say(json.dumps(dataclasses.asdict(found), indent=2))
        return
    for note in found.notes:
        say(f"note: {note}")
    columns = ("stage", "task", "dataset", "batches", "samples", "passes", "tokens")
    table = new_table(columns, numeric=[name not in ("task", "dataset") for name in columns])
    for each in found.shares:
        numbers = (f"{each.batches:,}", f"{each.samples:,}", f"{each.passes:.2f}", f"{each.tokens:,}")
        table.add_row(*(cell(value) for value in (each.stage, each.task, each.dataset, *numbers)))
    show(table)
    say(f"{found.num_steps:,} steps, about {found.tokens:,} tokens (plan {found.plan[:12]})")
    trained = "all" if found.trained_weights == found.weights else f"{found.trained_weights:,}"
    say(f"weights: {found.weights:,}, of which {trained} are trained")
    memory = f"{found.memory / 2**30:.1f} GiB"
    say(f"memory: about {memory} for each of {found.processes} processes, beside the program's own")
    hours = f"{found.hours:.1f} hours" if found.hours >= 1 else f"{60 * found.hours:.1f} minutes"
    say(
        f"time: about {hours}, for {found.operations:.2g} operations at {found.speed / 1e12:.2g} teraflops each"
        f" ({found.speed_from})"
    )
    if found.cost is not None:
        say(f"cost: about {found.cost:,.2f}")


def show_evaluation(
    evaluation: "Evaluation", compared: "Sequence[Comparison]", *, examples: int, as_json: bool
) -> None:
    """What a model scores, and the queries that changed most."""
    if as_json:
        say(json.dumps(finite(dataclasses.asdict(evaluation)), indent=2))
        return
    before = f"before: {evaluation.against}" if evaluation.against else "compared with nothing"
    say(f"after: {evaluation.model}, {before}, measured on {evaluation.device}")
    two = bool(evaluation.against)
    compared_with = ("before", "after", "change", "95 of 100", "better, worse") if two else ("score", "95 of 100", "")
    table = new_table(("set", "measure", *compared_with))
    for row in evaluation.scores:
        table.add_row(*(cell(value) for value in (row.set, row.measure, *_values(row, two=two))))
    show(table)
    for note in (*evaluation.notes, *dict.fromkeys(f"{row.set}: {row.note}" for row in evaluation.scores if row.note)):
        say(f"note: {note}")
    if two and any(row.change_interval for row in evaluation.scores):
        say(
            f"95 of 100: between these the change lies in 95 of 100 of {evaluation.resamples:,} resamples of the same"
            " queries, pairs or texts; where 0 lies between them, it may be chance"
        )
    for each in compared:
        _show_examples(each, examples)


def _values(row: "Change", *, two: bool) -> "Sequence[str]":
    of = f"of {row.num_items:,}" if row.num_items else ""
    if not two:
        return _number(row.after), _spread(row.after_interval), of
    counts = of if row.better is None else f"{row.better:,}, {row.worse:,} {of}"
    return _number(row.before), _number(row.after), _number(row.change, "+"), _spread(row.change_interval, "+"), counts


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"


def _spread(found: "Interval | None", sign: str = "") -> str:
    return "" if found is None else f"{found.low:{sign}.3f} to {found.high:{sign}.3f}"


def _show_examples(each: "Comparison", number: int) -> None:
    """The queries of a set whose nDCG rose and fell most."""
    from trainer.evaluate import item_rows
    from trainer.sets import RetrievalSet

    if not number or each.before is None or not isinstance(each.one, RetrievalSet):
        return
    rows = sorted(item_rows([each]), key=lambda row: row["change"])
    fell, rose = (
        [row for row in rows[:number] if row["change"] < 0],
        [row for row in rows[::-1][:number] if row["change"] > 0],
    )
    for told, chosen in (("rose", rose), ("fell", fell)):
        table = new_table((f"{each.one.name}: queries that {told} most", "first answer at rank, before", "after"))
        for row in chosen:
            ranks = (row["rank_before"] or "none", row["rank_after"] or "none")
            table.add_row(cell(row["query"], width=80), *(cell(rank) for rank in ranks))
        if chosen:
            show(table)


def show_curve(curve: "Curve", *, as_json: bool) -> None:
    """A row for each number of samples, a column for each set: the mean over seeds, and how far they lie apart."""
    if as_json:
        say(json.dumps(finite(dataclasses.asdict(curve)), indent=2))
        return
    for note in curve.notes:
        say(f"note: {note}")
    by_set = curve.by_set()
    say(f"{curve.model}, trained on parts of {curve.release}, measured on {curve.device}")
    table = new_table(("samples", *by_set), numeric=[True] * (1 + len(by_set)))
    for fraction in sorted({point.fraction for point in curve.points}):
        points = [point for point in curve.points if point.fraction == fraction]
        scores = [[point.scores[name] for point in points if name in point.scores] for name in by_set]
        number = points[0].num_samples
        table.add_row(cell(f"{number:,}" if number else "none"), *(cell(_seeds(each)) for each in scores))
    show(table)
    if len({point.seed for point in curve.points if point.fraction}) > 1:
        say("the mean of the seeds, and in brackets how far the lowest and the highest are apart")


def _seeds(scores: "Sequence[float]") -> str:
    if not scores:
        return ""
    mean = f"{sum(scores) / len(scores):.4f}"
    return mean if len(scores) == 1 else f"{mean} ({max(scores) - min(scores):.3f})"

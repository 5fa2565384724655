"""How far judges agree with people and with each other, on the screen."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from synth.commands.figures import counted
from synth.commands.screens import print_json, print_table
from synth.screen import say

if TYPE_CHECKING:
    from synth.stages.judge.agreement import Agreement, PeopleAgreement
    from synth.store.connection import Store


def tell_agreements(store: "Store", *, as_json: bool) -> None:
    """Print how far every judge agrees with people, and every two judges with each other."""
    from synth.stages.judge.agreement import agreements, agreements_with_people

    with_people, between = agreements_with_people(store), agreements(store)
    if as_json:
        people = [asdict(each) | {"num_equal": each.num_equal} for each in with_people]
        print_json({"people": people, "judges": [asdict(each) for each in between]})
        return
    if not with_people:
        say("no judge has graded what people decided: run synth judge, then synth review")
    for each in with_people:
        _tell_people(each)
    if not between:
        say("no two judges have judged the same passage: judge again with another --model, or with an --encoder")
    for pair in between:
        _tell_judges(pair)


def _tell_people(each: "PeopleAgreement") -> None:
    said, left_out = each.num_both + each.num_judge_alone, each.num_both + each.num_people_alone
    say(f"{each.judge} beside people: {counted(each.num_compared, each.things[:-1])}")
    rows = [
        (f"{each.judge} leaves out", each.num_both, each.num_judge_alone),
        (f"{each.judge} keeps", each.num_people_alone, each.num_neither),
    ]
    print_table(["", "people leave out", "people keep"], rows)
    equal = each.num_equal / each.num_compared
    say(f"the same in {each.num_equal:,} ({equal:.0%}), Cohen's kappa {_figure(each.kappa)}")
    if each.precision is not None:
        share = f"{each.num_both:,} ({each.precision:.0%})"
        say(f"precision: of the {said:,} that {each.judge} would leave out, people left out {share}")
    if each.recall is not None:
        share = f"{each.num_both:,} ({each.recall:.0%})"
        say(f"recall: of the {left_out:,} that people left out, {each.judge} would leave out {share}")
    if each.missed:
        told = ", ".join(f"{why} {number:,}" for why, number in each.missed.items())
        say(f"people's reasons for the {each.num_people_alone:,} that {each.judge} would keep: {told}")
    say(f"{each.num_compared - each.num_people_first:,} were decided after a judge had graded them")
    if each.differences:
        table = [
            (
                d.grade,
                d.query,
                d.text,
                d.reason,
                f"{d.decided_by} {'left it out' if d.people_leave_out else 'kept it'}",
                "; ".join([*d.people_reasons, *([d.people_notes] if d.people_notes else [])]),
            )
            for d in each.differences
        ]
        print_table([each.judge, "query", "passage", "its reason", "people", "their reasons"], table)


def _tell_judges(each: "Agreement") -> None:
    equal, split = each.num_equal / each.num_passages, each.num_split / each.num_passages
    say(f"{each.judge} and {each.other}: {counted(each.num_passages, 'passage')} judged by both")
    say(f"equal grades: {each.num_equal:,} ({equal:.0%})")
    say(f"Cohen's kappa: {_figure(each.kappa)}; weighted by the square of the distance: {_figure(each.weighted_kappa)}")
    say(f"one of them would leave out what the other would not: {each.num_split:,} ({split:.0%})")
    if each.differences:
        rows = [
            (
                d.grade,
                d.other_grade,
                "positive" if d.is_positive else "negative",
                d.query,
                d.text,
                " / ".join(reason for reason in (d.reason, d.other_reason) if reason),
            )
            for d in each.differences
        ]
        print_table([each.judge, each.other, "passage", "query", "text", "reasons"], rows)


def _figure(kappa: float | None) -> str:
    # "z": none is -0.00
    return "has no value here (the same throughout)" if kappa is None else f"{kappa:z.2f}"

"""
What a release will hold: what the policy takes, less what repeats an evaluation set or another sample, with the
negatives chosen. Nothing is written yet but the choice, into a working folder.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from synth.overlaps import (
    NEAR_THRESHOLD,
    NGRAM,
    THRESHOLD,
    EvalIndex,
    EvalText,
    asked_texts,
    near_duplicates,
    near_text,
)
from synth.records import Task, Use, UserError, is_plain_name, text_id
from synth.stages.datasheet import LEFT_OUT
from synth.stages.release_files import digest_of
from synth.stages.release_minings import listed_minings, mining_notes
from synth.store import judgements, releases, selection
from synth.store.conditions import matching_samples
from synth.store.connection import Store
from synth.store.overlaps import FoundDuplicate, FoundOverlap, eval_sets
from synth.store.release_mining import Mining, find_mining
from synth.store.release_policy import ReleasePolicy
from synth.store.releases import HeldOut
from synth.store.sources import read_corpora

CHECKS = {"ngram": NGRAM, "overlap_threshold": THRESHOLD, "near_duplicate_threshold": NEAR_THRESHOLD}


@dataclass(frozen=True)
class Found:
    """What is left out for what it repeats: an evaluation set, or another sample."""

    overlaps: list[FoundOverlap]
    duplicates: list[FoundDuplicate]


@dataclass(frozen=True)
class Plan:
    """A release that is chosen, and not written yet; the folder `work` holds the choice."""

    work: Path
    policy: ReleasePolicy
    mining: Mining | None  # that the policy names
    held_out: list[HeldOut]  # those that go into it
    corpora: dict[str, Path]  # the passages of the retrieval sets among them, by name: files of JSON Lines in `work`
    sources: list[dict[str, Any]]  # of what is in it
    compared_with: list[str]  # names of all evaluation sets, if the policy asks for a comparison
    found: Found
    digest: str
    left_out: dict[str, int]
    overlaps: list[dict[str, Any]]  # samples left out as contaminated, by evaluation set and kind
    composition: dict[str, list[dict[str, Any]]]
    unused: dict[str, int]  # what `chosen_left_out` counts

    @property
    def counts(self) -> dict[str, int]:
        """Samples by task, negatives, held-out sets, and what the policy has left out of the samples' negatives."""
        tasks = {row["task"]: row["num_samples"] for row in self.composition["task"]}
        negatives = sum(row["num_negatives"] for row in self.composition["negatives"])
        names = {each.name for each in self.held_out}
        leaves_out_flagged = self.policy.flagged_negatives == "leave_out"
        return {
            **{task.value: tasks.get(task, 0) for task in Task},
            "negatives": negatives,
            "held_out_sets": len(names),
            **({"negatives_left_out_by_judges": self.unused["by_judges"]} if self.policy.judged else {}),
            **({"negatives_left_out_as_flagged": self.unused["flagged"]} if leaves_out_flagged else {}),
            **({"samples_not_mined": self.unused["samples_not_mined"]} if self.policy.mining else {}),
        }

    @property
    def notes(self) -> list[str]:
        """What whoever makes the release should know of it, a line each."""
        return mining_notes(self.composition["minings"], self.mining, self.counts)


def make_plan(store: Store, policy: ReleasePolicy, work: Path) -> Plan:
    """
    Choose what a release of this policy holds; the choice is left in `work`, an empty folder.

    Raises UserError if the condition is wrong, the judge that the policy names has judged nothing or its mining mined
    nothing, a held-out source has a name that no file can have, or nothing is left.
    """
    _check_judge(store, policy.judged)
    mining = find_mining(store, policy.mining) if policy.mining else None
    policy = replace(policy, mining=str(mining.run_id)) if mining else policy  # whatever it was called by
    matching = matching_samples(store, policy.where) if policy.where else None
    with store.read() as cursor:
        left_out: Counter[str] = Counter(selection.select(cursor, policy, matching, mining, work))
        held_out = releases.held_out(cursor)
        carried = [each for each in held_out if each.name not in policy.exclude_sources]
        for each in carried:
            if not is_plain_name(each.name):
                raise UserError(f"the source {each.name!r:.120} has a name that no file can have; ingest it anew")
        corpora = {each.name: _keep_corpus(cursor, each, work) for each in carried if each.task == Task.RETRIEVAL}
        cards = releases.source_cards(cursor)
    found = _look(work, policy, held_out)
    contaminated = {each.sample_id for each in found.overlaps}
    repeated = [each.sample_id for each in found.duplicates]
    left_out["contaminated"] += len(contaminated)
    left_out["near_duplicate"] += len(repeated)
    left_out["too_few_negatives"] += selection.choose(work, policy, [*contaminated, *repeated])
    ordered = {reason: left_out[reason] for reason in LEFT_OUT if left_out[reason]}
    composition = selection.chosen_counts(work) | {"minings": listed_minings(work)}
    if not composition["task"]:
        raise UserError(_why_nothing(ordered))
    digest = digest_of(selection.chosen_lines(work))
    compared_with = sorted({each.name for each in held_out}) if policy.contamination else []
    overlaps = _overlap_counts(store, found)
    unused = selection.chosen_left_out(work)
    sources = _of_release(cards, {row["source"] for row in composition["source"]}, {each.name for each in carried})
    return Plan(
        work,
        policy,
        mining,
        carried,
        corpora,
        sources,
        compared_with,
        found,
        digest,
        ordered,
        overlaps,
        composition,
        unused,
    )


def _check_judge(store: Store, judged: str) -> None:
    """Raises UserError for a judge that has judged nothing: on its word everything would be left out as unjudged."""
    if judged in ("", "any", "all") or judged in (names := judgements.judges(store)):
        return
    there = f"the judges are {', '.join(names)}; name one of them" if names else "no judge has judged anything yet"
    raise UserError(
        f"the release policy's judged is {judged!r:.120}, which has judged nothing; {there}, or say any or all, or run"
        " `synth judge` first"
    )


def _keep_corpus(cursor: Any, held_out: HeldOut, work: Path) -> Path:
    """Write what a held-out retrieval set is searched in: its corpus, and answers that are not in it."""
    path = work / f"corpus-{held_out.rows[0]['source_id']}.jsonl"
    known: set[UUID] = set()
    with path.open("w", encoding="utf-8") as lines:
        for passage in read_corpora(cursor, [held_out.name]).get(held_out.name, ()):
            known.add(passage.text_id)
            body = passage.text.removeprefix(f"{passage.title}\n") if passage.title else passage.text
            _write_passage(lines, passage.text_id, passage.title, body)
        for answer in dict.fromkeys(answer for row in held_out.rows for answer in row["positives"]):
            if (answer_id := text_id(answer)) not in known:
                known.add(answer_id)
                _write_passage(lines, answer_id, "", answer)
    return path


def _write_passage(lines: TextIO, passage_id: UUID, title: str, text: str) -> None:
    lines.write(json.dumps({"doc_id": str(passage_id), "title": title, "text": text}, ensure_ascii=False) + "\n")


def _of_release(cards: list[dict[str, Any]], sampled: set[str], held_out: set[str]) -> list[dict[str, Any]]:
    """Of the sources `sampled` the splits to train on, of those `held_out` the splits held out; the corpora of both."""
    return [
        card
        for card in cards
        if (card["name"] in sampled and card["declared_use"] == Use.TRAIN)
        or (card["name"] in held_out and (card["declared_use"] == Use.EVAL or card["split"] == "corpus"))
    ]


def _why_nothing(left_out: Mapping[str, int]) -> str:
    if set(left_out) <= {"pending", "rejected", "disputed"}:
        there = f"{left_out.get('pending', 0)} samples are pending, {left_out.get('rejected', 0)} rejected"
        return f"nothing is approved ({there}): review them with `synth review`, or `synth review --policy NAME`"
    told = "; ".join(f"{number} {LEFT_OUT[reason]}" for reason, number in left_out.items())
    return f"the policy leaves nothing to release: {told}; ease it, or review more with `synth review`"


def _look(work: Path, policy: ReleasePolicy, held_out: Sequence[HeldOut]) -> Found:
    """One pass over what was selected: what repeats an evaluation set, and of the rest what says nearly the same."""
    index = EvalIndex(_eval_texts(held_out)) if policy.contamination else None
    overlaps: list[FoundOverlap] = []

    def clean() -> Iterator[tuple[UUID, str]]:
        for rows in selection.selected(work):
            for row in rows:
                found = list(_overlaps(row, index)) if index else []
                overlaps.extend(found)
                if not found:
                    yield row["sample_id"], near_text(row)

    if policy.near_duplicates:
        dropped = near_duplicates(clean(), seed=policy.seed)
    else:
        dropped = {}
        deque(clean(), maxlen=0)
    revisions = selection.selected_revisions(work, dropped)
    return Found(overlaps, [FoundDuplicate(each, revisions[each], *kept) for each, kept in dropped.items()])


def _eval_texts(held_out: Sequence[HeldOut]) -> Iterator[EvalText]:
    for each in held_out:
        for row in each.rows:
            for text in asked_texts(row).values():
                yield EvalText(row["source_id"], row["sample_id"], text)


def _overlaps(row: Mapping[str, Any], index: EvalIndex) -> Iterator[FoundOverlap]:
    ids = row["sample_id"], row["revision_id"]
    for field, text in asked_texts(row).items():
        for found in index.find_all(text):
            yield FoundOverlap(*ids, field, found.eval_source_id, found.eval_id, found.kind, found.value)
    if similar := row["similar_to"]:
        yield FoundOverlap(
            *ids, similar["field"], similar["eval_source_id"], similar["eval_id"], "similar", similar["value"]
        )


def _overlap_counts(store: Store, found: Found) -> list[dict[str, Any]]:
    """Samples left out as contaminated, by evaluation set and kind: one that overlaps twice is counted at each."""
    names = {each.source_id: (each.name, each.split) for each in eval_sets(store)}
    counted = Counter(
        (*names[source_id], kind)
        for _, source_id, kind in {(each.sample_id, each.eval_source_id, each.kind) for each in found.overlaps}
    )
    return [
        {"eval_source": name, "eval_split": split, "kind": kind, "num_samples": number}
        for (name, split, kind), number in sorted(counted.items())
    ]

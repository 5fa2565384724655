"""What `synth show` prints: a life (synth/store/history.py) as a tree. Every text in it goes through `cell`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from synth.commands.figures import counted
from synth.commands.mining_settings import unusual
from synth.screen import cell, console

if TYPE_CHECKING:
    from rich.tree import Tree

WIDTH = 240  # characters of a line; a passage is longer than anybody wants to see here (--json has it whole)
SHORT_ID = 13  # characters: the milliseconds of a time-ordered id
SHORT_TEXT = 40  # characters of a passage that is told whole elsewhere in the tree
MOST_NAMED = 3  # releases that hold a negative, candidates that fell


def print_life(life: Mapping[str, Any]) -> None:
    """Print what is known of one thing."""
    tree = _sample(life) if life["thing"] == "sample" else _anything(life)
    console().print(tree)


def _tree(line: str) -> "Tree":
    from rich.tree import Tree

    return Tree(cell(line, width=WIDTH))


def _add(tree: "Tree", line: str) -> "Tree":
    return tree.add(cell(line, width=WIDTH))


def _anything(life: Mapping[str, Any]) -> "Tree":
    """A run, text, call or release: every key a line, what lies within it below."""
    tree = _tree(f"{life['thing']} {life['id']}")
    _grow(tree, {key: value for key, value in life.items() if key not in ("thing", "id", f"{life['thing']}_id")})
    return tree


def _grow(tree: "Tree", table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if isinstance(value, Mapping):
            _grow(_add(tree, str(key)), value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            below = _add(tree, str(key))
            for row in value:
                _add(below, ", ".join(f"{name} {_plain(each)}" for name, each in row.items() if each not in (None, "")))
        elif isinstance(value, list) and len(value) > 1:
            below = _add(tree, str(key))
            for each in value:
                _add(below, str(each))
        elif value not in (None, "", []):
            _add(tree, f"{key}: {_plain(value)}")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _brief(identity: UUID | None) -> str:
    return str(identity)[:SHORT_ID]


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _sample(life: Mapping[str, Any]) -> "Tree":
    said = life["decided_by"] and f"by {life['decided_by']}"
    hard = life["difficulty"] and f"difficulty {life['difficulty']}"
    tree = _tree(
        f"sample {life['id']}: {life['task']}, {_joined(' '.join(filter(None, (life['status'], said))), hard)}"
    )
    _add_origin(tree, life)
    revisions = _add(tree, "revisions")
    calls = {revision["revision_id"]: revision["call"] for revision in life["revisions"]}
    asked = life.get("asked", {}).get("revision")
    for each in life["revisions"]:
        # an edit has the call of what it edited, which is told there
        call = None if each["call"] == calls.get(each["parent_id"]) else each["call"]
        _add_revision(revisions, each, call, is_asked=each["revision_id"] == asked)
    _add_relabellings(tree, life)
    _add_negatives(tree, life)
    _add_judgements(tree, life)
    _add_reviews(tree, life)
    _add_findings(tree, life)
    if life["releases"]:
        releases = _add(tree, "releases")
        for each in life["releases"]:
            held = f"revision {each['number']}, {counted(each['num_negatives'], 'negative')}"
            judged = each["judged"] and f"judged {each['judged']}"
            _add(releases, f"{each['name']}: {_joined(held, judged, _plain(each['created_at']))}")
    for each in life["made_of_it"]:
        _add(tree, f"made of it: sample {each['sample_id']} by {each['operation']}")
    return tree


def _add_origin(tree: "Tree", life: Mapping[str, Any]) -> None:
    source = life["source"]
    named = _joined(f"source {source['name']}", f"split {source['split']}" if source["split"] else None)
    below = _add(tree, f"{named}, declared {source['declared_use']}, licence {source['licence'] or 'not stated'}")
    if source["origin"]:
        _add(below, f"origin {source['origin']}")
    if seed := life["seed"]:
        _add(tree, f"seed passage {_brief(seed['text_id'])}: {seed['text']}")
    for each in life["made_from"]:
        _add(tree, f"made from sample {each['sample_id']}, revision {each['number']}: {each['text']}")


def _add_revision(tree: "Tree", revision: Mapping[str, Any], call: Mapping[str, Any] | None, *, is_asked: bool) -> None:
    method = revision["method"] and f"({revision['method']})"
    made = " ".join(filter(None, (str(revision["number"]), revision["operation"], method, "by", revision["actor"])))
    marks = _joined("withdrawn" if revision["withdrawn"] else None, "the one asked for" if is_asked else None)
    below = _add(tree, f"{_joined(made, _plain(revision['created_at']), marks)}: {revision['revision_id']}")
    run = revision["run"]
    if run["kind"]:
        seed = None if run["seed"] is None else f"seed {run['seed']}"
        prompt = revision["prompt_version"] and f"prompt {revision['prompt_version']}"
        _add(below, _joined(f"run {_brief(run['run_id'])} {run['kind']}", prompt, seed, f"code {run['code_version']}"))
    if call:
        _add_call(below, call)
    if edit := revision["edited_by"]:
        _add(below, f"review {edit['review_id']}: {edit['reviewer']} said {edit['verdict']}")
    if revision["parent_id"] is None or not revision["changes"]:
        _grow(below, revision["content"])
    for field, (before, after) in revision["changes"].items():
        _add_change(below, field, before, after)


def _add_call(tree: "Tree", call: Mapping[str, Any], prompt_version: str = "") -> None:
    prompt = prompt_version and f"prompt {prompt_version}"
    below = _add(tree, f"call {call['call_id']}: {_joined(prompt, _paid(call))}")
    if call["reply"]:
        _add(below, f"reply: {call['reply']}")


def _paid(call: Mapping[str, Any]) -> str:
    sampling = _joined(*(f"{name} {value}" for name, value in call["sampling"].items()))
    seconds = None if call["seconds"] is None else f"{call['seconds']:.1f} s"
    cost = "price not stated" if call["cost"] is None else f"${call['cost']:.6f}"
    tokens = f"{call['tokens_in']} tokens in, {call['tokens_out']} out"
    again = f"asked again {call['turn']} times" if call["turn"] else None
    return _joined(call["outcome"], f"attempt {call['attempt']}", again, sampling, tokens, seconds, cost)


def _add_change(tree: "Tree", field: str, before: Any, after: Any) -> None:
    if isinstance(before, list) and isinstance(after, list):
        for sign, texts, others in (("-", before, after), ("+", after, before)):
            for text in texts:
                if text not in others:
                    _add(tree, f"{field} {sign} {text}")
        if sorted(before) == sorted(after):
            _add(tree, f"{field}: in another order")
        return
    _add(tree, f"{field} - {before}")
    _add(tree, f"{field} + {after}")


def _add_negatives(tree: "Tree", life: Mapping[str, Any]) -> None:
    latest = [each for each in life["negatives"] if each["is_of_latest"]]
    in_force = [each for each in latest if each["is_in_force"]]
    earlier = latest[len(in_force) :]
    if not life["negatives"] and not life["minings"]:
        return
    num_dropped = sum(each["is_dropped"] for each in in_force)
    dropped = f"{num_dropped} of them dropped" if num_dropped else None
    below = _add(tree, _joined(f"negatives: {len(in_force)}{' in force' if earlier else ''}", dropped))
    _add_minings(below, life["minings"])
    told = {each["call"]["call_id"] for each in life["revisions"] if each["call"]}  # a reply is told once
    for number, each in enumerate(in_force, start=1):
        _add_negative(below, f"{number}: ", each, told)
    if earlier:
        below_earlier = _add(below, f"{len(earlier)} of earlier minings, which no release takes unless it names one")
        for number, each in enumerate(earlier, start=len(in_force) + 1):
            _add_negative(below_earlier, f"{number}: run {_brief(each['run_id'])}, ", each, told)
    if others := len(life["negatives"]) - len(latest):
        _add(below, f"{others} of earlier revisions")


def _add_minings(tree: "Tree", minings: Sequence[Mapping[str, Any]]) -> None:
    """Each with its settings and what it gave; of several, which one is in force."""
    for each in minings:
        why = each["reason"] and f"({each['reason']})"
        found = " ".join(filter(None, (each["status"], why)))
        rank = None if each["positive_rank"] is None else f"the positive ranks {each['positive_rank']}"
        settings = unusual(each["settings"] or {})
        by = f"mined by {each['miner']}{f' ({settings})' if settings else ''}"
        stands = " (in force: the latest)" if each["is_in_force"] and len(minings) > 1 else ""
        of = f"{by}, run {_brief(each['run_id'])}{stands}: {found}"
        fell = ", ".join(f"{number} {why}" for why, number in (each["fallen"] or {}).items())
        _add_candidates(_add(tree, _joined(of, rank, fell and f"fell: {fell}")), each["candidates"])


def _add_negative(tree: "Tree", heading: str, negative: Mapping[str, Any], told: set[Any]) -> None:
    """A negative and its text, and the call that it came of, unless that is among those told."""
    rank = None if negative["rank"] is None else f"rank {negative['rank']}"
    score = None if negative["score"] is None else f"score {negative['score']:.3f}"
    against = None if negative["positive_score"] is None else f"positive {negative['positive_score']:.3f}"
    words = _joined(
        *(f"{'dropped by ' if w['drops'] else ''}{w['reviewer']}: {w['verdict']}" for w in negative["verdicts"])
    )
    lacks = negative["requirement"] and f"lacks: {negative['requirement']}"
    held = negative["releases"] and f"in {_first(negative['releases'])}"
    found = _joined(negative["origin"], negative["kind"], rank, score, against, _found(negative), words, held, lacks)
    line = _add(tree, f"{heading}{found}")
    _add(line, negative["text"])
    if negative["call"] and negative["call"]["call_id"] not in told:
        told.add(negative["call"]["call_id"])
        _add_call(line, negative["call"], negative["prompt_version"])


def _found(negative: Mapping[str, Any]) -> str:
    """By which miners it was found, why it is flagged, and what was given up for it."""
    miners = [f"{each['miner']} rank {each['rank']}" for each in negative["miners"] or ()]
    flagged = negative["flags"] and f"flagged {', '.join(negative['flags'])}"
    relaxed = negative["relaxed"] and f"relaxed {', '.join(negative['relaxed'])}"
    return _joined(*miners, flagged, relaxed)


def _add_candidates(tree: "Tree", candidates: Sequence[Mapping[str, Any]]) -> None:
    """The best of those that fell where negatives are wanting."""
    for each in candidates[:MOST_NAMED]:
        _add(tree, f"{each['reason']}, rank {each['rank']}, score {each['score']:.3f}: {each['text']}")
    if others := len(candidates[MOST_NAMED:]):
        _add(tree, f"{others} more that fell")


def _first(names: Sequence[str]) -> str:
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def _add_relabellings(tree: "Tree", life: Mapping[str, Any]) -> None:
    if not life["relabellings"]:
        return
    below = _add(tree, "relabelled")
    for each in life["relabellings"]:
        candidates = each["candidates"]
        found = each["num_negatives"] and counted(each["num_negatives"], "hard negative")
        among = f"{each['outcome']}, of {counted(len(candidates), 'candidate')}"
        line = _add(below, f"{_joined(among, found, _plain(each['created_at']))}: {each['revision_id']}")
        before = [one for one in candidates if one["text_id"] == each["passage_from"]]
        best = [one for one in candidates[:1] if one not in before]
        for name, passages in (("from" if each["moved_to"] else "kept", before), ("best", best)):
            for one in passages:
                grade = "no grade" if one["grade"] is None else f"grade {one['grade']}"
                places = f"place {one['likelihood']} by likelihood, {one['place']} with the grade"
                _add(line, f"{name}: {grade}, {places}: {one['text']}")


def _add_judgements(tree: "Tree", life: Mapping[str, Any]) -> None:
    if not life["judgements"]:
        return
    latest = [each for each in life["judgements"] if each["is_of_latest"]]
    stand, overruled = (sum(each["is_overruled"] is said for each in latest) for said in (False, True))
    suggested = counted(stand, "suggestion") if stand else None
    below = _add(
        tree, _joined(f"judgements: {len(latest)}", suggested, f"{overruled} overruled" if overruled else None)
    )
    # what a sample has is told above, and numbered there
    negatives = [each["text_id"] for each in life["negatives"] if each["is_of_latest"]]
    numbers = {text_id: number for number, text_id in enumerate(negatives, start=1)}
    for judge, kind in dict.fromkeys((each["judge"], each["judge_kind"]) for each in latest):
        line = _add(below, f"{judge} ({kind})")
        own = [each for each in latest if (each["judge"], each["judge_kind"]) == (judge, kind)]
        for each in sorted(own, key=lambda one: 0 if one["is_positive"] else numbers.get(one["text_id"], len(numbers))):
            _add(line, _judgement(each, numbers, life["status"]))
    if others := len(life["judgements"]) - len(latest):
        _add(below, f"{others} of earlier revisions")


def _judgement(judgement: Mapping[str, Any], numbers: Mapping[UUID, int], status: str) -> str:
    what = "positive" if judgement["is_positive"] else f"negative {numbers.get(judgement['text_id'], '')}".rstrip()
    text = cell(judgement["text"], width=SHORT_TEXT).plain
    relevance = None if judgement["relevance"] is None else f"relevance {judgement['relevance']:.3f}"
    said = _joined(f"grade {judgement['grade']}", relevance, _suggested(judgement, status))
    return f"{what} ({text}): {': '.join(filter(None, (said, judgement['reason'])))}"


def _suggested(judgement: Mapping[str, Any], status: str) -> str | None:
    if not judgement["suggestion"]:
        return None
    settled = "the sample is rejected" if status == "rejected" else "it is dropped"
    what = {None: f" ({settled})", True: " (overruled)", False: ""}[judgement["is_overruled"]]
    return f"suggests {judgement['suggestion']}{what}"


def _add_reviews(tree: "Tree", life: Mapping[str, Any]) -> None:
    if not life["reviews"]:
        return
    below = _add(tree, "reviews")
    asked = life.get("asked", {}).get("review")
    for each in life["reviews"]:
        verdict = "undo" if each["undoes"] else each["verdict"]
        about = None
        if each["undoes"]:
            about = f"of {each['undoes']}"
        elif each["negative_id"]:
            about = f"a negative, {each['negative_id']}"
        line = _joined(
            f"{_plain(each['created_at'])} {each['reviewer']}: {verdict}",
            about,
            ", ".join(each["reasons"] or ()),
            each["difficulty"] and f"difficulty {each['difficulty']}",
            None if each["seconds"] is None else f"{each['seconds']:.1f} s",
            each["note"] and f"note: {each['note']}",
            "undone" if each["is_undone"] else None,
            "the one asked for" if each["review_id"] == asked else None,
        )
        _add(below, line)


def _add_findings(tree: "Tree", life: Mapping[str, Any]) -> None:
    overlaps: Sequence[Mapping[str, Any]] = life["eval_overlaps"]
    for each in overlaps:
        where = _joined(each["eval_source"], each["eval_split"])
        _add(tree, f"its {each['field']} repeats a text of {where} ({each['kind']}, {each['value']:.3f})")
    for each in life["near_duplicates"]:
        dropped = each["sample_id"] == life["id"]
        other = each["kept_id"] if dropped else each["sample_id"]
        said = "says nearly what this sample says" if dropped else "was found to say nearly the same as this one"
        _add(tree, f"near duplicate: sample {other} {said} (similarity {each['similarity']:.3f})")

"""
The datasheet of a release: README.md, a Hugging Face dataset card made from the manifest alone.

Names, licences and conditions come from outside: they stand in code spans only, and in the front matter nowhere.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from synth.records import Task

# The keys of a manifest's `left_out`, as people say it.
LEFT_OUT = {
    "source_excluded": "of a source that the policy excludes",
    "where_not_met": "not meeting the policy's condition",
    "pending": "not decided yet",
    "rejected": "rejected",
    "disputed": "disputed: as many reviewers for as against",
    "no_person_decided": "approved by a policy alone, where a person's word is asked for",
    "no_policy_decided": "approved by a person, where a policy's word is asked for",
    "too_few_reviewers": "seen by too few reviewers",
    "too_little_agreement": "approved by too small a share of its reviewers",
    "unjudged": "neither approved by a person nor graded by a judge",
    "suggested_drop": "with a positive that does not answer, as a judge says",
    "contaminated": "contaminated: repeating an evaluation set",
    "near_duplicate": "nearly the same as a sample that is in",
    "too_few_negatives": "left with too few negatives",
}

UNSTATED = {"mining": "the latest of each sample"}  # what it means that a setting is empty, where not "none"


def shown_setting(key: str, value: Any) -> Any:
    """A policy's setting as people read it: an empty one by what it means."""
    return UNSTATED.get(key, "none") if value in ("", []) else value


def shown_cell(value: Any) -> Any:
    """A value of a row of the composition as people read it: settings as synth.toml has them, a list by its items."""
    if isinstance(value, dict):
        told = (f"{name} = {json.dumps(each, ensure_ascii=False)}" for name, each in value.items())
        return ", ".join(told) or "the defaults"
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def datasheet(manifest: Mapping[str, Any]) -> str:
    """The card's text."""
    counts, left_out = manifest["counts"], manifest["left_out"]
    parts = [
        f"{_front_matter(counts)}# Release {manifest['name']}",
        f"Made by Skiff {manifest['made_by']} on {manifest['created_at']}; digest `{manifest['digest']}`. The layout "
        "is described in docs/release-format.md of the project. Nothing in this folder changes; `synth release verify` "
        "tells whether it did.",
        _table(["what", "count"], [[key, value] for key, value in counts.items()]),
        "## Policy",
        _table(["setting", "value"], [[key, code(_shown(key, value))] for key, value in manifest["policy"].items()]),
        "## What was left out",
        "Of the samples to train on, by the first reason that holds.",
        _table(["reason", "samples"], [[LEFT_OUT[key], number] for key, number in left_out.items()])
        if left_out
        else "Nothing.",
        "## Contamination",
        _contamination(manifest),
        "## What is in it",
        *(_counted(name, rows) for name, rows in manifest["composition"].items() if rows),
        "A script is that of most words of the query or text; languages that share one are not told apart. Models and "
        "operations are those that made the latest revision of a sample.",
        "## Sources",
        _table(
            ["source", "split", "use", "licence", "origin"],
            [
                [code(s["name"]), code(s["split"]), s["declared_use"], code(s["licence"]), code(s["origin"])]
                for s in manifest["sources"]
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(counts: Mapping[str, int]) -> str:
    tasks = [task for task in Task if counts[task]]
    configs = "".join(
        f"- config_name: {task}\n  data_files:\n  - split: train\n    path: samples/{task}.parquet\n"
        + ("  default: true\n" if task == tasks[0] else "")
        for task in tasks
    )
    return f"---\ntags:\n- sentence-transformers\n- skiff\nconfigs:\n{configs}---\n"


def _contamination(manifest: Mapping[str, Any]) -> str:
    checks = manifest["checks"]
    if not manifest["policy"]["contamination"]:
        return "Not looked for: the policy says so. Do not compare scores on public benchmarks."
    told = (
        "A sample is left out if its query or one of its texts (positives and negatives apart) is one that an "
        "evaluation set asks, whatever its case, punctuation and spacing, or shares at least "
        f"{checks['overlap_threshold']:g} of the shorter one's runs of {checks['ngram']} words with it; and if "
        "`synth check` had found it similar to one."
    )
    if not manifest["compared_with"]:
        return f"{told} No evaluation set was declared, so nothing could be found."
    rows = [
        [code(row["eval_source"]), code(row["eval_split"]), row["kind"], row["num_samples"]]
        for row in manifest["overlaps"]
    ]
    names = ", ".join(code(name) for name in manifest["compared_with"])
    found = _table(["evaluation set", "split", "overlap", "samples left out"], rows) if rows else "Nothing was found."
    return f"{told} Looked for in: {names}.\n\n{found}"


def _counted(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(rows[0])
    plain = {"num_samples", "num_negatives", "task", "operation", "origin", "verdict", "script"}
    return f"By {name}:\n\n" + _table(
        columns,
        [[str(row[key]) if key in plain else code(str(shown_cell(row[key]))) for key in columns] for row in rows],
    )


def _shown(key: str, value: Any) -> str:
    shown = shown_setting(key, value)
    return ", ".join(shown) if isinstance(shown, list) else str(shown)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """The text as a code span that a table cell can hold: no mark-up, no HTML and no link in it is obeyed."""
    clean = "".join(c for c in text if c.isprintable()).replace("`", "'").replace("|", "/")
    return f"`{clean}`" if clean.strip() else "not stated"

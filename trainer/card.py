"""
The model card: a README.md made from the run's record and, once there are any, its scores.

Names and licences come from imported data and are hostile until escaped.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synth.records import SkiffError
from synth.screen import printable
from trainer.checkpoint import RUN_FILE, read_json, write_atomically

SCORES_FILE = "evaluation.json"
DATASHEET = "release.md"  # the release's own page: what is in it, where from, and what was left out
SOURCE = ("name", "origin", "licence", "version")
POOLED = {"mean": "Mean pooling over all tokens", "last": "The last token's state"}


def write_card(folder: Path) -> None:
    """
    Write README.md into a model folder from its run.json and, if it is there, evaluation.json.

    Raises:
        SkiffError: the folder has no run.json, or the disk did not take the card.
    """
    run = read_json(folder / RUN_FILE)
    if run is None:
        raise SkiffError(f"{folder / RUN_FILE} is missing or broken: train the model again")
    write_atomically(folder / "README.md", model_card(run, read_json(folder / SCORES_FILE)).encode())


def model_card(run: dict[str, Any], evaluation: dict[str, Any] | None) -> str:
    """The card's text, in Markdown with the front matter that the Hugging Face hub reads."""
    config, release = run["config"], run["release"]
    settings = [(key, value) for key, value in config.items() if key != "stages"]
    stages = [(number, *stage.values()) for number, stage in enumerate(config["stages"], start=1)]
    sources = [
        [source.get(key, "") for key in SOURCE] for source in run["sources"] if source.get("declared_use") != "eval"
    ]
    sources = [list(each) for each in dict.fromkeys(map(tuple, sources))]
    parts = [
        _front_matter(config["model"]),
        f"# {escape(Path(config['model']).name)}, trained on {escape(release['name'])}",
        f"Trained from {escape(config['model'])} on the release {escape(release['name'])} "
        f"(digest {escape(release['digest'])}) with Skiff, in stages as the QZhou-Embedding report has them "
        f"(arXiv 2508.21632). {POOLED[config['pooling']]}, then L2 normalisation; compare vectors by their cosine."
        + (" Attention was causal and was made bidirectional." if run["made_bidirectional"] else ""),
        "## Use",
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("path/to/this/folder")\n'
        'queries = model.encode_query(["..."])\npassages = model.encode_document(["..."])\n'
        "scores = model.similarity(queries, passages)\n```",
        "## Scores",
        _scores(evaluation),
        "## Training data",
        _table(("source", *SOURCE[1:]), sources) if sources else "The release names no sources.",
        f"The licences of these sources, and that of {escape(config['model'])}, hold for this model as far as they go."
        + (f" [{DATASHEET}]({DATASHEET}) is the release's datasheet." if run.get("has_datasheet") else ""),
        "## Training",
        _table(("setting", "value"), settings),
        _table(("stage", *config["stages"][0]), stages),
        f"Trained on {escape(run['hardware']['device'])}, products in {escape(run['hardware']['precision'])}, weights "
        f"in fp32, in {run['seconds']} seconds. `run.json` holds these settings, `steps.parquet` the samples of every "
        f"step (plan {escape(run['plan'])}), `metrics.jsonl` the loss of each.",
        *(f"- {escape(note)}" for note in run["notes"]),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(base_model: str) -> str:
    # A JSON string is a YAML string; only a name of the hub may stand as base_model there.
    is_of_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", base_model) and not Path(base_model).exists()
    base = [f"base_model: {json.dumps(base_model)}"] if is_of_hub else []
    lines = ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity", *base]
    return "\n".join(["---", *lines, "tags: [sentence-transformers, feature-extraction, skiff]", "---"])


def _scores(evaluation: dict[str, Any] | None) -> str:
    if evaluation is None:
        return "Not evaluated yet: run `trainer evaluate` on this folder."
    rows = [
        [
            row["set"],
            row["measure"],
            *(_number(row[key]) for key in ("before", "after", "change")),
            _spread(row),
            row["note"],
        ]
        for row in evaluation["scores"]
    ]
    own = f"On the sets held out from {escape(evaluation['release'])}"
    told = own if evaluation["own_sets"] else "On other sets than those that the release holds out"
    told += (
        f"; before: {escape(evaluation['against'] or 'nothing')}. Between the numbers of the last column but one the "
    )
    told += "change lies in 95 of 100 resamples of the same queries, pairs or texts."
    return f"{told}\n\n{_table(('set', 'measure', 'before', 'after', 'change', '95 of 100', 'note'), rows)}"


def _spread(row: dict[str, Any]) -> str:
    found = row["change_interval"]
    return f"{found['low']:+.3f} to {found['high']:+.3f}" if found else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *([escape(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(value: object) -> str:
    """The value as Markdown that shows it on one line and obeys none of it: no mark-up, no HTML, no table cells."""
    text = printable(str(value).replace("\n", " ").replace("\t", " "))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|~!])", r"\\\1", text)

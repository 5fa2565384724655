"""
Data sets of the Hugging Face `datasets` library: folders that it saved, and what its hub (or a folder laid out like
it) holds. Rows are read as they come, none are kept in a cache, and no code of a data set is run.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import SkiffError, UserError, is_plain_name
from synth.stages.tables import BATCH, Rows, Table, rows_of_batches

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

HUB = "hf:"
SPLITS, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
# The readers of the library that only read: its `pandas`, for one, would unpickle what it finds.
BUILDERS = ("arrow", "csv", "json", "parquet", "text")
HUB_PAGE = "https://huggingface.co/datasets/"


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved a data set, or several splits of one, in a folder."""
    return (folder / SPLITS).is_file() or ((folder / STATE).is_file() and (folder / INFO).is_file())


def saved_tables(folder: Path) -> list[Table]:
    """The splits of a data set that was saved with `save_to_disk`. Raises UserError if it cannot be read."""
    from datasets import DatasetDict, load_from_disk

    splits = _json_list(folder / SPLITS, "splits") if (folder / SPLITS).is_file() else ["."]
    for split in splits:
        if not isinstance(split, str) or (split != "." and not is_plain_name(split)):
            raise UserError(f"{folder / SPLITS}: {split!r:.60} is no name of a split")
        for file in _json_list(folder / split / STATE, "_data_files"):
            if not isinstance(file, dict) or not is_plain_name(str(file.get("filename"))):
                raise UserError(f"{folder / split / STATE}: names a file outside of its folder; save the data set anew")
    with _explained(str(folder)):
        try:
            found = load_from_disk(str(folder), keep_in_memory=False)
        except (AttributeError, LookupError):  # its descriptions are JSON, but not those of a data set
            raise UserError(f"{folder}: not as `datasets` writes it; save the data set anew") from None
        if isinstance(found, DatasetDict):
            return [_table(f"{folder}/{split}", str(split), each) for split, each in found.items()]
        return [_table(str(folder), str(found.split) if found.split else None, found)]


def _json_list(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise UserError(f"{path}: not as `datasets` writes it; save the data set anew")
    return found


def hub_tables(spec: str) -> tuple[str, str, Mapping[str, Sequence[Table]]]:
    """
    What `hf:OWNER/NAME[:CONFIG]` or `hf:/FOLDER[:CONFIG]` names: its name, where it is from, and its tables. Of a data
    set with the configurations corpus and queries, as mteb has them, all three tables of a retrieval set.

    Raises UserError, in one line, if there is none, the hub cannot be reached, or it holds anything but plain tables.
    """
    path, _, config = spec.removeprefix(HUB).partition(":")
    if not path:
        raise UserError(f"{spec}: names no data set; write hf:OWNER/NAME, hf:OWNER/NAME:CONFIG or hf:/FOLDER")
    local = path.startswith((".", "/", "~"))
    if local and not Path(path).is_dir():
        raise UserError(f"{spec}: there is no folder {path}")
    name = Path(path).resolve().name if local else path.rsplit("/", 1)[-1]
    with _explained(spec):
        from datasets import get_dataset_config_names

        configs = get_dataset_config_names(path)
        if not config and {"corpus", "queries"} <= set(configs):
            judged = next((each for each in ("qrels", "default") if each in configs), None)
            if judged is None:
                raise UserError(
                    f"{spec}: a corpus and queries without judgements (qrels); name one part: {spec}:corpus"
                )
            parts = {"corpus": "corpus", "queries": "queries", "judgements": judged}
            tables = {part: _hub_splits(spec, path, each) for part, each in parts.items()}
        else:
            tables = {"rows": _hub_splits(spec, path, config or None)}
    origin = path if local else f"{HUB_PAGE}{path}"
    return (f"{name}-{config}" if config else name), origin, tables


def _hub_splits(spec: str, path: str, config: str | None) -> list[Table]:
    from datasets import load_dataset_builder

    builder = load_dataset_builder(path, config)
    reader = type(builder).__module__.split(".")[-1]
    if reader not in BUILDERS:
        raise UserError(f"{spec}: kept as {reader!r:.40}, which is not read; read are {', '.join(BUILDERS)}")
    splits = builder.as_streaming_dataset()
    shown = f"{spec}:{config}" if config and not spec.endswith(f":{config}") else spec
    return [_table(f"{shown}/{split}", str(split), rows) for split, rows in splits.items()]


def _table(name: str, split: str | None, found: "Dataset | IterableDataset") -> Table:
    from datasets import ClassLabel

    features = found.features or found._resolve_features().features
    classes = {column: tuple(kind.names) for column, kind in features.items() if isinstance(kind, ClassLabel)}
    columns = tuple(features)

    def rows(wanted: Sequence[str]) -> Rows:
        with _explained(name):
            chosen = found.select_columns([column for column in columns if column in wanted])
            yield from rows_of_batches(chosen.with_format("arrow").iter(BATCH))

    return Table(name, columns, rows, split, classes)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Whatever the library, the hub or the network raises, as one line; its progress bars stay off the screen."""
    from datasets import disable_progress_bars
    from datasets.exceptions import DatasetsError
    from huggingface_hub import logging
    from huggingface_hub.errors import HfHubHTTPError
    from pyarrow import ArrowException

    disable_progress_bars()
    logging.set_verbosity(ERROR)
    try:
        yield
    except ConnectionError:
        raise SkiffError(f"{what}: the hub cannot be reached; check the network, or name a folder") from None
    except (DatasetsError, HfHubHTTPError, ArrowException, OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: `datasets` cannot read it: {reason:.300}") from None

"""
Data sets of the Hugging Face `datasets` library: folders that it saved, and what its hub holds. Rows are read as they
come, none are kept in a cache, and no code of a data set is run. A data set is hostile input: no file is read that is
not its own, whatever its card or its folder names.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.records import SkiffError, UserError, is_plain_name
from synth.stages.lines import Rows
from synth.stages.tables import BATCH, Table, rows_of_batches

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

HUB = "hf:"
SPLITS, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
# The readers of the library that only read: its `pandas`, for one, would unpickle what it finds.
BUILDERS = ("arrow", "csv", "json", "parquet", "text")
HUB_PAGE = "https://huggingface.co/datasets/"
OWN_FILES = "hf://datasets/"  # with which `datasets` begins what lies on the hub
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
CARDS = ("README.md", ".huggingface.yaml")  # where a data set says what its files are
ELSEWHERE = re.compile(r":|^[/~\\]|(^|/)\.\.(/|$)")  # a URL or a path that leaves the data set


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
        for file in _json_list(_inside(folder, split) / STATE, "_data_files"):
            if not isinstance(file, dict) or not is_plain_name(str(file.get("filename"))):
                raise UserError(f"{folder / split / STATE}: names a file outside of its folder; save the data set anew")
            _inside(folder, f"{split}/{file['filename']}")
    with _explained(str(folder)):
        try:
            found = load_from_disk(str(folder), keep_in_memory=False)
        except (AttributeError, LookupError):  # its descriptions are JSON, but not those of a data set
            raise UserError(f"{folder}: not as `datasets` writes it; save the data set anew") from None
        if isinstance(found, DatasetDict):
            return [_table(f"{folder}/{split}", str(split), each) for split, each in found.items()]
        return [_table(str(folder), str(found.split) if found.split else None, found)]


def _inside(folder: Path, name: str) -> Path:
    """A file or folder in a saved data set's. Raises UserError if it is a link that leaves that."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: a link that leaves the folder; save the data set anew")
    return path


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
    What `hf:OWNER/NAME[:CONFIG]` names on the hub: its name, where it is from, and its tables. Of a data set with the
    configurations corpus and queries, as mteb has them, all three tables of a retrieval set.

    Raises, in one line, UserError if there is none, it holds anything but plain tables or names files that are not its
    own, and SkiffError if the hub cannot be reached.
    """
    repository, _, config = spec.removeprefix(HUB).partition(":")
    if not REPOSITORY.fullmatch(repository):
        raise UserError(
            f"{spec}: names no data set of the hub; write hf:OWNER/NAME or hf:OWNER/NAME:CONFIG; a folder is"
            f" ingested by its path, without {HUB}"
        )
    with _explained(spec):
        from datasets import get_dataset_config_names

        revision = _checked_revision(spec, repository)
        configs = get_dataset_config_names(f"{OWN_FILES}{repository}", revision=revision)
        if not config and {"corpus", "queries"} <= set(configs):
            judged = next((each for each in ("qrels", "default") if each in configs), None)
            if judged is None:
                raise UserError(
                    f"{spec}: a corpus and queries without judgements (qrels); name one part: {spec}:corpus"
                )
            parts = {"corpus": "corpus", "queries": "queries", "judgements": judged}
            tables = {part: _hub_splits(spec, repository, each, revision) for part, each in parts.items()}
        else:
            tables = {"rows": _hub_splits(spec, repository, config or None, revision)}
    name = repository.rsplit("/", 1)[-1]
    return (f"{name}-{config}" if config else name), f"{HUB_PAGE}{repository}", tables


def _checked_revision(spec: str, repository: str) -> str | None:
    """
    The commit of a data set whose card is well; None if it has no card.

    Raises UserError if the card names files that are not the data set's own: `datasets` would read them from this
    machine, or ask any server for them.
    """
    import yaml  # type: ignore[import-untyped]
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    revision = None
    for name in CARDS:
        try:
            path = Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision))
        except RemoteEntryNotFoundError:
            continue
        revision = path.parent.name
        card = DatasetCard.load(path).data.to_dict() if path.suffix == ".md" else yaml.safe_load(path.read_bytes())
        for named in _named_files(card):
            if ELSEWHERE.search(str(named)):
                raise UserError(f"{spec}: its {name} names {named!r:.60}, which is no file of the data set")
    return revision


def _named_files(card: Any) -> Iterator[object]:
    configs = card.get("configs") if isinstance(card, dict) else None
    for config in configs if isinstance(configs, list) else ():
        if isinstance(config, dict):
            yield config.get("data_dir")
            files = config.get("data_files")
            for each in files if isinstance(files, list) else [files]:
                path = each.get("path") if isinstance(each, dict) else each
                yield from path if isinstance(path, list) else [path]


def _hub_splits(spec: str, repository: str, config: str | None, revision: str | None) -> list[Table]:
    from datasets import load_dataset_builder

    # written like this no folder of the same name is taken for it
    builder = load_dataset_builder(f"{OWN_FILES}{repository}", config, revision=revision)
    reader = type(builder).__module__.split(".")[-1]
    if reader not in BUILDERS:
        raise UserError(f"{spec}: kept as {reader!r:.40}, which is not read; read are {', '.join(BUILDERS)}")
    for file in (each for files in (builder.config.data_files or {}).values() for each in files):
        if not str(file).startswith(OWN_FILES):
            raise UserError(f"{spec}: would be read from {file!r:.60}, which is no file of the data set")
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
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from pyarrow import ArrowException
    from yaml import YAMLError

    disable_progress_bars()
    logging.set_verbosity(ERROR)
    try:
        yield
    except (ConnectionError, LocalEntryNotFoundError):
        raise SkiffError(f"{what}: the hub cannot be reached; check the network, or name a folder") from None
    except (
        *(DatasetsError, HfHubHTTPError, ArrowException, YAMLError),
        *(OSError, ValueError, TypeError, RuntimeError, RecursionError),
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: `datasets` cannot read it: {reason:.300}") from None

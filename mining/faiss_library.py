"""FAISS as this machine has it: one of its packages, none, or several that have overwritten each other."""

import sys
from collections.abc import Sequence
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mining import MiningError

INSTALL = "pip install 'skiff-embeddings[cpu]' (or [gpu])"


def load_faiss() -> Any:
    """The module. Raises MiningError with the remedy where it is missing or damaged, or lacks a library."""
    import torch  # noqa: F401  # before FAISS: the other order has crashed where both bring CUDA libraries

    folder = _folder()
    if folder is None:
        raise MiningError(f"FAISS is not installed: {INSTALL}, or search with torch")
    try:
        import faiss
    except (ImportError, RuntimeError, OSError) as error:
        [reason, *_] = str(error).splitlines() or [type(error).__name__]
        raise MiningError(f"FAISS cannot be imported ({reason}): {_mending(_owners(folder))}") from error
    return faiss


def faiss_gpus() -> int:
    """How many GPUs FAISS sees. Where there is none, its functions for all GPUs make an index that ends the process."""
    return int(load_faiss().get_num_gpus()) if faiss_is_there() else 0


def faiss_is_there() -> bool:
    """Whether FAISS is installed; raises as `load_faiss` does."""
    return _folder() is not None


def _folder() -> Path | None:
    """
    The folder that the module would be imported from; None where FAISS is not installed.

    Raises:
        MiningError: its distributions have damaged each other. They all hold the same module: of two in one folder the
            later overwrites the earlier, and the removal of one takes the files of both. One in a folder that goes
            before that of another does no harm.
    """
    spec = find_spec("faiss")
    found = Path(spec.origin).parents[1] if spec and spec.origin else None  # no origin: a folder without a module
    for folder in [found] if found else map(Path, sys.path):
        names = _owners(folder)
        if len(names) > 1:
            raise MiningError(f"{' and '.join(names)} have overwritten each other in {folder}: {_mending(names)}")
        if names and not found:
            raise MiningError(
                f"{names[0]} in {folder} has lost its files, perhaps to another's removal: {_mending(names)}"
            )
    return found


def _owners(folder: Path) -> list[str]:
    """Names of the distributions in a folder that say the module is theirs."""
    found = [Distribution.at(path) for path in folder.glob("faiss*.dist-info")]
    return sorted(each.name for each in found if "faiss/__init__.py" in (each.read_text("RECORD") or ""))


def _mending(names: Sequence[str]) -> str:
    """Without the removal pip would take what is there for installed, or put another over it."""
    return f"pip uninstall -y {' '.join(names)}, then {INSTALL}" if names else INSTALL

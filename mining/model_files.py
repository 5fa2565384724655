"""
What a loaded model says of itself, kept under a digest of its files, so that the next run need not load it to know.

Loading costs seconds where reading and hashing the files costs a fraction of one. The digest is of every file of the
model's folder, whatever it holds: a file that does not matter costs a load too many, never a stale answer.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from mining import MiningError

LIBRARIES = ("sentence-transformers", "transformers")  # another version of them may read the same files otherwise


def local_folder(path: str) -> Path | None:
    """Where the files of a model are on this machine: the folder itself, or the snapshot in the hub's cache."""
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(path, "config.json")
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


def digest_files(folder: Path) -> str:
    """
    32 hexadecimal digits: the names and contents of a model's files, and the libraries that read them.

    Raises:
        MiningError: a file cannot be read.
    """
    digest = hashlib.sha256(" ".join(version(library) for library in LIBRARIES).encode())
    try:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                digest.update(
                    f"\n{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode()
                )
    except OSError as error:
        raise MiningError(f"the model in {folder} cannot be read ({error.strerror}): check its files") from error
    return digest.hexdigest()[:32]


def read_facts(cache: Path, digest: str) -> dict[str, Any] | None:
    """What was kept under a digest; None if nothing was, or nothing that is a JSON object."""
    try:
        kept = json.loads((cache / "models" / f"{digest}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def keep_facts(cache: Path, digest: str, facts: dict[str, Any]) -> None:
    """
    Keep what a model said, whole or not at all.

    Raises:
        MiningError: the folder cannot be made or written.
    """
    target = cache / "models" / f"{digest}.json"
    unfinished = target.with_suffix(f".{uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(facts), encoding="utf-8")
        unfinished.replace(target)
    except OSError as error:
        raise MiningError(
            f"the folder {target.parent} cannot be written ({error.strerror}): make room, or check the folder"
        ) from error

"""
Whole copies of a store's files. Only for a store that is attached nowhere and locked (`Store.exclusive`): opening the
file of an attached one would drop DuckDB's own lock on it.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synth.records import StoreError, StoreLocked
from synth.store.engine import is_lake, lake_files

CHUNK = 1 << 22  # bytes


def copy_store(path: Path, target: Path) -> None:
    """
    Copy the store to `target`, which gets its name when the copy is complete and on the disk; what was there is
    replaced. Of a DuckLake the catalogue alone is copied, for the files that it names are never changed.

    Raises StoreError if the disk has no room or fails, StoreLocked if a program outside Skiff has opened the file.
    """
    require_room(target.parent, path.stat().st_size)
    with partial_of(target) as partial:
        copy_file(path, partial)
        put(partial, target)


@contextmanager
def partial_of(target: Path) -> Iterator[Path]:
    """
    A name for what will be `target` when it is complete; what has it is removed, before and after.

    Raises StoreError if the disk fails meanwhile.
    """
    partial = target.with_name(f".partial.{target.name}")
    try:
        remove(partial)
        yield partial
    except OSError as error:
        reason = error.strerror or "the disk is full?"
        raise StoreError(f"{target}: cannot be written ({reason}); nothing of it is kept") from None
    finally:
        with suppress(OSError):
            remove(partial)


def copy_file(path: Path, copy: Path) -> None:
    """Copy a store's file, with its permissions."""
    with held(path, writing=False) as source, copy.open("wb") as target:
        shutil.copyfileobj(os.fdopen(source, "rb", closefd=False), target, CHUNK)
    shutil.copymode(path, copy)


def copy_lake_files(path: Path, copy: Path) -> None:
    """Copy the folder of a DuckLake's files, to where the catalogue `copy` looks for them."""
    folder = lake_files(copy)
    if lake_files(path).is_dir():
        shutil.copytree(lake_files(path), folder)
        for file in folder.rglob("*"):
            sync(file)


@contextmanager
def held(path: Path, *, writing: bool) -> Iterator[int]:
    """Hold the lock that DuckDB itself looks at, so that no program outside Skiff gets in: a descriptor of the file."""
    descriptor = os.open(path, (os.O_RDWR if writing else os.O_RDONLY) | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(descriptor, (fcntl.LOCK_EX if writing else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            raise StoreLocked(f"{path}: a program outside Skiff has opened the file; close it and run again") from None
        yield descriptor
    finally:
        os.close(descriptor)


def put(partial: Path, target: Path) -> None:
    """Give a complete file its name, and see to it that both are on the disk."""
    sync(partial)
    if lake_files(partial).is_dir():
        lake_files(partial).replace(lake_files(target))
    partial.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """See to it that a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, size: int) -> None:
    """Raises StoreError unless the disk of a folder has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StoreError(
            f"{folder}: a copy needs {megabytes(size)} of disk, and {megabytes(free)} are free; free some and run again"
        )


def size_of(path: Path) -> int:
    """The bytes that a store takes on the disk."""
    files = lake_files(path).rglob("*") if is_lake(path) else ()
    return path.stat().st_size + sum(file.stat().st_size for file in files if file.is_file())


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:,.1f} MB"


def remove(path: Path) -> None:
    """Remove a half-made store: its file, its log and its folder of files, if they are there."""
    for leftover in (path, path.with_name(f"{path.name}.wal")):
        leftover.unlink(missing_ok=True)
    if is_lake(path) and lake_files(path).is_dir():
        shutil.rmtree(lake_files(path))

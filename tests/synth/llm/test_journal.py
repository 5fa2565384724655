"""The journal: what is written stays written, once, for every later process."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from synth.llm.journal import MOST_BYTES, Journal, Reply
from synth.records import SkiffError, key_of

REPLY = Reply("a cat\n“purrs” \x00 猫 🐈", "test-model", "stop", 10, 5, 0.25)


def key(number: int) -> UUID:
    return key_of("request", number)


def write(folder: Path, *numbers: int) -> Path:
    """One process's journal; its file."""
    before = set(folder.glob("*.jsonl"))
    with Journal(folder) as journal:
        for number in numbers:
            journal.append(key(number), replace(REPLY, tokens_in=number))
    (path,) = set(folder.glob("*.jsonl")) - before
    return path


def test_a_reply_comes_back_as_it_was_written_and_marked_as_replayed(tmp_path: Path) -> None:
    write(tmp_path / "journal", 1, 2)
    with Journal(tmp_path / "journal") as journal:
        assert journal.get(key(2)) == replace(REPLY, tokens_in=2, replayed=True)
        assert journal.get(key(3)) is None
        assert len(journal) == 2 and journal.notes == []


def test_a_reply_written_now_is_found_now(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for number in range(3):
            journal.append(key(number), replace(REPLY, tokens_in=number))
        assert [journal.get(key(number)) for number in range(3)] == [
            replace(REPLY, tokens_in=number, replayed=True) for number in range(3)
        ]


def test_a_reply_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(key(1), REPLY)
        with Journal(tmp_path) as other:
            assert other.get(key(1)) is not None


def test_two_processes_at_once_write_to_different_files(tmp_path: Path) -> None:
    with Journal(tmp_path) as one, Journal(tmp_path) as two:
        one.append(key(1), REPLY)
        two.append(key(2), REPLY)
        one.append(key(3), REPLY)
    assert len(list(tmp_path.iterdir())) == 2
    with Journal(tmp_path) as journal:
        assert len(journal) == 3


def test_a_run_that_buys_nothing_leaves_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal"):
        pass
    assert list((tmp_path / "journal").iterdir()) == []


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    assert stat.S_IMODE(write(tmp_path, 1).stat().st_mode) == 0o600


@pytest.mark.parametrize("cut", [1, 2, 10, 60, 120])
def test_a_torn_last_line_is_ignored_and_said(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, 1, 2)
    os.truncate(path, path.stat().st_size - cut)
    with Journal(tmp_path) as journal:
        assert journal.get(key(1)) is not None and journal.get(key(2)) is None
        assert len(journal.notes) == 1 and str(path) in journal.notes[0] and "1 line" in journal.notes[0]


@pytest.mark.parametrize("damage", [b"\n", b"\xff\xfe\n", b"[1]\n", b'{"key": "no key at all, though it looks so"}\n'])
def test_damaged_lines_are_ignored_and_said_and_the_others_kept(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path, 1)
    path.write_bytes(damage * 2 + path.read_bytes())
    with Journal(tmp_path) as journal:
        assert len(journal) == 1 and journal.get(key(1)) is not None
        assert "2 lines" in journal.notes[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"text":"', b'"text": 1, "x": "'),
        (b'"text":"', b'"text": "\\ud800'),
        (b'"stop"', b"null"),
        (b'"stop"', b'"\\u001b[31m"'),
        (b'"test-model"', b'"\\ud800"'),
        (b'"test-model"', b'"' + b"m" * 201 + b'"'),
        (b'"text":"', b'"text":"' + b"a" * (MOST_BYTES + 1)),
        (b"0.25,", b"0.25],"),
        (b"0.25,", b"NaN,"),
        (b"10,", b"[],"),
        (b"10,", b"true,"),
        (b"10,", b"-1,"),
        (b"10,", b"1000000001,"),
        (b"10,", b"1" + b"0" * 30 + b","),
    ],
)
def test_a_reply_damaged_inside_is_asked_again_and_said(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = write(tmp_path, 10)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with Journal(tmp_path) as journal:
        assert journal.get(key(10)) is None
        assert "damaged" in journal.notes[0]


def test_after_a_full_disk_the_file_holds_whole_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_to_disk = os.write
    with Journal(tmp_path) as journal:
        journal.append(key(1), REPLY)

        def half_a_line_then_full(file: int, data: bytes) -> int:
            if len(data) < 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write_to_disk(file, data[: len(data) - 50])

        monkeypatch.setattr(os, "write", half_a_line_then_full)
        with pytest.raises(SkiffError, match=r"No space left on device; .* run the same command again"):
            journal.append(key(2), REPLY)
        assert journal.get(key(2)) is None
        monkeypatch.undo()
        journal.append(key(3), REPLY)
    with Journal(tmp_path) as journal:
        assert [journal.get(key(number)) is not None for number in (1, 2, 3)] == [True, False, True]
        assert journal.notes == []


def test_a_line_that_never_ends_is_ignored_and_the_lines_after_it_kept(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    line = path.read_bytes()
    path.write_bytes(
        line[:-3] + b" " * (5 * MOST_BYTES) + b"\n" + line.replace(str(key(1)).encode(), str(key(2)).encode())
    )
    with Journal(tmp_path) as journal:
        assert journal.get(key(1)) is None and journal.get(key(2)) is not None
        assert "torn or damaged" in journal.notes[0]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_skipped_and_said(make: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path, 1)
    make(tmp_path / "0.jsonl")
    with Journal(tmp_path) as journal:
        assert journal.get(key(1)) is not None
        assert journal.notes == [f"ignored {tmp_path / '0.jsonl'}: it is no regular file"]


def test_a_folder_that_cannot_be_one_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(SkiffError, match="journal"), Journal(tmp_path / "journal"):
        pass

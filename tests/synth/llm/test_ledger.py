"""What was in flight when a process was killed: counted by every run that follows, and by no run that ended."""

from pathlib import Path
from uuid import UUID

import pytest

from synth.llm.ledger import InFlight, Ledger
from synth.records import SkiffError

STAGE, OTHER = UUID(int=1), UUID(int=2)
A, B, C = (UUID(int=number) for number in (10, 11, 12))


def killed(folder: Path, stage_key: UUID = STAGE) -> None:
    """A run that asked for A twice (the first reply was lost), got B, and was killed while C was in flight."""
    ledger = Ledger(folder, stage_key)
    ledger.sent(A, 100, 0.01)
    ledger.sent(B, 200, 0.02)
    ledger.sent(A, 100, 0.01)
    ledger.known(A)
    ledger.known(B)
    ledger.sent(C, 400, 0.04)


def test_what_a_killed_run_had_in_flight_or_lost_is_counted_by_all_that_follow(tmp_path: Path) -> None:
    killed(tmp_path)
    for _ in range(2):
        assert Ledger(tmp_path, STAGE).earlier() == InFlight(2, 500, pytest.approx(0.05))
    killed(tmp_path)
    assert Ledger(tmp_path, STAGE).earlier().tokens == 1000


def test_a_run_that_ended_and_runs_of_other_settings_leave_nothing(tmp_path: Path) -> None:
    killed(tmp_path, OTHER)
    ledger = Ledger(tmp_path, STAGE)
    ledger.sent(A, 100, 0.01)
    ledger.close()
    assert Ledger(tmp_path, STAGE).earlier() == InFlight()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"+", b"-", b"+zz 1 1\n", b"\xff\xfe\n\n", b"+" + b"0" * 32, b"[]\n" * 9])
def test_what_is_torn_or_damaged_is_passed_over(tmp_path: Path, damage: bytes) -> None:
    killed(tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + damage)
    assert Ledger(tmp_path, STAGE).earlier().tokens == 500


def test_absurd_numbers_are_bounded(tmp_path: Path) -> None:
    (tmp_path / f"{STAGE.hex}.x.ledger").write_text(f"+{A.hex} {'9' * 400} -5\n")
    assert Ledger(tmp_path, STAGE).earlier() == InFlight(1, 10**18, 0.0)


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SkiffError, match="cannot keep account of what is in flight"):
        Ledger(tmp_path / "nowhere", STAGE).sent(A, 1, 0.0)

"""What mining refuses, as the commands tell it."""

import errno

import pytest

from mining import MiningError
from synth.records import SkiffError
from synth.stages.vectors import mining_errors


def test_a_full_disk_is_a_failure_and_no_wrong_input() -> None:
    for cause, code in ((OSError(errno.ENOSPC, "No space left on device"), 1), (FileNotFoundError("model"), 2)):
        with pytest.raises(SkiffError, match=r"^no vectors$") as told, mining_errors():
            raise MiningError("no vectors") from cause
        assert told.value.exit_code == code

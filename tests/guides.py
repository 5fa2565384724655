"""
Follows the guides to the letter: every command and every line of Python in them, in order, in an empty folder.

They train models, so they are no part of the tests: `make guides`, some ten minutes.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
GUIDES = ("guide-documents.md", "guide-datasets.md")  # guide-review.md is followed in tests/browser/test_guide.py


def follow(guide: str, folder: Path) -> None:
    """Run the blocks of a guide as one script each. Exits with what failed, and what it said."""
    (folder / "data").symlink_to(ROOT / "data")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"}
    for language, block in BLOCK.findall((ROOT / "docs" / guide).read_text()):
        start = time.monotonic()
        line = ["bash", "-euo", "pipefail", "-c", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(
            line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        sys.stdout.write(f"\n{block}{done.stdout}[{time.monotonic() - start:.0f} s]\n")
        sys.stdout.flush()
        if done.returncode:
            sys.exit(f"{guide}: the block above ended with {done.returncode}")


if __name__ == "__main__":
    for name in sys.argv[1:] or GUIDES:
        with tempfile.TemporaryDirectory() as empty:
            follow(name, Path(empty))

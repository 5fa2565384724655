"""
The chat server as a judge of passages: what says more of a query's words is graded higher.

In a subprocess:  python tests/relabel_server.py --port-file FILE [--mute]    with --mute it never grades
"""

import argparse
import asyncio
import re
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, it finds its neighbours where the tests do
    sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.chat_server import ChatServer, Messages, serve_for_ever
from tests.synth.stages.relabelling import judge


def grade(query: str, text: str) -> int:
    """3 for all of the query's words, 0 for fewer than a third."""
    asked = set(re.findall(r"\w{4,}", query.lower()))
    return 3 * len(asked & set(re.findall(r"\w{4,}", text.lower()))) // max(1, len(asked))


def mute(messages: Messages) -> str:
    """A model that has no answer."""
    return "I cannot say."


async def _serve(options: argparse.Namespace) -> None:
    await serve_for_ever(ChatServer(mute if options.mute else judge(grade)), options.port_file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A judge of passages for tests; Ctrl-C ends it.")
    parser.add_argument("--port-file", type=Path, required=True, help="where to write the port, once it listens")
    parser.add_argument("--mute", action="store_true", help="never grade anything")
    asyncio.run(_serve(parser.parse_args()))

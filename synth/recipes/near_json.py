"""
JSON as models write it where nobody holds them to it: with comments, with a comma before a closing bracket, with curled
quotation marks, with the colon and comma of Chinese, with characters that are not seen. None of this leaves in doubt
what is meant. Where there is doubt (a quotation mark within a text, an item left out with dots), nothing is mended.
"""

import json
import re

_MOST_MENDED = 100_000  # characters; no recipe asks for as many
_UNSEEN = "\u200b\u200c\u200d\u2060\ufeff"

# The beginning of an object; a brace of LaTeX or code is none. What may stand before its first key is bounded, so that
# no reply is read over and over.
START = re.compile(
    rf'\{{(?:[\s{_UNSEEN}]++|(?://|\#)[^\n]{{0,100}}+\n|/\*[^*]{{0,100}}+\*/){{0,8}}+["“}}]',
)
_TOKEN = re.compile(
    rf"""
    (?P<text>"(?:[^"\\]|\\.)*+")
    | “(?P<curled>[^“”"\\]*+)”
    | (?P<space>[\s{_UNSEEN}]++ | (?://|\#)[^\n]*+ | /\*.*?\*/)
    | (?P<opening>[\[{{])
    | (?P<closing>[\]}}])
    | (?P<sign>[:,：，])
    | (?P<word>-?\d[\d.eE+-]*+ | true | false | null)
    """,
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {"：": ":", "，": ","}


def mended(text: str, start: int) -> tuple[str, int] | None:
    """
    The object that begins at `start` as JSON, and where it ends in `text`; None where it has another fault or breaks
    off. What it gives may still be no JSON: it is for a parser to read.
    """
    pieces: list[str] = []
    depth, position = 0, start
    while found := _TOKEN.match(text, position, start + _MOST_MENDED):
        position = found.end()
        match found.lastgroup:
            case "space":
                continue
            case "opening":
                depth += 1
            case "closing":
                depth -= 1
                if pieces[-1] == ",":
                    pieces.pop()
        pieces.append(_as_json(found))
        if depth == 0:
            return " ".join(pieces), position
    return None


def _as_json(token: re.Match[str]) -> str:
    if token.lastgroup == "curled":
        return json.dumps(token["curled"])
    return _SIGNS.get(token[0], token[0])

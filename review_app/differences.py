"""
What differs between two texts, word by word: what went, what came, and what of it changes the meaning most easily.

Words are what `segments` takes for words; Chinese, Japanese and Korean are compared character by character.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from review_app.segments import CJK, LONGEST, PLAIN, Segments, segments

GONE, CAME = "del", "ins"
DIGITS, NEGATION, NAME = "digits", "negation", "name"  # after one of these, as in "ins digits"

PIECE = re.compile(rf"[{CJK}]|\s+|\d+(?:[.,:]\d+)*|[^\W\d_{CJK}]+(?:['’][^\W_{CJK}]+)*|.", re.DOTALL)
NEGATION_WORDS = (
    "no not never none nobody nothing neither nor nowhere without cannot hardly"
    " kein keine keinen nicht nie niemals ohne pas jamais aucun sans nunca sin tampoco"
)
NEGATIONS = frozenset(NEGATION_WORDS.split())
CJK_NEGATIONS = frozenset("不没沒无無非未别別勿莫")
MOST_PIECES = 1500  # compared exactly: it takes the square of their number


def difference(before: str, after: str) -> tuple[Segments, Segments]:
    """
    Both texts as segments, as `segments` gives them, in which what is only in the one has a kind: "del" in `before`,
    "ins" in `after`, and after it "digits", "negation" or "name" where a number, a negation or a capitalised word is.
    """
    one, other = _pieces(before), _pieces(after)
    gone, came = [False] * len(one), [False] * len(other)
    for tag, start, end, other_start, other_end in _changes(one, other):
        if tag != "equal":
            gone[start:end] = [True] * (end - start)
            came[other_start:other_end] = [True] * (other_end - other_start)
    return _marked(before, one, _joined(one, gone), GONE), _marked(after, other, _joined(other, came), CAME)


def length_ratio(before: str, after: str) -> float:
    """How long the second text is beside the first: 1.0 if they are of a length."""
    return len(after) / max(1, len(before))


def _pieces(text: str) -> list[str]:
    return PIECE.findall(text[:LONGEST])


def _changes(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Without the ends that are alike, which are most of two long texts."""
    shorter = min(len(one), len(other))
    head = next((place for place in range(shorter) if one[place] != other[place]), shorter)
    tail = next((n for n in range(shorter - head) if one[-1 - n] != other[-1 - n]), shorter - head)
    left, right = one[head : len(one) - tail], other[head : len(other) - tail]
    if max(len(left), len(right)) > MOST_PIECES:
        return [("replace", head, head + len(left), head, head + len(right))]
    found = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    return [(tag, a + head, b + head, c + head, d + head) for tag, a, b, c, d in found]


def _joined(pieces: Sequence[str], is_changed: Sequence[bool]) -> list[bool]:
    """White space between two words that changed goes with them: a run of words is one mark."""
    around = [False, *is_changed, False]
    return [
        changed or (piece.isspace() and around[place] and around[place + 2])
        for place, (piece, changed) in enumerate(zip(pieces, is_changed, strict=True))
    ]


def _marked(text: str, pieces: Sequence[str], is_changed: Sequence[bool], kind: str) -> Segments:
    found: Segments = []
    run, run_kind = "", PLAIN
    for place, piece in enumerate(pieces):
        own = _kind(pieces, place, kind) if is_changed[place] else PLAIN
        if own != run_kind and run:
            found += _with_hidden(run, run_kind)
            run = ""
        run, run_kind = run + piece, own
    found += _with_hidden(run, run_kind) if run else []
    return found + (segments(text)[-1:] if len(text) > LONGEST else [])


def _with_hidden(text: str, kind: str) -> Segments:
    return [(part, found or kind) for part, found in segments(text)]


def _kind(pieces: Sequence[str], place: int, kind: str) -> str:
    piece = pieces[place]
    if any(character.isdigit() for character in piece):
        return f"{kind} {DIGITS}"
    if piece.casefold() in NEGATIONS or piece in CJK_NEGATIONS or re.search(r"n['’]t$", piece, re.IGNORECASE):
        return f"{kind} {NEGATION}"
    if piece[:1].isupper() and not _begins_a_sentence(pieces, place):
        return f"{kind} {NAME}"
    return kind


def _begins_a_sentence(pieces: Sequence[str], place: int) -> bool:
    before = next((piece for piece in reversed(pieces[max(0, place - 4) : place]) if not piece.isspace()), ".")
    return before in '.!?:。！？"“«('

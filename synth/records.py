"""
The nouns: frozen records that every part of Skiff hands to the next, and the errors that it may raise.

Standard library only, no input or output. Ids are UUIDs: a text's id and a content hash are the first 128 bits of a
SHA-256 of the normalised content (the same content gets the same id on every machine); the ids of revisions, runs and
reviews are time-ordered (UUID version 7), so that a store sorted by id is sorted by time.
"""

import hashlib
import json
import os
import re
import time
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Literal
from uuid import UUID


class SkiffError(Exception):
    """Something Skiff can explain: one line that says what, where and the remedy. `exit_code` is the command's."""

    exit_code = 1


class UserError(SkiffError):
    """The input is wrong (an option, a file, a line, a name): mend it and run again."""

    exit_code = 2


class StoreError(SkiffError):
    """The store could not be read or written."""


class StoreLocked(StoreError):
    """Another process holds the store and did not let go in time."""


class StoreTooNew(StoreError):
    """The store was written by a newer Skiff."""

    exit_code = 2


class LLMError(SkiffError):
    """The LLM server could not serve: unreachable, refusing the key or the model, or failing after all retries."""


class BudgetSpent(SkiffError):
    """The next request might pass a ceiling that the user set; what was made before is stored."""

    exit_code = 3


class Stopped(SkiffError):
    """Asked to stop (Ctrl-C): nothing further was begun, what was begun has been finished and is kept."""

    exit_code = 130


class BadReply(SkiffError):
    """One reply of the LLM does not fit its recipe; the seed is reported, the run goes on."""


# Why a request to an LLM got no reply that can be used.
FailureKind = Literal[
    "too_long", "refused_content", "rejected", "broken", "timeout", "withheld", "empty", "cut", "unusable"
]


class Task(StrEnum):
    """What a sample trains."""

    RETRIEVAL = "retrieval"
    STS = "sts"
    CLASSIFICATION = "classification"


class Use(StrEnum):
    """What a source may be used for; texts declared `eval` never reach a release's training samples."""

    TRAIN = "train"
    EVAL = "eval"


class Verdict(StrEnum):
    """What a reviewer said of a revision; of one of its negatives, REJECT (drop it), KEEP and the three below it."""

    APPROVE = "approve"
    REJECT = "reject"
    SKIP = "skip"
    FLAG = "flag"  # for an adjudicator to decide
    KEEP = "keep"
    FALSE_NEGATIVE = "false_negative"  # it answers the query
    PARTIAL = "partial"  # it answers a part of the query
    PROMOTE = "promote"  # it answers the query, and becomes a positive


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A query and the passages that answer it. `instruction` is put before the query by the embedding model."""

    query: str
    positives: tuple[str, ...]
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class Sts:
    """Two texts and how similar people found them; only the order of scores within one source matters."""

    text1: str
    text2: str
    score: float
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class Classification:
    """A text and its class."""

    text: str
    label: str
    instruction: str = ""


Content = Retrieval | Sts | Classification
TASK_OF: dict[type[Content], Task] = {
    Retrieval: Task.RETRIEVAL,
    Sts: Task.STS,
    Classification: Task.CLASSIFICATION,
}


@dataclass(frozen=True, slots=True)
class Source:
    """One split of one imported data set or folder. `version` is a hash of what was imported."""

    name: str
    split: str
    declared_use: Use
    kind: str  # retrieval, pairs, labelled or documents: the layout it was read from
    origin: str
    licence: str
    version: str

    @property
    def source_id(self) -> UUID:
        """The same name, split, use and version are the same source on every machine."""
        return key_of(self.name, self.split, self.declared_use, self.version)


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a source's corpus. `text` is what is embedded: the title, if any, is its first line."""

    text_id: UUID
    text: str
    title: str
    source_id: UUID

    @property
    def seed_id(self) -> UUID:
        """What names it as a seed."""
        return self.text_id


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as a recipe starts from it: its latest revision. `passage_id`: the passage it was made from, if any."""

    revision_id: UUID
    sample_id: UUID
    content: Content
    source_id: UUID
    passage_id: UUID | None = None

    @property
    def seed_id(self) -> UUID:
        """What names it as a seed."""
        return self.revision_id


Seed = Passage | Sample

# How a passage that was written to be a negative is worse than the positive (QZhou-Embedding, arXiv 2508.21632): it
# does not meet all that the query asks, holds much that has nothing to do with it, or is about another aspect of it.
NegativeKind = Literal["inadequate", "unnecessary", "other_aspect"]


@dataclass(frozen=True, slots=True)
class Written:
    """A passage written as a hard negative. `requirement`: what the query asks and it does not meet, in a few words."""

    text: str
    kind: NegativeKind
    requirement: str = ""
    call_id: UUID | None = None  # the LLM's reply that it was made of


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample on its way into the store: content, and where it came from."""

    content: Content
    source_id: UUID
    operation: str  # ingest, query, edit, ...
    method: str = ""  # how the operation was carried out: inverse-cloze, title, llm, ...
    seed_id: UUID | None = None  # the passage it was made from; never mined as its negative
    model: str = ""
    prompt_version: str = ""
    external_id: str = ""  # the id the source itself gave, if any
    call_id: UUID | None = None  # the LLM's reply that it was made of
    parent_id: UUID | None = None  # the revision of another sample that it was made from
    written: tuple[Written, ...] = ()  # its own hard negatives


# Why a judge and people should look at a negative: its cosine with a positive, or the share of words that it has in
# common with one, is above a threshold, or a reranker finds it as relevant as the positive.
NegativeFlag = Literal["near_positive", "near_duplicate", "above_reranker"]
# A rule that was given up so that a sample has as many negatives as were asked for: the ranks, the cap on the score.
RelaxedRule = Literal["window", "cap"]


@dataclass(frozen=True, slots=True)
class FoundBy:
    """One miner's word for a negative: `rank` is of its own list, from 1, `score` what it orders that list by."""

    miner: str  # dense, bm25, ...
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Negative:
    """A passage found not to answer a sample's query, with all that is known of how it was found."""

    sample_id: UUID
    revision_id: UUID
    text_id: UUID
    origin: str  # mined, labelled, generated or relabelled
    rank: int  # among the corpus, best first, from 1; the query's positives do not count
    score: float  # cosine of query and negative
    positive_score: float  # the lowest cosine of the query and one of its positives
    miners: tuple[FoundBy, ...] = ()  # each miner that found it: its votes
    relevance: float | None = None  # of the negative to the query, 0 to 1, by a cross-encoder
    positive_relevance: float | None = None  # the lowest that it gives to one of the positives
    positive_similarity: float | None = None  # the highest cosine of the negative and one of the positives
    overlap: float | None = None  # the highest share of words in common with one of the positives (Jaccard)
    flags: tuple[NegativeFlag, ...] = ()
    relaxed: tuple[RelaxedRule, ...] = ()


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """
    One judgement, never changed: of a revision, or, with `negative_id`, of one of its negatives.

    `review_id` is made by whoever judges, so that sending it twice stores it once. An undo is an event that names the
    event it undoes in `undoes`; its own verdict does not count. An event may come with an edit: the sample as it should
    be, which becomes the revision `edited_id` (made by whoever judges as well), for which the verdict then counts. A
    promotion needs only the `edited_id`.
    """

    review_id: UUID
    reviewer: str
    sample_id: UUID
    revision_id: UUID
    verdict: Verdict
    negative_id: UUID | None = None
    reasons: tuple[str, ...] = ()
    difficulty: int | None = None  # 1 easy to 4 very hard
    seconds: float | None = None  # from the moment the card was painted
    undoes: UUID | None = None
    reviewer_kind: str = "human"  # or policy
    note: str = ""
    edited_id: UUID | None = None
    edit: Content | None = None
    grade: int | None = None  # of a negative: 0 irrelevant, 1 topical, 2 partial, 3 answers
    own_score: float | None = None  # of a scored pair, before its score was shown
    saw_scores: bool | None = None  # scores and what judges suggest were on the card
    num_shown: int | None = None  # negatives that were on the card
    adjudicates: bool = False  # said as an adjudicator, whose word decides
    guideline: int | None = None  # the number of the one that was in force


# Arabic Extended-B, Combining Diacritical Marks Extended, and the blocks of most scripts beyond U+FFFF.
_UNSETTLED = re.compile("[\u0870-\u089f\u1ab0-\u1aff\U00010d00-\U0001cfff\U0001e000-\U0001efff]")


def normalise(text: str) -> str:
    """
    Unicode NFC, each run of white space one space, none at the ends: decides whether two texts are the same.

    NUL is white space. A text with a character of a block where Unicode still adds combining marks is not composed, so
    that ids do not depend on the Unicode version of Python or of DuckDB, whose macro `normalised` does the same.
    """
    return settled(re.sub(r"[\s\0]+", " ", text).strip(" "))


def settled(text: str) -> str:
    """The text in Unicode NFC, if it has no character of which Unicode may still change what becomes of it."""
    return text if _UNSETTLED.search(text) else composed(text)


# More combining marks in a row than any language writes: the Stream-Safe Text Format of UAX #15 has 30. Whatever is no
# letter is taken for one, and so are the two letters that NFKC makes marks; what is none only costs a little time.
_MANY_MARKS = re.compile("[\\W\uff9e\uff9f]{31,}")


def composed(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """
    What `unicodedata.normalize` gives, in a time that grows with the length of the text.

    Python's puts combining marks in order by insertion, which takes the square of their number: minutes for a text of
    400 kB made for it, in which nothing else happens.
    """
    if text.isascii():
        return text
    return unicodedata.normalize(form, _MANY_MARKS.sub(lambda run: _in_order(run[0], form), text))


def _in_order(run: str, form: Literal["NFC", "NFKC"]) -> str:
    """The same characters decomposed, each mark after those of lower classes: Unicode's canonical order."""
    decomposition: Literal["NFD", "NFKD"] = "NFD" if form == "NFC" else "NFKD"
    chars = "".join([unicodedata.normalize(decomposition, char) for char in run])
    parts = groupby(chars, key=lambda char: unicodedata.combining(char) > 0)
    return "".join(["".join(sorted(part, key=unicodedata.combining) if is_mark else part) for is_mark, part in parts])


def is_plain_name(name: str) -> bool:
    """
    Whether a name can be a file's, a folder's and a table's cell: printable, no path, at most 100 characters and 200
    bytes (a file system allows 255, suffix included).
    """
    if not 0 < len(name) <= 100 or not name.isprintable() or len(name.encode()) > 200:
        return False
    return name == name.strip() and not re.search(r"[/\\]|^\.", name)


def text_id(text: str) -> UUID:
    """The id of a text: the same for texts that differ only in white space or Unicode composition."""
    return UUID(bytes=hashlib.sha256(normalise(text).encode()).digest()[:16])


def content_hash(content: Content) -> UUID:
    """
    The identity of a sample's content, its task included: equal content is stored once.

    Hashed are the task and its fields between unit separators, each positive after a record separator: no normalised
    text holds either. The store's macro `content_hash_of` gives the same.
    """
    match content:
        case Retrieval(query, positives, instruction):
            fields = [normalise(query), "".join(f"\x1e{normalise(positive)}" for positive in positives)]
        case Sts(text1, text2, score, instruction):
            fields = [normalise(text1), normalise(text2), f"{float(score) + 0.0:.17g}"]
        case Classification(text, label, instruction):
            fields = [normalise(text), normalise(label)]
    canonical = "\x1f".join([TASK_OF[type(content)], normalise(instruction), *fields])
    return UUID(bytes=hashlib.sha256(canonical.encode()).digest()[:16])


def key_of(*parts: object) -> UUID:
    """A key of everything that determines a result: equal parts (as JSON) give an equal key on every machine."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return UUID(bytes=hashlib.sha256(canonical.encode()).digest()[:16])


def new_id() -> UUID:
    """A time-ordered id (UUID version 7, RFC 9562): 48 bits of milliseconds, then random bits."""
    bits = int.from_bytes(os.urandom(10), "big") & ((1 << 74) - 1)
    value = (
        (int(time.time() * 1000) << 80) | (0x7 << 76) | ((bits >> 62) << 64) | (0b10 << 62) | (bits & ((1 << 62) - 1))
    )
    return UUID(int=value)

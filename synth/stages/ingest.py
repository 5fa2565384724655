"""
Ingest: files on disk become sources, passages and samples.

Everything is read and checked before anything is stored: one broken line, and nothing of the path is kept.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from synth.records import Classification, Draft, Retrieval, Source, Sts, Use, UserError, is_plain_name, text_id
from synth.stages.documents import cut_document, decode_document
from synth.stages.layouts import (
    DOCUMENT_SUFFIXES,
    MANIFEST,
    FoundSet,
    documents_in,
    find_sets,
    id_of,
    number_of,
    read_judgements,
    read_lines,
    text_of,
)
from synth.store import runs, samples, sources
from synth.store.connection import Store
from synth.store.sources import NewPassage

# A split is held out if a word of its name begins so: test, tests, devtest, validation_matched, held-out, dev1.
HELD_OUT_WORDS = ("test", "dev", "val", "eval", "holdout", "heldout")
HELD_OUT_CHINESE = ("测试", "验证", "评测")


@dataclass
class ParsedSet:
    """A set as read: passages of its corpus, and content by split."""

    found: FoundSet
    passages: list[NewPassage] = field(default_factory=list)
    rows: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)  # split -> (external id, content)

    def add(self, row: dict[str, Any], external_id: str, content: Any, where: str) -> None:
        """Add one row's content under its split (train, if it names none)."""
        split = row.get("split")
        if split is None:
            split = "train"
        if not isinstance(split, str) or not is_plain_name(split.strip()):
            raise UserError(f"{where}: `split` must be a short text, not {split!r:.60}")
        split = split.strip()
        self.rows.setdefault(split, []).append((external_id, content))

    def digest(self) -> str:
        """A hash of all that was read: equal content is the same version."""
        lines = [f"{p.external_id}\t{p.text}" for p in self.passages]
        lines += [f"{split}\t{row}" for split, found in sorted(self.rows.items()) for row in found]
        lines.append(repr(self.found.about))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Ingested:
    """What one split of one set brought: how many passages and samples are new, of how many read."""

    name: str
    split: str
    declared_use: Use
    kind: str
    num_passages: int
    num_samples: int
    num_new: int


def ingest(store: Store, path: Path, *, declared_use: Use | None, on_progress: Callable[[int], None]) -> list[Ingested]:
    """
    Read every set under `path` and store what is new.

    Args:
        declared_use: of all rows; None takes it from each row's split (test, dev, validation and the like are held
            out). A retrieval corpus whose queries are all held out is held out as well.
        on_progress: called with 1 for each set stored.

    Raises UserError, with nothing stored, at the first file or line that cannot be read.
    """
    parsed = [READERS[found.kind](found) for found in find_sets(path)]
    kinds = sources.kinds(store)
    for each in parsed:
        about, kind = each.found.about, each.found.kind
        if kinds.get(about.name, kind) != kind:
            raise UserError(
                f"{each.found.path}: {about.name} is the name of {kinds[about.name]} in this store, and this is {kind};"
                f" give it another name in {MANIFEST}"
            )
    results: list[Ingested] = []
    config = {"path": str(path), "declared_use": declared_use}
    with runs.recorded(store, "ingest", config) as run:
        for each in parsed:
            with store.write() as cursor:
                for part in _parts(each, declared_use):
                    sources.add_source(cursor, part.source, run.run_id)
                    new_passages = sources.add_passages(cursor, part.source.source_id, part.passages)
                    new_samples = samples.add_drafts(cursor, part.drafts, run.run_id)
                    results.append(
                        Ingested(
                            part.source.name,
                            part.source.split,
                            part.source.declared_use,
                            part.source.kind,
                            len(part.passages),
                            len(part.drafts),
                            new_passages + new_samples,
                        )
                    )
                    run.count(passages=new_passages, samples=new_samples)
            on_progress(1)
    return results


@dataclass(frozen=True)
class _Part:
    source: Source
    passages: list[NewPassage]
    drafts: list[Draft]


def _parts(parsed: ParsedSet, declared_use: Use | None) -> Iterable[_Part]:
    about, version = parsed.found.about, parsed.digest()

    def source(split: str, use: Use) -> Source:
        return Source(about.name, split, use, parsed.found.kind, about.origin, about.licence, version)

    uses = {split: declared_use or use_of_split(split) for split in parsed.rows}
    if parsed.passages:
        only_held_out = bool(uses) and all(use is Use.EVAL for use in uses.values())
        corpus_use = declared_use or (Use.EVAL if only_held_out else Use.TRAIN)
        yield _Part(source("corpus", corpus_use), parsed.passages, [])
    for split, rows in sorted(parsed.rows.items()):
        origin = source(split, uses[split])
        drafts = [Draft(content, origin.source_id, "ingest", external_id=key) for key, content in rows]
        yield _Part(origin, [], drafts)


def use_of_split(split: str) -> Use:
    """Held out if the split is called test, dev, validation or the like, however it is written; else to train on."""
    name = unicodedata.normalize("NFKC", split).casefold()
    words = re.findall(r"[a-z]+", name)
    held_out = any(word.startswith(HELD_OUT_WORDS) for word in [*words, "".join(words)])
    return Use.EVAL if held_out or any(word in name for word in HELD_OUT_CHINESE) else Use.TRAIN


def read_retrieval(found: FoundSet) -> ParsedSet:
    """
    BEIR's layout. A judgement of score 0 or less is no positive; a query without a positive is passed over. A query's
    split is its own, else that of its judgements.
    """
    parsed = ParsedSet(found)
    texts: dict[str, str] = {}
    for where, row in read_lines(found.path / "corpus.jsonl"):
        key = id_of(row, ("doc_id", "_id", "id"), where)
        if key in texts:
            raise UserError(f"{where}: the id {key} is taken by an earlier line; ids must be unique")
        title = row["title"] if isinstance(row.get("title"), str) else ""
        passage = _passage(title, text_of(row, "text", where), key)
        texts[key] = passage.text
        parsed.passages.append(passage)
    if not texts:
        raise UserError(f"{found.path / 'corpus.jsonl'}: an empty corpus; there is nothing to search")
    positives: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for where, row in read_judgements(found.path):
        query_key = id_of(row, ("query_id", "query-id"), where)
        key = id_of(row, ("doc_id", "corpus-id"), where)
        if key not in texts:
            raise UserError(f"{where}: the passage {key} is not in corpus.jsonl; take the line out or add the passage")
        if "score" not in row or number_of(row, "score", where) > 0:
            positives.setdefault(query_key, []).append(texts[key])
        split = row.get("split")
        if isinstance(split, str) and use_of_split(splits.get(query_key, split)) is not Use.EVAL:
            splits[query_key] = split  # of a query with judgements in several splits, a held-out one counts
        elif isinstance(split, str):
            splits.setdefault(query_key, split)
    known: set[str] = set()
    for where, row in read_lines(found.path / "queries.jsonl"):
        key = id_of(row, ("query_id", "_id", "id"), where)
        if key in known:
            raise UserError(f"{where}: the id {key} is taken by an earlier line; ids must be unique")
        known.add(key)
        content = Retrieval(
            text_of(row, "text", where), tuple(positives.get(key, ())), instruction=found.about.instruction
        )
        if content.positives:
            parsed.add({"split": splits.get(key)} | row, key, content, where)
    return parsed


def read_pairs(found: FoundSet) -> ParsedSet:
    """Scored pairs."""
    parsed = ParsedSet(found)
    for where, row in read_lines(found.path):
        content = Sts(
            text_of(row, "text1", where),
            text_of(row, "text2", where),
            number_of(row, "score", where),
            instruction=found.about.instruction,
        )
        parsed.add(row, str(row.get("pair_id", "")), content, where)
    return parsed


def read_labelled(found: FoundSet) -> ParsedSet:
    """Texts with a class."""
    parsed = ParsedSet(found)
    for where, row in read_lines(found.path):
        label = str(row["label"]) if type(row.get("label")) is int else text_of(row, "label", where)
        content = Classification(text_of(row, "text", where), label, instruction=found.about.instruction)
        parsed.add(row, "", content, where)
    return parsed


def read_documents(found: FoundSet) -> ParsedSet:
    """Documents, cut into passages along their headings and paragraphs."""
    parsed = ParsedSet(found)
    if found.path.suffix == ".jsonl":
        for where, row in read_lines(found.path):
            name = row["path"] if isinstance(row.get("path"), str) else ""
            suffix = PurePath(name).suffix.lower()
            heading = row["title"] if isinstance(row.get("title"), str) else ""
            text = text_of(row, "text", where)
            _add_document(parsed, text, suffix if suffix in DOCUMENT_SUFFIXES else ".txt", name or where, heading)
    else:
        for path in documents_in(found.path):
            try:
                decoded = decode_document(path.read_bytes())
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror})") from None
            if decoded is None:
                raise UserError(f"{path}: neither UTF-8 nor UTF-16; convert the file first, or move it away")
            _add_document(parsed, decoded, path.suffix, path.name)
    if not parsed.passages:
        raise UserError(f"{found.path}: its documents hold no text to make passages of")
    return parsed


def _add_document(parsed: ParsedSet, text: str, suffix: str, name: str, title: str = "") -> None:
    for number, cut in enumerate(cut_document(text, suffix=suffix), start=1):
        headings = cut.title if cut.title.startswith(title) else f"{title} > {cut.title}"
        parsed.passages.append(_passage(headings if cut.title else title, cut.body, f"{name}#{number}"))


def _passage(title: str, body: str, external_id: str) -> NewPassage:
    title = " ".join(title.split())
    text = f"{title}\n{body}" if title else body
    return NewPassage(text_id(text), text, title, external_id)


READERS: dict[str, Callable[[FoundSet], ParsedSet]] = {
    "retrieval": read_retrieval,
    "pairs": read_pairs,
    "labelled": read_labelled,
    "documents": read_documents,
}

"""What a review event may say, whatever the store holds. docs/reviews.md states the rules."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import MappingProxyType

from synth.records import TASK_OF, Content, Retrieval, ReviewEvent, Sts, UserError, Verdict, normalise

LONGEST_NAME = 100  # characters
LONGEST_NOTE = 2000
LONGEST_SECONDS = 24 * 3600.0
LONGEST_TEXT = 1_000_000  # characters of a text that somebody edited
MOST_POSITIVES = 1000
MOST_REASONS = 20
GREATEST_SCORE = 1e6  # of a scored pair, and least below 0: far beyond any scale
GREATEST_GUIDELINE = 1_000_000
DIFFICULTIES = range(1, 5)
KINDS = ("human", "policy")
NOT_TEXTS = ("score", "instruction", "positives")
SAMPLE_REASONS = (
    "unclear-query",
    "wrong-positive",
    "false-negative",
    "duplicate",
    "meaning-drift",
    "bad-language",
    "too-easy",
    "unsafe",
    "other",
)
UNDECIDED_REASONS = ("cannot-tell", "not-my-field", "other")
# The codes that a person's event may give for each verdict: of a sample, and of one of its negatives.
REASONS: Mapping[Verdict, tuple[str, ...]] = MappingProxyType(
    {
        Verdict.APPROVE: SAMPLE_REASONS,  # what the edit mended, or what may stay
        Verdict.REJECT: SAMPLE_REASONS,
        Verdict.SKIP: UNDECIDED_REASONS,
        Verdict.FLAG: UNDECIDED_REASONS,
    }
)
NEGATIVE_REASONS: Mapping[Verdict, tuple[str, ...]] = MappingProxyType(
    {
        Verdict.REJECT: ("duplicate", "bad-language", "too-easy", "unsafe", "other"),
        Verdict.KEEP: (),
        Verdict.FALSE_NEGATIVE: (),
        Verdict.PARTIAL: (),
        Verdict.PROMOTE: (),
    }
)
# What a grade of a negative makes of it.
GRADES: Mapping[int, tuple[Verdict, ...]] = MappingProxyType(
    {
        0: (Verdict.KEEP,),  # irrelevant
        1: (Verdict.KEEP,),  # topical: a good hard negative
        2: (Verdict.PARTIAL,),
        3: (Verdict.PROMOTE, Verdict.FALSE_NEGATIVE),
    }
)
MOST_SHOWN = 10_000  # negatives on a card


def check_event(event: ReviewEvent) -> None:
    """Raise UserError, in one line, if the event cannot be one, in whatever store."""
    fault = _fault(event)
    if fault:
        raise UserError(f"review event {event.review_id}: {fault}")


def _fault(event: ReviewEvent) -> str:
    if not _is_name(event.reviewer) or event.reviewer_kind not in KINDS:
        return f"reviewed by {event.reviewer!r:.120} ({event.reviewer_kind!r:.40}); a reviewer has a name of one line"
    if event.undoes is None and event.verdict not in _allowed(event):
        return f"the verdict on {_target(event)} is {', '.join(_allowed(event))}, not {event.verdict}"
    return _detail_fault(event) or _seen_fault(event) or _edit_fault(event)


def _allowed(event: ReviewEvent) -> Mapping[Verdict, tuple[str, ...]]:
    return REASONS if event.negative_id is None else NEGATIVE_REASONS


def _detail_fault(event: ReviewEvent) -> str:
    codes = _allowed(event).get(event.verdict, ())
    if len(event.reasons) > MOST_REASONS:
        return f"{len(event.reasons):,} reasons are too many; {MOST_REASONS} at most"
    unknown = [reason for reason in event.reasons if reason not in codes and event.reviewer_kind == "human"]
    if unknown:
        return f"the reason {unknown[0]!r:.60} is none for {event.verdict}; use {', '.join(codes) or 'no reason'}"
    if event.difficulty is not None and not (type(event.difficulty) is int and event.difficulty in DIFFICULTIES):
        return f"the difficulty {event.difficulty!r:.40} is not 1, 2, 3 or 4"
    if event.seconds is not None and not _is_duration(event.seconds):
        return f"the duration {event.seconds!r:.40} is not in seconds from 0 to {LONGEST_SECONDS:g}"
    if len(event.note) > LONGEST_NOTE:
        return f"the note has {len(event.note):,} characters; {LONGEST_NOTE:,} at most"
    if not _is_text([event.note, *event.reasons]):
        return "the note or a reason is no Unicode text"
    return ""


def _seen_fault(event: ReviewEvent) -> str:
    if event.grade is not None and (event.undoes or event.negative_id is None or event.verdict not in _graded(event)):
        return f"the grade {event.grade!r:.40} does not go with {event.verdict} of {_target(event)}"
    if event.own_score is not None and (event.negative_id is not None or not _is_score(event.own_score)):
        return f"the score {_cut(event.own_score)} is no number that a score can be, or not of a sample"
    if event.num_shown is not None and not (type(event.num_shown) is int and 0 <= event.num_shown <= MOST_SHOWN):
        return f"{event.num_shown!r:.40} negatives were not shown"
    if event.guideline is not None and not (type(event.guideline) is int and 0 < event.guideline <= GREATEST_GUIDELINE):
        return f"the guideline {_cut(event.guideline)} is no number of one"
    if not isinstance(event.saw_scores, bool | None) or not isinstance(event.adjudicates, bool):
        return "whether scores were seen, and whether it adjudicates, is true or false"
    if event.adjudicates and event.reviewer_kind != "human":
        return "a policy settles nothing between people"
    return ""


def _graded(event: ReviewEvent) -> tuple[Verdict, ...]:
    return GRADES.get(event.grade, ()) if type(event.grade) is int else ()


def _target(event: ReviewEvent) -> str:
    return "a negative" if event.negative_id else "a sample"


def _is_score(value: object) -> bool:
    return type(value) in (int, float) and -GREATEST_SCORE <= value <= GREATEST_SCORE  # type: ignore[operator]


def _cut(value: object) -> str:
    """What somebody sent, as a message names it: a number of a thousand digits, or a deep list, is not written out."""
    is_short = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 1e15)
    return f"{value!r:.40}" if is_short else "given"


def _edit_fault(event: ReviewEvent) -> str:
    promotes = event.verdict is Verdict.PROMOTE and event.undoes is None
    if (event.edit is not None or promotes) != (event.edited_id is not None):
        return "an edit or a promotion comes with the id of the revision that it makes, and only they do"
    if event.edited_id is None:
        return ""
    if event.undoes is not None or (event.edit is not None and event.negative_id is not None):
        return "an edit comes with a verdict on the sample, not with an undo or a verdict on a negative"
    if event.reviewer_kind != "human":
        return "a policy edits nothing"
    fault = content_fault(event.edit) if event.edit is not None else ""
    return fault and f"the edit {fault}"


def content_fault(content: Content) -> str:
    """Why content cannot be a sample's, as in "it is empty"; empty if it can."""
    if type(content) not in TASK_OF:
        return "is no sample's content"
    texts = [getattr(content, each.name) for each in fields(content) if each.name not in NOT_TEXTS]
    texts += content.positives if isinstance(content, Retrieval) else ()
    if not _is_text([*texts, content.instruction]):
        return "holds something that is no Unicode text"
    if not all(normalise(text) for text in texts) or (isinstance(content, Retrieval) and not content.positives):
        return "leaves a text empty"
    if max(map(len, texts)) > LONGEST_TEXT:
        return f"has a text of more than {LONGEST_TEXT:,} characters"
    if isinstance(content, Retrieval) and len(content.positives) > MOST_POSITIVES:
        return f"has more than {MOST_POSITIVES:,} positives"
    if isinstance(content, Sts) and not _is_score(content.score):
        return f"has the score {_cut(content.score)}, which is no number that a score can be"
    return ""


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable() and len(name) <= LONGEST_NAME


def _is_duration(seconds: object) -> bool:
    return type(seconds) in (int, float) and 0 <= seconds <= LONGEST_SECONDS  # type: ignore[operator]  # NaN is not


def _is_text(values: Iterable[object]) -> bool:
    """Whether all are strings that UTF-8 can hold: a lone surrogate, which JSON can bring, is none."""
    return all(isinstance(value, str) and value.encode(errors="replace").decode() == value for value in values)

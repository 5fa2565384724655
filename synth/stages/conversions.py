"""
Rows whose query and passages have to be put together first: reading comprehension, conversations, claims with evidence.

The forms are those of QZhou-Embedding's data transformation (arXiv 2508.21632). Pure functions of rows.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from synth.checks import scripts
from synth.stages.lines import MAX_LINE, BadLine, Row, Rows
from synth.stages.rows import Reader, Text, Tuple, class_of, is_blank, row_text, shown, texts_of

# Between a text and the question about it; the Chinese line is the report's.
READ_AND_ANSWER = "Read the text above and answer the question: "
READ_AND_ANSWER_ZH = "请阅读上述文章，回答下列问题："
KANA = re.compile("[\u3041-\u30ff]")

USERS, ASSISTANTS = {"user", "human", "prompter"}, {"assistant", "gpt", "bot", "model", "chatgpt"}

SUPPORTS, REFUTES, NEITHER = "supports", "refutes", "not enough information"
FOR, AGAINST = "evidence for it", "evidence against it"  # the columns of a claim whose rows were gathered
VERDICTS = {
    **dict.fromkeys(("supports", "support", "supported", "entailment", "true"), SUPPORTS),
    **dict.fromkeys(("refutes", "refute", "refuted", "contradict", "contradicts", "contradiction", "false"), REFUTES),
    **dict.fromkeys(("not enough info", "not enough information", "nei", "neutral", "disputed"), NEITHER),
    "not supported": NEITHER,  # of HoVer: refuted, or not enough known
}


def reading_of(reader: Reader, row: Row) -> Tuple | None:
    """A text, a line that asks to read it, and a question, as the query; its answers. None: it has no answer."""
    context, question = reader.text(row, "context"), reader.text(row, "query")
    answers = reader.value(row, "positive")
    if isinstance(answers, dict):  # as SQuAD and CMRC have them, each with the place where it begins
        answers = answers.get("text")
    if answers is None or answers == [] or (isinstance(answers, str) and is_blank(answers)):
        return None
    in_chinese = max(scripts(question).items(), key=lambda item: item[1], default=("",))[0] == "Chinese or Japanese"
    line = READ_AND_ANSWER_ZH if in_chinese and not KANA.search(question) else READ_AND_ANSWER
    positives = {each.text: each for each in texts_of(reader, row, "positive", answers)}
    return Tuple(f"{context.strip()}\n{line}{question.strip()}", tuple(positives.values()), (), 0)


def chat_of(reader: Reader, row: Row) -> Tuple | None:
    """
    A user's first message as the query, and the assistant's reply to it. What else is said is not read, as it may not
    stand alone. None: there is no reply.
    """
    said = reader.value(row, "messages")
    if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
        raise BadLine(f"`{reader.name(row, 'messages')}` must be a list of messages", f", not {shown(said)}")
    turns = [(_speaker(each), _content(each)) for each in said]
    turns = [turn for turn in turns if turn[0]]
    begins = next((place for place, (speaker, _) in enumerate(turns) if speaker == "user"), None)
    if begins is None:
        raise BadLine(f"`{reader.name(row, 'messages')}` holds no message of a user", f": {shown(said)}")
    query = turns[begins][1]
    if is_blank(query):
        raise BadLine(f"`{reader.name(row, 'messages')}` begins with an empty message", f": {shown(said)}")
    reply = turns[begins + 1] if begins + 1 < len(turns) else ("", "")
    if reply[0] != "assistant" or is_blank(reply[1]):
        return None
    [positive] = texts_of(reader, row, "messages", reply[1])
    return Tuple(query, (positive,), (), 0, has_more=len(turns) > begins + 2)


def _speaker(message: Mapping[str, Any]) -> str:
    said = str(message.get("role", message.get("from", ""))).casefold()
    return "user" if said in USERS else "assistant" if said in ASSISTANTS else ""


def _content(message: Mapping[str, Any]) -> str:
    """The text of a message, which may be in parts."""
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        content = "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)
    return content if isinstance(content, str) else ""


def claim_of(reader: Reader, row: Row) -> Tuple | None:
    """A claim whose rows were gathered, with the evidence for and against it. None: nothing supports it."""
    if not row[FOR]:
        return None
    supporting, refuting = (dict.fromkeys(row[side]) for side in (FOR, AGAINST))
    negatives = tuple(Text(each) for each in refuting if each not in supporting)
    return Tuple(reader.text(row, "query"), tuple(map(Text, supporting)), negatives, len(refuting) - len(negatives))


@dataclass
class _Claim:
    """A claim with the rows about it so far."""

    number: int
    kept: Row
    text: str
    told: list[object]  # of its split and its instruction: with others it is another
    supporting: list[str] = field(default_factory=list)
    refuting: list[str] = field(default_factory=list)
    size: int = 0  # characters of its evidence


def gathered_claims(reader: Reader, rows: Rows) -> Rows:
    """
    One row for each claim, with all its evidence: rows of a claim that follow each other are taken together. What
    supports it is its positives, what refutes it its negatives, and what does neither is left out. A claim with more
    evidence than a row may hold becomes several.
    """
    own = {*reader.names["label"], *reader.names["positive"]}
    claim: _Claim | None = None
    for number, row in rows:
        if isinstance(row, BadLine):
            yield number, row
            continue
        try:
            text, verdict = reader.text(row, "query"), _verdict(reader, row)
            evidence = reader.value(row, "positive")
            found = list(texts_of(reader, row, "positive", evidence)) if verdict != NEITHER else []
        except BadLine as error:
            error.text = row_text(row)  # for the report: whoever reads this gets the error in the row's place
            yield number, error
            continue
        kept = {name: value for name, value in row.items() if name not in own}
        told = [row.get(name) for role in ("split", "instruction") for name in reader.names.get(role, ())]
        if claim is None or (claim.text, claim.told) != (text, told) or claim.size > MAX_LINE:
            yield from _gathered(reader, claim)
            claim = _Claim(number, kept, text, told)
        side = claim.supporting if verdict == SUPPORTS else claim.refuting
        side += [each.text for each in found]
        claim.size += sum(len(each.text) + 1 for each in found)
    yield from _gathered(reader, claim)


def _gathered(reader: Reader, claim: _Claim | None) -> Iterator[tuple[int, Row]]:
    if claim is not None:
        yield claim.number, {**claim.kept, FOR: claim.supporting, AGAINST: claim.refuting}


def _verdict(reader: Reader, row: Row) -> str:
    said = class_of(reader, reader.value(row, "label"), (SUPPORTS, REFUTES, NEITHER))
    verdict = VERDICTS.get(said.casefold().replace("_", " ").strip())
    if verdict is None:
        expected = f"`{reader.name(row, 'label')}` must say whether the evidence supports or refutes the claim"
        raise BadLine(expected, f", not {shown(said)}")
    return verdict


# How a row of a layout becomes a query with passages, where the columns are not these already.
CONVERSIONS: dict[str, Callable[[Reader, Row], Tuple | None]] = {
    "reading": reading_of,
    "chat": chat_of,
    "claims": claim_of,
}

"""
Reads what a chat server answered: a Completion, or the fault sorted by what is to be done about it. No network.

What a server says is hostile input: nothing that is read here can be longer than it may be, be no text, or contain the
key that was sent to the server.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from synth.llm.faults import Fault, Limits, Refused, Rejected, Transient, Unusable
from synth.llm.journal import HALF_A_PAIR, MOST_NAME, MOST_TOKENS
from synth.records import FailureKind, normalise

_MOST_SAID = 300
_MOST_OF_END = 60
# Of what a server says, this many times what is shown of it is read: white space may be most of it.
_READ_PER_SHOWN = 8
_MOST_NAMES = 100
# A key of fewer characters is a dummy ("EMPTY", "none"): taken out, it would spoil what is said and protect nothing.
_SHORTEST_MASKED = 8
# A reply that happens to contain so long a key does not exist: such a reply has the key from us.
_SHORTEST_REAL = 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._:/@+-]*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"\\/]))")
# What may become a character of a key in the hands of a recipe: the three characters that Unicode composes to ones of
# ASCII, and JSON's escapes of these and of printable ASCII.
_COMPOSED = str.maketrans({"\u037e": ";", "\u1fef": "`", "\u212a": "K"})
_DISGUISE = "[\u037e\u1fef\u212a]|\\\\u(?:00[2-7]|037|1f[eE]|212)"
_AGAIN = {408, 409, 425}  # a request timeout, a lock, "too early": the same request may be served next time
_BUSY = {429, 503, 529}  # the last: "overloaded", of servers in Anthropic's style
# Said by a proxy that stopped waiting for a server which may go on and charge for it.
_MAYBE_PAID = {408, 502, 504, 520, 524}
# No waiting heals these, whatever the status they come with; words of error.code and error.type.
_NO_CREDIT = (
    "insufficient_quota",
    "insufficient_balance",
    "insufficient_credits",
    "billing_hard_limit_reached",
    "billing_not_active",
    "arrearage",
)
# What servers say when it is this request's text that they will not take, not its settings.
_REFUSED_CONTENT = (
    "content_filter",
    "content_policy",
    "content management policy",
    "content exists risk",
    "data_inspection_failed",
    "datainspectionfailed",
    "input was flagged",
    "prompt was flagged",
)
_TOO_LONG = (
    "context_length",
    "context length",
    "context size",
    "context_size",
    "context window",
    "too many tokens",
    "prompt is too long",
    "input token count",
    "maximum model length",
    "request too large",
    "string_above_max_length",
)


@dataclass(slots=True)  # frozen, it would take three times as long to make
class Completion:
    """
    The parts of a chat completion that are used, each as the journal wants it. `model` as the server names it, "" where
    it does not. `usage_known`: both counts of tokens make sense; one that does not is 0.
    """

    text: str
    model: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    seconds: float
    usage_known: bool
    limits: Limits | None = None


class Reader:
    """Reads the answers of a server that was sent `key`; "" if it was sent none."""

    def __init__(self, key: str) -> None:
        self._masked = key if len(key) >= _SHORTEST_MASKED else ""
        self._names: dict[str, str] = {}  # of models and finish reasons, as they were found to be
        self._real = key if len(key) >= _SHORTEST_REAL else ""
        # most replies have escapes; only those that could give a character of this key are worth the time to undo
        short = "".join(re.escape(char) for char in '"\\/' if char in key)
        self._disguise = re.compile(rf"{_DISGUISE}|\\[{short}]" if short else _DISGUISE)

    def read(self, content: bytes, seconds: float, limits: Limits | None = None) -> Completion:
        """
        The completion in a body that came with status 200. It is UTF-8, whatever the headers say of it.

        Raises:
            Transient: it is none. Unusable: its text must not be kept.
        """
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:  # also of what is JSON for others: NaN, half a surrogate pair, a byte order mark
            return self.completion(self._slowly(content), seconds, limits)
        return self.completion(body, seconds, limits)

    def _slowly(self, content: bytes) -> Any:
        try:
            return json.loads(content.removeprefix(_BYTE_ORDER_MARK).decode())
        except (ValueError, RecursionError):
            text = content.decode(errors="replace")
            said = self.line(text)
            if said.startswith("{"):
                said = f"{len(content):,} bytes, which end in {self._end_of(text)}"
                raise Transient(f"a reply whose JSON is cut or broken: {said}", "cut body", paid=True) from None
            raise Transient(f"a reply that is no JSON: {said}", "no JSON", paid=True) from None

    def completion(self, body: Any, seconds: float, limits: Limits | None = None) -> Completion:
        """
        The completion in a body that is parsed already.

        Raises:
            Transient: it is none. Unusable: its text must not be kept.
        """
        try:
            choice = body["choices"][0]
            message = choice["message"]
            text = message["content"]
            if type(text) is not str:
                text = _joined(text)
            finish_reason = choice.get("finish_reason") or ""
            model = body.get("model") or ""
            if not text and message.get("refusal"):
                finish_reason = "content_filter"
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._no_choices(body) from None
        if type(finish_reason) is not str or type(model) is not str:
            raise self._no_choices(body)
        usage = body.get("usage")
        tokens_in, tokens_out = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if unfit := self._unfit(text):
            raise Unusable(unfit, tokens_in, tokens_out)
        return Completion(
            text,
            self._name(model),
            self._name(finish_reason),
            tokens_in,
            tokens_out,
            seconds,
            tokens_in > 0 and (tokens_out > 0 or not text),
            limits,
        )

    def fault(
        self,
        status: int,
        body: Any,
        *,
        reason: str = "",
        seconds: float | None = None,
        limits: Limits | None = None,
    ) -> Fault:
        """
        The fault in an answer of another status than 200. `body`: parsed JSON, or text; `reason`: what the status line
        says; `seconds`: what Retry-After says.
        """
        error = _error_in(body)
        said = self.line(_message(error, body) or reason).removeprefix(f"{status}: ")  # many say it themselves
        words = f"{error.get('code')} {error.get('type')}".lower()
        if status == 402 or any(word in words for word in _NO_CREDIT) or "credit balance is too low" in said:
            return Rejected(said, status if status == 429 else 402)
        alone = "too_long" if status == 413 else _alone(words) or _alone(said.lower())  # a message may quote the text
        if status in _BUSY and not (status == 429 and alone):  # more tokens than a minute's limit are refused for ever
            return Refused(f"{status}: {said}", status, seconds, limits)
        if status in _AGAIN or not 300 <= status < 500:
            return Transient(f"{status}: {said}", str(status), paid=status in _MAYBE_PAID)
        if alone and status not in (401, 404):
            return Rejected(said, status, alone=True, kind=alone)
        return Rejected(said, status)

    def line(self, text: str, most: int = _MOST_SAID) -> str:
        """One printable line, the key taken out before it is cut: a cut key would still be most of a key."""
        read = text[: _READ_PER_SHOWN * most]  # megabytes would take their time to normalise
        line = normalise(read)
        if self._masked:
            line = line.replace(self._masked, "***")
            if len(read) < len(text):
                line = self._without_half_a_key(line)
        line = "".join(char if char.isprintable() else "\ufffd" for char in line[: most + 1])
        return line if len(line) <= most and len(read) == len(text) else line[: most - 1] + "…"

    def _end_of(self, text: str) -> str:
        """The last characters of a text on one printable line, the key taken out."""
        read = text[-_READ_PER_SHOWN * _MOST_OF_END :]
        line = normalise(read)
        if self._masked:
            line = line.replace(self._masked, "***")
            halves = (self._masked[start:] for start in range(1, len(self._masked)))
            line = line.removeprefix(next(filter(line.startswith, halves), ""))  # the rest of it is not read
            line = self._without_half_a_key(line)  # nor need all of it have come
        shown = line if len(line) <= _MOST_OF_END and len(read) == len(text) else "…" + line[1 - _MOST_OF_END :]
        return "".join(char if char.isprintable() else "\ufffd" for char in shown)

    def _without_half_a_key(self, line: str) -> str:
        """A line without what may be the first characters of the key at its end, where more of it was cut off."""
        halves = (self._masked[:length] for length in range(len(self._masked) - 1, 0, -1))
        return line.removesuffix(next(filter(line.endswith, halves), ""))

    def _name(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            known = self._checked(name)
            if len(self._names) < _MOST_NAMES:  # a server may have a new one for each reply
                self._names[name] = known
        return known

    def _checked(self, name: str) -> str:
        is_plain = len(name) <= MOST_NAME and _PLAIN_NAME.fullmatch(name)
        if is_plain and not (self._masked and self._masked in name):
            return name
        return self.line(name, most=MOST_NAME)

    def _unfit(self, text: str) -> str:
        """Why a reply's text must not be kept, "" if it may. It is never rewritten: it may become training data."""
        if not text.isascii() and HALF_A_PAIR.search(text):
            return "a reply with half a surrogate pair, which is no text"
        if self._real and (self._real in text or self._is_disguised_in(text)):
            return "a reply that contains the key of the server"
        return ""

    def _is_disguised_in(self, text: str) -> bool:
        if text.isascii() and "\\" not in text:  # far quicker than the pattern, and true of most
            return False
        return self._disguise.search(text) is not None and self._real in _as_a_recipe_sees(text)

    def _no_choices(self, body: Any) -> Transient:
        said = self.line(_message(_error_in(body), body))
        # a server that reports an error in place of a reply has not served
        paid = not (isinstance(body, dict) and body.get("error"))
        return Transient(f"a reply without choices: {said}", "no choices", paid=paid)


def _alone(words: str) -> FailureKind | None:
    """Why a server does not take a text, by its words for that; None if it says nothing of the kind."""
    if any(word in words for word in _REFUSED_CONTENT):
        return "refused_content"
    return "too_long" if any(word in words for word in _TOO_LONG) else None


def _joined(parts: Any) -> str:
    """The text of a content that is no string: none at all, or a list of parts, of which those of type "text" count."""
    return "" if parts is None else "".join(part["text"] for part in parts if part["type"] == "text")


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if type(usage) is dict else None
    return value if type(value) is int and 0 < value <= MOST_TOKENS else 0


def _as_a_recipe_sees(text: str) -> str:
    """The text with each key in it that may come out of a recipe, which reads it as JSON and normalises that."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text).translate(_COMPOSED)


def _error_in(body: Any) -> Mapping[str, Any]:
    """What tells of the error in a body: under "error", in the first of a list, or the body itself."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    return error if isinstance(error, dict) else body


def _message(error: Mapping[str, Any], body: Any) -> str:
    """What the server said, wherever it put it; its body as it is where that is nowhere."""
    for name in ("message", "error", "detail"):
        if isinstance(error.get(name), str):
            return str(error[name])
    if isinstance(body, str):
        return body
    try:
        return json.dumps(body, ensure_ascii=False) if body else ""
    except RecursionError:  # reading it took a little less
        return "JSON nested a thousand deep"

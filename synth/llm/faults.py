"""
What can go wrong with one request to the LLM server, sorted by what is to be done about it.

These never leave synth/llm: the client raises them, the engine acts on them and speaks to the stages in LLMError and
BadReply. The text of each is one short line with the key taken out.
"""

from dataclasses import dataclass

from synth.records import FailureKind


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the x-ratelimit-* headers of a response say: the limit of a window, what is left of it, and the seconds until
    it is whole again. None where they say nothing that makes sense.
    """

    requests: int | None = None
    requests_left: int | None = None
    requests_reset: float | None = None
    tokens: int | None = None
    tokens_left: int | None = None
    tokens_reset: float | None = None


class Fault(Exception):
    """What the server said or did. `cause`: a word to count it under: a status, "reset", "timeout", "no JSON"."""

    def __init__(self, said: str, cause: str) -> None:
        super().__init__(said)
        self.cause = cause


class Transient(Fault):
    """
    Broken on the way: a reset, a 5xx, a body that is no completion. Ask again soon. `paid`: the server may charge for
    it all the same.
    """

    def __init__(self, said: str, cause: str, *, paid: bool = False) -> None:
        super().__init__(said, cause)
        self.paid = paid


class TimedOut(Transient):
    """No whole reply in time; it may be paid for all the same."""

    def __init__(self, said: str) -> None:
        super().__init__(said, "timeout", paid=True)


class Unusable(Fault):
    """A reply that must not be kept: too large, no text, or with the key in it. Its tokens are paid all the same."""

    def __init__(self, said: str, tokens_in: int = 0, tokens_out: int = 0) -> None:
        super().__init__(said, "unusable")
        self.tokens_in = tokens_in
        self.tokens_out = tokens_out


class Unreachable(Fault):
    """No connection: refused, no such host, no route, a certificate that is not trusted."""

    def __init__(self, said: str) -> None:
        super().__init__(said, "no connection")


class Refused(Fault):
    """The server has too much to do (429, 503). `seconds`: what Retry-After says, None where it says nothing."""

    def __init__(self, said: str, status: int, seconds: float | None, limits: Limits | None = None) -> None:
        super().__init__(said, str(status))
        self.seconds = seconds
        self.limits = limits


class Rejected(Fault):
    """
    Not to be sent again as it is. `alone`: for its own text, not for its settings; `kind`: "too_long" or
    "refused_content" where the server says that it is for that.
    """

    def __init__(self, said: str, status: int, *, alone: bool = False, kind: FailureKind = "rejected") -> None:
        super().__init__(said, str(status))
        self.status = status
        self.alone = alone
        self.kind = kind

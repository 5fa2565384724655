"""
What can go wrong with one request to the LLM server, sorted by what is to be done about it.

These never leave synth/llm: the client raises them, the engine acts on them and speaks to the stages in LLMError and
BadReply. The text of each is one short line with the key taken out.
"""


class Fault(Exception):
    """What the server said or did."""


class Transient(Fault):
    """Broken on the way: a reset, a 5xx, a body that is no completion. Ask again soon."""


class TimedOut(Transient):
    """No whole reply in time; it may be paid for all the same."""


class Unusable(Fault):
    """A reply that must not be kept: too large, no text, or with the key in it. Its tokens are paid all the same."""

    def __init__(self, said: str, tokens_in: int = 0, tokens_out: int = 0) -> None:
        super().__init__(said)
        self.tokens_in = tokens_in
        self.tokens_out = tokens_out


class Unreachable(Fault):
    """No connection: refused, no such host, no route, a certificate that is not trusted."""


class Refused(Fault):
    """The server has too much to do (429, 503). `seconds`: what Retry-After says, None where it says nothing."""

    def __init__(self, said: str, seconds: float | None) -> None:
        super().__init__(said)
        self.seconds = seconds


class Rejected(Fault):
    """Not to be sent again as it is. `alone`: for its own text (its length, a content filter), not for its settings."""

    def __init__(self, said: str, status: int, *, alone: bool = False) -> None:
        super().__init__(said)
        self.status = status
        self.alone = alone

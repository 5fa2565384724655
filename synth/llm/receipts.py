"""What an engine hands out beside replies: a receipt for each that was paid for, and why there was none."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from synth.llm.faults import Fault, Rejected, TimedOut, Unusable
from synth.llm.journal import Reply
from synth.records import BadReply, FailureKind

# The same request again would end the same way: it is asked again only where somebody says so.
PERMANENT: frozenset[FailureKind] = frozenset(
    {"too_long", "refused_content", "rejected", "withheld", "empty", "cut", "unusable"}
)


@dataclass(slots=True)  # frozen, it would take three times as long to make
class Receipt:
    """
    One reply that was paid for, now or (from the journal) earlier.

    `call_id` is the key of its request; a reply that no journal keeps has an id of its own. `fault` says why nobody was
    handed the reply: `withheld` by a content filter, `empty`, `unusable` (too large, or with the key in it: its text is
    not kept), or `probe`, the engine's own question; None where somebody was.
    """

    call_id: UUID
    seed_id: UUID | None
    attempt: int
    fault: FailureKind | Literal["probe"] | None
    reply: Reply


class NoReply(BadReply):
    """
    No usable reply to one request; others may be served. `num_attempts` is how often it was sent now, 0 if the journal
    has its reply, or if an earlier run learnt that none comes.
    """

    def __init__(
        self,
        said: str,
        kind: FailureKind,
        request_key: UUID,
        *,
        asked: str = "",
        server: str = "",
        num_attempts: int = 0,
    ) -> None:
        super().__init__(said)
        self.kind = kind
        self.request_key = request_key
        self.asked = asked
        self.server = server
        self.num_attempts = num_attempts

    @property
    def permanent(self) -> bool:
        """Whether the same request would end the same way again."""
        return self.kind in PERMANENT


def fault_of(reply: Reply) -> FailureKind | None:
    """Why nobody can be handed this reply; None if somebody can."""
    if reply.finish_reason == "content_filter":
        return "withheld"
    return None if reply.text.strip() else "empty"


def explained(fault: FailureKind, reply: Reply) -> str:
    """The same in a line."""
    if fault == "withheld":
        return f"the content filter of {reply.model} withheld the reply"
    return f"the reply of {reply.model} is empty (finish_reason {reply.finish_reason!r})"


def told(fault: Fault, model: str) -> tuple[FailureKind, str]:
    """What kind of failure it is that a request ends with this fault, and a line that says so."""
    match fault:
        case Rejected():
            return fault.kind, f"model {model} does not take this request ({fault.status}): {fault}"
        case Unusable():
            return "unusable", f"no usable reply of model {model}: {fault}"
        case TimedOut():
            return "timeout", f"no reply of model {model} after several attempts; the last: {fault}"
        case _:
            return "broken", f"no reply of model {model} after several attempts; the last: {fault}"

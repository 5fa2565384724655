"""What an engine hands out beside replies: a receipt for each that was paid for, and why there was none."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from synth.llm.journal import Reply
from synth.records import BadReply, FailureKind

# The same request again would end the same way: it is asked again only where somebody says so.
PERMANENT: frozenset[FailureKind] = frozenset(
    {"too_long", "refused_content", "rejected", "withheld", "empty", "cut", "unusable"}
)


@dataclass(frozen=True, slots=True)
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

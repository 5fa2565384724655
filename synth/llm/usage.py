"""What an engine did, as numbers: for the screen while it works, for the run's record when it ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Usage:
    """
    What an engine did since it opened, and what it is doing now.

    Tokens and cost are of what was bought now, replies that were not kept included; a replayed reply was paid for
    earlier. `lost` counts requests whose reply broke on the way or never came although the server may have charged for
    it; `lost_tokens` and `lost_cost` are the most that they can have cost, and are in none of the other numbers.
    """

    requests: int = 0  # sent, the refused and broken ones too
    replies: int = 0  # bought and journalled
    replayed: int = 0
    in_flight: int = 0
    waiting: int = 0  # for a place, or to be sent again
    limit: int = 0  # how many may be in flight now, as the servers have taught
    retries: Mapping[str, int] = field(default_factory=dict)  # by cause: "429", "503", "500", "reset", "timeout", ...
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None  # US dollars; None where a price is not stated
    lost: int = 0
    lost_tokens: int = 0
    lost_cost: float | None = None
    excess: float = 1  # how many times the most that it should have taken the worst request took, earlier ones included
    last_error: str = ""  # one printable line
    out: Mapping[str, str] = field(default_factory=dict)  # servers that were taken out, and why

"""The counts of an engine at work, the receipts of what was paid for, and what people should hear of at once."""

from collections import Counter
from collections.abc import Callable, Sequence

from synth.llm.config import Endpoint
from synth.llm.faults import Fault
from synth.llm.receipts import Receipt


class Tally:
    """
    What was done so far. `on_note` gets one line for the first fault of each kind, and whatever else cannot wait for
    the end of a run.
    """

    def __init__(self, endpoints: Sequence[Endpoint], on_note: Callable[[str], None]) -> None:
        self.requests = self.replies = self.replayed = self.lost = 0
        self.tokens_in = self.tokens_out = self.lost_tokens = 0
        self.has_prices = all(endpoint.cost(1, 1) is not None for endpoint in endpoints)
        self.cost = self.lost_cost = 0.0
        self.retries: Counter[str] = Counter()
        self.last_error = ""
        self._heard: set[str] = set()
        self._receipts: list[Receipt] = []
        self._on_note = on_note

    def fault(self, fault: Fault) -> None:
        """A request that did not get its reply, and will be sent again."""
        self.retries[fault.cause] += 1
        self.last_error = str(fault)
        self.note(f"{fault}; asking again", once=f"again {fault.cause}")

    def note(self, text: str, *, once: str = "") -> None:
        """Say a line; of those with the same `once` only the first."""
        if once:
            if once in self._heard:
                return
            self._heard.add(once)
        self._on_note(text)

    def bought(self, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        if cost is None:
            self.has_prices = False
        else:
            self.cost += cost

    def receipt(self, receipt: Receipt) -> None:
        self._receipts.append(receipt)

    def take_receipts(self) -> list[Receipt]:
        """One receipt for each reply since they were last taken, those from the journal included."""
        taken, self._receipts = self._receipts, []
        return taken

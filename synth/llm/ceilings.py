"""What may be spent at most, as the user states it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth.llm.config import Endpoint
from synth.records import UserError

# What is more is no ceiling, and no count that a store can sum up: it is refused, and what a server or an edited
# journal says beyond it counts as this.
MOST_DOLLARS = 10**12
MOST_COUNT = 10**15


@dataclass(frozen=True, slots=True)
class Ceilings:
    """
    What may be spent in all; None: as much as it takes. `max_cost` in US dollars, `max_tokens` sent and replied
    together, `max_requests` as sent, those that had to be sent again included.

    Raises:
        UserError: a ceiling is not a number above 0, or one that no run could reach.
    """

    max_cost: float | None = None
    max_tokens: int | None = None
    max_requests: int | None = None

    def __post_init__(self) -> None:
        for name, value, most in (
            ("--max-cost", self.max_cost, MOST_DOLLARS),
            ("--max-tokens", self.max_tokens, MOST_COUNT),
            ("--max-requests", self.max_requests, MOST_COUNT),
        ):
            if value is not None and not 0 < value <= most:
                raise UserError(f"{name} must be more than 0, and at most {most:,}; leave it out to set no ceiling")

    def check_prices(
        self, endpoints: Sequence[Endpoint], *, batch: bool = False, settings: Mapping[str, Any] | None = None
    ) -> None:
        """
        See that a ceiling on money can be kept.

        Args:
            settings: [llm] of synth.toml, to name the models whose prices it states.

        Raises:
            UserError: there is one, and an endpoint that may be asked has no price.
        """
        unpriced = [endpoint for endpoint in endpoints if endpoint.cost(0, 0, batch=batch) is None]
        if self.max_cost is not None and unpriced:
            prices = "batch_price_in and batch_price_out" if batch else "price_in and price_out"
            stated = _priced(settings or {}, "batch_price_in" if batch else "price_in")
            others = f"; synth.toml states the price of {', '.join(stated)}, which holds for no other" if stated else ""
            raise UserError(
                f"--max-cost needs the price of {unpriced[0].model} at {unpriced[0].base_url}: state {prices}, in"
                " dollars per million tokens, in synth.toml (0 for what is free), under [[llm.endpoints]] where there"
                f" are several models{others}; prices are never guessed"
            )


def _priced(settings: Mapping[str, Any], price: str) -> list[str]:
    """The models, and where they are, that [llm] of synth.toml states this price of."""
    listed = settings.get("endpoints") or [{}]
    stated = [{**settings, **each} for each in listed if isinstance(each, dict)]
    return [f"{each['model']} at {each.get('base_url')}" for each in stated if price in each and "model" in each]

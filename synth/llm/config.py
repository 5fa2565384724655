"""
Which servers and models to ask, and how: [llm] of synth.toml. No key is ever here, only the names of the variables that
hold one.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from synth.llm.journal import MOST_ADDRESS, MOST_NAME
from synth.records import UserError

ResponseFormat = Literal["auto", "json_schema", "json_object", "none"]

# Anything above is a slip, and sums of it would be no numbers that can be stored.
MOST_PRICE = 1_000_000  # US dollars per million tokens
MOST_REPLY_TOKENS = 10_000_000
MOST_WEIGHT = 1_000_000  # and its inverse is the least
MOST_IN_FLIGHT = 10_000  # each a connection of its own
MOST_PER_MINUTE = 10**12
MOST_TEMPERATURE = 100
MOST_SECONDS = 86_400  # for one reply
MOST_RETRIES = 1000
_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(?:/[!-~]*)?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    One server and one of its models. Of several models each gets a share of the requests by its `weight`; endpoints of
    the same model serve each other's.

    Raises:
        UserError: a value makes no sense.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    weight: float = 1.0
    concurrency: int = 64  # most requests under way at once; how many the server takes is found out
    requests_per_minute: int | None = None  # a ceiling; None: what the server takes
    tokens_per_minute: int | None = None  # sent and replied together
    price_in: float | None = None  # US dollars per million tokens; 0 is a price, None is unknown
    price_out: float | None = None
    batch_price_in: float | None = None  # the same for the Batch API
    batch_price_out: float | None = None

    def __post_init__(self) -> None:
        _refuse(
            {
                # first, and without its value: it is where a key is pasted by mistake
                "api_key_env must name an environment variable, in capitals, and not be the key": not re.fullmatch(
                    r"[A-Z_][A-Z0-9_]*", self.api_key_env
                ),
                "base_url must be a server's address in ASCII, like http://localhost:8000/v1, without user, key or"
                " query": not _is_address(self.base_url),
                f"model must be named, in at most {MOST_NAME} printable characters": not (
                    self.model.strip() and self.model.isprintable() and len(self.model) <= MOST_NAME
                ),
                f"weight must be {1 / MOST_WEIGHT:f} to {MOST_WEIGHT:,}": not 1 / MOST_WEIGHT
                <= self.weight
                <= MOST_WEIGHT,
                f"concurrency must be 1 to {MOST_IN_FLIGHT:,}": not 1 <= self.concurrency <= MOST_IN_FLIGHT,
                **_rate_faults("requests_per_minute", self.requests_per_minute),
                **_rate_faults("tokens_per_minute", self.tokens_per_minute),
                **_price_faults("price_in", self.price_in, "price_out", self.price_out),
                **_price_faults("batch_price_in", self.batch_price_in, "batch_price_out", self.batch_price_out),
            }
        )

    def cost(self, tokens_in: int, tokens_out: int, *, batch: bool = False) -> float | None:
        """What so many tokens cost, in US dollars; None where no price is stated."""
        price_in, price_out = (self.batch_price_in, self.batch_price_out) if batch else (self.price_in, self.price_out)
        if price_in is None or price_out is None:
            return None
        return (tokens_in * price_in + tokens_out * price_out) / 1e6


@dataclass(frozen=True, slots=True)
class LLMConfig:
    """
    The endpoints, and what is asked of every one of them alike.

    Raises:
        UserError: a value makes no sense.
    """

    endpoints: tuple[Endpoint, ...]
    temperature: float = 1.0  # E5-Mistral's synthesis; the only value that reasoning models take
    max_tokens: int = 2048  # of one reply: what a runaway reply can cost at most
    timeout_seconds: float = 120.0  # of one request, from sending to the whole reply
    max_retries: int = 6  # of one request that broke on the way
    # auto: a JSON schema where the server takes one, else its JSON mode, else the prompt alone
    response_format: ResponseFormat = "auto"

    def __post_init__(self) -> None:
        pairs = [(endpoint.base_url, endpoint.model) for endpoint in self.endpoints]
        _refuse(
            {
                "there must be an endpoint": not pairs,
                "two endpoints have the same base_url and model; give one a larger weight": len(set(pairs))
                < len(pairs),
                f"temperature must be 0 to {MOST_TEMPERATURE}": not 0 <= self.temperature <= MOST_TEMPERATURE,
                f"max_tokens must be 1 to {MOST_REPLY_TOKENS:,}": not 1 <= self.max_tokens <= MOST_REPLY_TOKENS,
                f"timeout_seconds must be more than 0, and at most {MOST_SECONDS:,}": not 0
                < self.timeout_seconds
                <= MOST_SECONDS,
                f"max_retries must be 0 to {MOST_RETRIES:,}": not 0 <= self.max_retries <= MOST_RETRIES,
            }
        )

    @classmethod
    def of(cls, base_url: str, model: str, **settings: Any) -> "LLMConfig":
        """One endpoint; `settings` may be of the endpoint or of all."""
        own = {field.name for field in fields(Endpoint)}
        endpoint = Endpoint(base_url, model, **{key: value for key, value in settings.items() if key in own})
        return cls((endpoint,), **{key: value for key, value in settings.items() if key not in own})

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked, each once, in the order they stand in."""
        return tuple(dict.fromkeys(endpoint.model for endpoint in self.endpoints))

    @property
    def sampling(self) -> dict[str, float | int | str]:
        """What, beside messages, schema and model, decides what a reply may be."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "response_format": self.response_format,
        }

    def __str__(self) -> str:
        """One line to print: the models and where they are."""
        where: dict[str, list[str]] = {}
        for endpoint in self.endpoints:
            where.setdefault(endpoint.model, []).append(endpoint.base_url)
        return ", ".join(f"{model} at {' and '.join(addresses)}" for model, addresses in where.items())


def _rate_faults(name: str, rate: int | None) -> Mapping[str, bool]:
    return {f"{name} must be 1 to {MOST_PER_MINUTE:,}": rate is not None and not 1 <= rate <= MOST_PER_MINUTE}


def _price_faults(name_in: str, price_in: float | None, name_out: str, price_out: float | None) -> Mapping[str, bool]:
    both = f"{name_in} and {name_out}"
    return {
        f"{both} must be 0 to {MOST_PRICE:,} dollars per million tokens": not all(
            price is None or 0 <= price <= MOST_PRICE for price in (price_in, price_out)
        ),
        f"{both} go together: state both (0 for what is free), or none": (price_in is None) != (price_out is None),
    }


def _refuse(faults: Mapping[str, bool]) -> None:
    for fault, found in faults.items():
        if found:
            raise UserError(f"the settings of the LLM: {fault}")


def _is_address(url: str) -> bool:
    """Whether a URL is one that every layer below can parse: each has its own error for what it cannot."""
    found = _ADDRESS.fullmatch(url)
    if not found or re.search("[?#@]", url) or len(url) > MOST_ADDRESS:
        return False
    host, port = found.groups()
    if port and not 1 <= int(port) <= 65535:
        return False
    try:
        if host[0] == "[":
            ipaddress.IPv6Address(host[1:-1])
        elif host.replace(".", "").isdigit():
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    labels = host.removesuffix(".").split(".")
    return host[0] == "[" or (len(host) <= 253 and all(1 <= len(label) <= 63 for label in labels))

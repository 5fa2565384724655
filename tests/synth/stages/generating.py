"""Five passages, and what is asked about them."""

from pathlib import Path
from typing import Any

from synth.llm.ceilings import Ceilings
from synth.llm.config import LLMConfig
from synth.stages.asking.plan import Asking
from synth.stages.generate.plan import GeneratePlan, Wanted, plan_generate
from synth.stages.generate.run import Generated, generate_samples
from synth.store.connection import Store
from synth.store.console import query

TEXTS = [
    f"Harbour {name}\nThe harbour of {name} was dug in {year} by hand. Its lighthouse guides every skiff at night. "
    f"Fishermen of {name} sell their catch on the quay before sunrise, whatever the weather brings."
    for name, year in (("Alder", 1780), ("Birch", 1802), ("Cedar", 1831), ("Dogwood", 1850), ("Elm", 1877))
]

CALLS = "SELECT call_id, seed_id, outcome, tokens_in, tokens_out, cost, prompt_version FROM calls ORDER BY ALL"
PRICES = {"price_in": 2.0, "price_out": 8.0}


def asking(tmp_path: Path, base_url: str, prices: dict[str, float] = PRICES, **settings: Any) -> Asking:
    ceilings = settings.pop("ceilings", Ceilings())
    llm = LLMConfig.of(base_url, "test-model", **{"concurrency": 2, "max_retries": 2, **prices, **settings})
    return Asking(llm, tmp_path / "journal", ceilings, tmp_path / "batches")


def plan(
    store: Store, tmp_path: Path, base_url: str | None = None, prices: dict[str, float] = PRICES, **changes: Any
) -> GeneratePlan:
    wanted = Wanted(**{"per_seed": 3, **changes})
    return plan_generate(store, wanted, asking(tmp_path, base_url, prices) if base_url else None)


async def run(store: Store, made: GeneratePlan) -> Generated:
    return await generate_samples(store, made)


def samples(store: Store) -> list[dict[str, object]]:
    return query(store, "SELECT query, positives, method, model, prompt_version FROM samples ORDER BY ALL").to_pylist()

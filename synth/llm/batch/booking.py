"""
Counting what batches took that were fetched while no run could count it: by `synth batches cancel`, or by a run that
was killed. A batch is marked on the disk until a run has counted it, so the money stands in one run and counts once.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from synth.llm.batch.files import Batch, BatchFolder, InUse
from synth.llm.budget import dollars
from synth.llm.engine import Engine


def book_fetched(root: Path, engine: Engine) -> None:
    """
    Count them as the engine's, those of the servers that it asks. `root`: the folder of all batches of a workspace.

    Raises SkiffError if a batch cannot be read or written.
    """
    for server in engine.servers:
        folder = BatchFolder(root, server.endpoint)
        if not any(batch.unbooked for batch in folder.batches()):
            continue
        with suppress(InUse), folder.held():  # whoever is at work there has counted them first
            for batch in folder.batches():
                if batch.unbooked:
                    _book(engine, batch)
                    folder.save(replace(batch, unbooked=False))  # last: rather counted twice than never


def _book(engine: Engine, batch: Batch) -> None:
    tally, tokens = engine.tally, batch.tokens_in + batch.tokens_out
    if not (batch.done or tokens):
        return
    tally.requests += batch.done
    tally.replies += batch.done
    tally.bought(batch.tokens_in, batch.tokens_out, batch.cost)
    engine.budget.add_earlier(tokens, batch.cost or 0.0, num_requests=batch.done)
    cost = "" if batch.cost is None else f" and {dollars(batch.cost)}"
    tally.note(f"{tokens:,} tokens{cost} of batch {batch.name}, which was fetched before, are counted in this run")

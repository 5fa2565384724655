"""
The gradient of one batch: in one pass, or in the memory of one mini-batch (GradCache, Gao et al., arXiv 2101.06983).

A contrastive loss ties all texts of a batch together, so it cannot simply be summed over parts. Two passes can: the
first embeds every part without keeping its graph, and the loss gives the gradient of each embedding; the second embeds
each part again and sends its embeddings' gradients back. The gradient is that of one pass, up to rounding; the price is
a third more work.
"""

from dataclasses import dataclass

import torch

from synth.records import SkiffError
from trainer.encoder import Encoder, mini_batches
from trainer.texts import Batch


@dataclass(frozen=True, slots=True)
class Measured:
    """The loss of one step in nats, and its real tokens, padding not counted."""

    loss: float
    tokens: int


def add_gradients(encoder: Encoder, batch: Batch, *, token_budget: int, cached: bool) -> Measured:
    """
    Add the gradient of the batch's loss to the model's parameters.

    Args:
        token_budget: padded tokens of a mini-batch, into which the texts go sorted by length.
        cached: two passes, the memory of one mini-batch; else one pass that keeps the graph of the whole batch.

    Raises:
        SkiffError: the loss is not finite; no gradient was added.
        UserError: a text without tokens.
    """
    token_ids = encoder.tokenise(batch.texts, batch.max_tokens)
    parts = mini_batches([len(ids) for ids in token_ids], token_budget, encoder.packed_tokens)
    inverse = torch.tensor([place for part in parts for place in part]).argsort()
    with torch.set_grad_enabled(not cached):
        embedding_TD = torch.cat([encoder.embed([token_ids[place] for place in part]) for part in parts])
        embedding_TD = embedding_TD[inverse.to(embedding_TD.device)]
    if cached:
        embedding_TD.requires_grad_()
    loss = batch.loss(embedding_TD)
    if not torch.isfinite(loss):
        raise SkiffError(f"the loss is {loss.item()}: lower learning_rate, or raise temperature, and train again")
    loss.backward()  # type: ignore[no-untyped-call]
    if cached:
        gradient_TD = embedding_TD.grad
        assert gradient_TD is not None
        for part in parts:
            embedding = encoder.embed([token_ids[place] for place in part])
            embedding.backward(gradient_TD[part])  # type: ignore[no-untyped-call]
    return Measured(loss.item(), sum(len(ids) for ids in token_ids))

"""
The gradient of one batch: in one pass, or in the memory of one mini-batch (GradCache, Gao et al., arXiv 2101.06983).

A contrastive loss ties all texts of a batch together, so it cannot simply be summed over parts. Two passes can: the
first embeds every part without keeping its graph, and the loss gives the gradient of each embedding; the second embeds
each part again and sends its embeddings' gradients back. The gradient is that of one pass, up to rounding; the price is
up to a third more work (the first part keeps its graph, and is not embedded again). Either way the loss sees vectors
alone, of whichever process: see trainer/ranks.py.
"""

from dataclasses import dataclass

import torch

from synth.records import SkiffError
from trainer.encoder import Encoder, mini_batches
from trainer.ranks import Ranks
from trainer.texts import Batch

ALONE = Ranks()


class NotFinite(SkiffError):
    """A loss, or a gradient, is infinite or no number."""


@dataclass(frozen=True, slots=True)
class Measured:
    """
    The loss of one step in nats, its real tokens, how many were computed, padding counted, and how many texts were cut
    to their length; of all processes.
    """

    loss: float
    tokens: int
    slots: int
    num_cut: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """
    A batch as this process embeds it.

    Attributes:
        hands: of each process the places of its texts in the batch.
        token_ids: of this process's own texts, in the order of its hand.
        num_cut: how many of those were longer than their length.
    """

    batch: Batch
    hands: list[list[int]]
    token_ids: list[list[int]]
    num_cut: int


def tokenise(encoder: Encoder, batch: Batch, ranks: Ranks = ALONE) -> Tokens:
    """
    Deal a batch's texts out to the processes, and take the token numbers of this one's. Touches no weight.

    Raises:
        UserError: a text without tokens.
    """
    hands = ranks.deal([len(text) for text in batch.texts])
    own = hands[ranks.rank]
    texts = [batch.texts[place] for place in own]
    limits = [min(batch.max_tokens[place], encoder.max_tokens) for place in own]
    token_ids = encoder.tokenise(texts, limits)
    full = [place for place, limit in enumerate(limits) if len(token_ids[place]) >= limit]
    num_cut = encoder.num_longer([texts[place] for place in full], [len(token_ids[place]) for place in full])
    return Tokens(batch, hands, token_ids, num_cut)


def add_gradients(
    encoder: Encoder, tokens: Tokens, *, token_budget: int, cached: bool, ranks: Ranks = ALONE
) -> Measured:
    """
    Add the gradient of a batch's loss to the model's parameters.

    Args:
        token_budget: tokens of a mini-batch, into which the texts go sorted by length.
        cached: two passes, the memory of one mini-batch; else one pass that keeps the graph of the whole batch.
        ranks: the processes among which the texts were dealt out, all of which call this with the same batch.

    Raises:
        NotFinite: the loss is not; no gradient was added.
    """
    batch, hands, token_ids = tokens.batch, tokens.hands, tokens.token_ids
    parts = mini_batches([len(ids) for ids in token_ids], token_budget, encoder.packed_tokens)
    if encoder.is_sharded:  # weights are gathered from all processes, as often by each
        parts += [[]] * (ranks.most(len(parts)) - len(parts))
    order = torch.tensor([place for part in parts for place in part], dtype=torch.int64)
    embeddings = []
    for number, part in enumerate(parts):
        with torch.set_grad_enabled(_keeps_graph(number, cached=cached)):
            embeddings.append(encoder.embed([token_ids[place] for place in part]))
    nothing = torch.zeros(0, encoder.num_dimensions, device=encoder.hardware.device)  # of a process without a text
    own_PD = torch.cat([nothing, *(each.detach() for each in embeddings)])[order.argsort().to(nothing.device)]
    embedding_TD = ranks.gather(own_PD, hands).requires_grad_()
    loss = batch.loss(embedding_TD)
    if not torch.isfinite(loss):
        raise NotFinite(f"the loss is {loss.item()}: lower learning_rate, or raise temperature, and train again")
    (gradient_TD,) = torch.autograd.grad(loss, embedding_TD)
    gradient_PD = gradient_TD[torch.tensor(hands[ranks.rank], device=gradient_TD.device)]
    if encoder.is_sharded:
        gradient_PD = gradient_PD * ranks.size  # of which the mean is taken on the way back
    for number, part in enumerate(parts):
        is_kept = _keeps_graph(number, cached=cached)
        vectors = embeddings[number] if is_kept else encoder.embed([token_ids[place] for place in part])
        vectors.backward(gradient_PD[part])  # type: ignore[no-untyped-call]
    if not encoder.is_sharded:
        ranks.sum_gradients(encoder.model.parameters())
    lengths = [len(ids) for ids in token_ids]
    slots = sum(_slots([lengths[place] for place in part], encoder.packed_tokens) for part in parts if part)
    return Measured(loss.item(), ranks.total(sum(lengths)), ranks.total(slots), ranks.total(tokens.num_cut))


def _keeps_graph(number: int, *, cached: bool) -> bool:
    """Whether a mini-batch's graph outlives the loss: with the cache that of one, which memory has room for anyway."""
    return number == 0 or not cached


def _slots(lengths: list[int], packed_tokens: int) -> int:
    """How many tokens a mini-batch makes the model compute."""
    return sum(lengths) if max(lengths) <= packed_tokens else len(lengths) * max(lengths)

"""
From a step of the plan to what the encoder and the loss are given: the batch's texts, each once, and a loss of their
vectors.

All three tasks meet here in one shape, so one training step serves them all. T is the number of texts of a batch, D
the dimension of an embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from synth.records import Task, normalise
from trainer.batches import Step
from trainer.config import Config
from trainer.losses import class_masked_info_nce, cosent, info_nce, margin_mse, score_kl
from trainer.release import Release

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """T texts, how many tokens of each are read at most, and the loss of their embeddings (T, D), a scalar."""

    texts: tuple[str, ...]
    max_tokens: tuple[int, ...]
    loss: Loss


def query_prefix(instruction: str) -> str:
    """What stands before a query, as in the report's scripts; nothing if there is no instruction."""
    return f"Instruct: {instruction}\nQuery: " if instruction else ""


class _Texts:
    """Collects texts and hands out their places: texts that count as the same one are encoded once."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, int], int] = {}
        self.texts: list[str] = []

    def place(self, text: str, max_tokens: int) -> int:
        key = (normalise(text), max_tokens)
        if key not in self.places:
            self.places[key] = len(self.texts)
            self.texts.append(text)
        return self.places[key]

    def batch(self, loss: Loss) -> Batch:
        return Batch(tuple(self.texts), tuple(max_tokens for _, max_tokens in self.places), loss)


def read_batch(release: Release, step: Step, config: Config) -> Batch:
    """
    Take the texts of a step from the release and tie them to its loss.

    The instruction stands before queries, and before every text of the symmetric tasks (sts, classification), as in
    the report. Those texts are read to `passage_tokens`, since they may be long.
    """
    samples = release.samples[step.task].take(step.row_B).to_pylist()
    if step.task is Task.RETRIEVAL:
        batch = _retrieval(samples, step, config)
    elif step.task is Task.STS:
        batch = _sts(samples, config)
    else:
        batch = _classification(samples, step, release, config)
    return replace(batch, loss=_nested(batch.loss, config.matryoshka)) if config.matryoshka else batch


def _nested(loss: Loss, sizes: Sequence[int]) -> Loss:
    """The mean loss of all dimensions and of the first so many, normalised again (Matryoshka, arXiv 2205.13147)."""

    def mean_loss(embedding_TD: Tensor) -> Tensor:
        kept = [size for size in sizes if size < embedding_TD.shape[1]]
        each = [loss(normalize(embedding_TD[:, :size], dim=-1)) for size in kept]
        return torch.stack([loss(embedding_TD), *each]).mean()

    return mean_loss


def _retrieval(samples: list[dict[str, Any]], step: Step, config: Config) -> Batch:
    """
    A passage equal to any positive of a query is never its negative, whichever sample brought it; one that serves
    several samples is encoded and counted once.
    """
    queries, passages = _Texts(), _Texts()
    query = [queries.place(query_prefix(s["instruction"]) + s["query"], config.query_tokens) for s in samples]
    positive = [
        passages.place(sample["positives"][chosen], config.passage_tokens)
        for sample, chosen in zip(samples, step.positive_B, strict=True)
    ]
    negative = [
        [passages.place(sample["negatives"][chosen], config.passage_tokens) for chosen in chosen_N[chosen_N >= 0]]
        for sample, chosen_N in zip(samples, step.negative_BN, strict=True)
    ]
    answers = torch.zeros(len(samples), len(passages.texts), dtype=torch.bool)
    for row, sample in enumerate(samples):
        for text in sample["positives"]:
            place = passages.places.get((normalise(text), config.passage_tokens))
            if place is not None:
                answers[row, place] = True
    num_queries = len(queries.texts)
    taught = _taught(samples, step, positive, negative) if config.distillation != "none" else None

    def loss(embedding_TD: Tensor) -> Tensor:
        device = embedding_TD.device
        query_B = torch.tensor(query, device=device)
        contrast = info_nce(
            embedding_TD[query_B],
            embedding_TD[num_queries:],
            torch.tensor(positive, device=device),
            temperature=config.temperature,
            answers_BM=answers.to(device),
            same_query_BB=query_B[:, None] == query_B[None, :],
            document_negatives=config.document_negatives,
            margin=config.false_negative_margin or None,
        )
        if taught is None:
            return contrast
        told = _distilled(embedding_TD[query_B], embedding_TD[num_queries:], taught, config)
        return contrast + config.distillation_weight * told

    return Batch(
        (*queries.texts, *passages.texts),
        (config.query_tokens,) * num_queries + (config.passage_tokens,) * len(passages.texts),
        loss,
    )


@dataclass(frozen=True, slots=True)
class _Taught:
    """Of each query its positive and its negatives, as places among the passages, and the miner's scores of them."""

    place_BN: Tensor  # any place where there is no negative
    score_BN: Tensor  # NaN there, and where no score was stored


def _taught(
    samples: list[dict[str, Any]], step: Step, positive: Sequence[int], negative: Sequence[Sequence[int]]
) -> _Taught:
    width = 1 + max(map(len, negative), default=0)
    place_BN = torch.zeros(len(samples), width, dtype=torch.int64)
    score_BN = torch.full((len(samples), width), torch.nan)
    for row, (sample, chosen_N) in enumerate(zip(samples, step.negative_BN, strict=True)):
        chosen = chosen_N[chosen_N >= 0].tolist()
        place_BN[row, : 1 + len(chosen)] = torch.tensor([positive[row], *negative[row]])
        scores, own = sample["negative_scores"], sample["positive_scores"]
        known = [own[each] for each in chosen if own[each] is not None]
        told = [known[0] if known else None, *(scores[each] for each in chosen)]
        score_BN[row, : len(told)] = torch.tensor([torch.nan if each is None else each for each in told])
    return _Taught(place_BN, score_BN)


def _distilled(query_BD: Tensor, passage_MD: Tensor, taught: _Taught, config: Config) -> Tensor:
    device = query_BD.device
    passage_BND, score_BN = passage_MD[taught.place_BN.to(device)], taught.score_BN.to(device)
    if config.distillation == "kl":
        return score_kl(query_BD, passage_BND, score_BN, temperature=config.temperature)
    margin_BN = score_BN[:, :1] - score_BN[:, 1:]
    return margin_mse(query_BD, passage_BND[:, 0], passage_BND[:, 1:], margin_BN)


def _sts(samples: list[dict[str, Any]], config: Config) -> Batch:
    texts = _Texts()
    first, second = (
        [texts.place(query_prefix(sample["instruction"]) + sample[name], config.passage_tokens) for sample in samples]
        for name in ("text1", "text2")
    )
    scores = [sample["score"] for sample in samples]

    def loss(embedding_TD: Tensor) -> Tensor:
        label_B = torch.tensor(scores, device=embedding_TD.device)
        return cosent(embedding_TD[first], embedding_TD[second], label_B, temperature=config.sts_temperature)

    return texts.batch(loss)


def _classification(samples: list[dict[str, Any]], step: Step, release: Release, config: Config) -> Batch:
    table = release.samples[Task.CLASSIFICATION]
    texts = _Texts()
    classes: dict[str, int] = {}

    def places(rows: Sequence[dict[str, Any]]) -> list[int]:
        return [texts.place(query_prefix(row["instruction"]) + row["text"], config.passage_tokens) for row in rows]

    def labels(rows: Sequence[dict[str, Any]]) -> list[int]:
        return [classes.setdefault(row["label"], len(classes)) for row in rows]

    negatives = table.take(step.negative_BN.flatten()).to_pylist()
    text, label = places(samples), labels(samples)
    positive = places(table.take(step.positive_B).to_pylist())
    negative, negative_label = places(negatives), labels(negatives)
    shape = step.negative_BN.shape

    def loss(embedding_TD: Tensor) -> Tensor:
        device = embedding_TD.device
        return class_masked_info_nce(
            embedding_TD[text],
            embedding_TD[positive],
            embedding_TD[negative].view(*shape, embedding_TD.shape[1]),
            torch.tensor(label, device=device),
            torch.tensor(negative_label, device=device).view(shape),
            temperature=config.temperature,
        )

    return texts.batch(loss)

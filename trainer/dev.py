"""
How good the model is while it trains, on samples that the plan holds out of training: one number for each dataset.

Retrieval: nDCG@10 of each query's positives among all passages of the held-out samples. Pairs: Spearman's rank
correlation. Classification: how many texts have a text of their class nearest to them. The mean of all is what early
stopping and the choice of the best checkpoint go by. Sets that a release holds out for evaluation take no part in it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from synth.records import Task, normalise
from trainer.batches import Plan
from trainer.config import Config
from trainer.encoder import Encoder, mini_batches
from trainer.release import Release
from trainer.texts import query_prefix

TOP = 10


def measure(encoder: Encoder, plan: Plan, release: Release, config: Config) -> dict[str, float]:
    """The score of each held-out dataset, by task and name. One that cannot be measured is left out."""
    scores = {}
    for (task, name), row_B in plan.dev.items():
        samples = release.samples[task].take(row_B).to_pylist()
        score = MEASURES[task](encoder, samples, config)
        if score is not None:
            scores[f"{task} {name}"] = score
    return scores


@torch.no_grad()
def _embed(encoder: Encoder, texts: Sequence[str], max_tokens: int, config: Config) -> Tensor:
    token_ids = encoder.tokenise(texts, [max_tokens] * len(texts))
    parts = mini_batches([len(ids) for ids in token_ids], config.mini_batch_tokens, encoder.packed_tokens)
    vectors = torch.cat([encoder.embed([token_ids[place] for place in part]) for part in parts]).cpu()
    return vectors[torch.tensor([place for part in parts for place in part]).argsort()]


def _retrieval(encoder: Encoder, samples: list[dict[str, Any]], config: Config) -> float | None:
    places: dict[str, int] = {}
    passages: list[str] = []
    for text in (text for sample in samples for text in (*sample["positives"], *(sample["negatives"] or ()))):
        if places.setdefault(normalise(text), len(passages)) == len(passages):
            passages.append(text)
    queries = [query_prefix(sample["instruction"]) + sample["query"] for sample in samples]
    query_BD = _embed(encoder, queries, config.query_tokens, config)
    passage_MD = _embed(encoder, passages, config.passage_tokens, config)
    relevant_BM = torch.zeros(len(queries), len(passages))
    for row, sample in enumerate(samples):
        relevant_BM[row, [places[normalise(text)] for text in sample["positives"]]] = 1
    k = min(TOP, len(passages))
    discount_K = 1 / torch.arange(2, k + 2).log2()
    best_BK = relevant_BM.sort(dim=1, descending=True).values[:, :k]
    found_BK = relevant_BM.gather(1, (query_BD @ passage_MD.T).topk(k, dim=1).indices)
    return float(((found_BK @ discount_K) / (best_BK @ discount_K)).mean())


def _sts(encoder: Encoder, samples: list[dict[str, Any]], config: Config) -> float | None:
    from scipy.stats import spearmanr

    scores = [sample["score"] for sample in samples]
    texts = [query_prefix(each["instruction"]) + each[name] for name in ("text1", "text2") for each in samples]
    first_BD, second_BD = _embed(encoder, texts, config.passage_tokens, config).chunk(2)
    cosine_B = (first_BD * second_BD).sum(dim=1)
    if len(set(scores)) < 2 or cosine_B.max() == cosine_B.min():
        return None
    return float(spearmanr(cosine_B.numpy(), scores).statistic)


def _classification(encoder: Encoder, samples: list[dict[str, Any]], config: Config) -> float | None:
    texts = [query_prefix(sample["instruction"]) + sample["text"] for sample in samples]
    labels = [sample["label"] for sample in samples]
    vector_BD = _embed(encoder, texts, config.passage_tokens, config)
    nearest_B = (vector_BD @ vector_BD.T).fill_diagonal_(-torch.inf).argmax(dim=1).tolist()
    counted = [labels[near] == label for label, near in zip(labels, nearest_B, strict=True) if labels.count(label) > 1]
    return sum(counted) / len(counted) if counted else None


MEASURES = {Task.RETRIEVAL: _retrieval, Task.STS: _sts, Task.CLASSIFICATION: _classification}

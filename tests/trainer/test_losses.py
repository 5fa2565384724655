"""Each loss against the formula written out as loops, and against sentence-transformers where it has the same one."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from trainer.losses import class_masked_info_nce, cosent, info_nce

TEMPERATURE = 0.02


def unit(*shape: int, seed: int) -> Tensor:
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(vectors, dim=-1)


def exp_score(first: Tensor, second: Tensor) -> float:
    return math.exp(float(first @ second) / TEMPERATURE)


def test_info_nce_is_equation_1_written_out():
    query, passage = unit(4, 8, seed=1), unit(7, 8, seed=2)
    positive = [2, 0, 5, 6]
    total = 0.0
    for i in range(4):
        right = exp_score(query[i], passage[positive[i]])
        others = sum(exp_score(query[i], passage[m]) for m in range(7) if m != positive[i])
        queries = sum(exp_score(query[i], query[j]) for j in range(4) if j != i)
        total -= math.log(right / (right + others + queries))
    found = info_nce(query, passage, torch.tensor(positive), temperature=TEMPERATURE)
    assert found.item() == pytest.approx(total / 4)


def test_info_nce_leaves_out_known_answers_and_equal_queries_but_never_the_positive():
    query, passage = unit(2, 8, seed=1), unit(3, 8, seed=2)
    answers = torch.tensor([[True, True, False], [False, True, False]])
    same = torch.tensor([[True, False], [False, True]])
    expected = -math.log(
        exp_score(query[0], passage[0])
        / (exp_score(query[0], passage[0]) + exp_score(query[0], passage[2]) + exp_score(query[0], query[1]))
    )
    expected -= math.log(
        exp_score(query[1], passage[1])
        / (sum(exp_score(query[1], passage[m]) for m in range(3)) + exp_score(query[1], query[0]))
    )
    positive = torch.tensor([0, 1])
    found = info_nce(query, passage, positive, temperature=TEMPERATURE, answers_BM=answers, same_query_BB=same)
    assert found.item() == pytest.approx(expected / 2)
    alone = info_nce(query[:1], passage[:1], positive[:1], temperature=TEMPERATURE, answers_BM=answers[:1, :1])
    assert alone.item() == 0.0


def test_info_nce_equals_that_of_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    query, positive, negative = (unit(5, 8, seed=seed) for seed in (1, 2, 3))
    theirs = MultipleNegativesRankingLoss(
        torch.nn.Identity(), scale=50, directions=("query_to_doc", "query_to_query"), partition_mode="joint"
    ).compute_loss_from_embeddings([query, positive, negative], None)
    ours = info_nce(query, torch.cat([positive, negative]), torch.arange(5), temperature=TEMPERATURE)
    assert ours.item() == pytest.approx(theirs.item())


def test_cosent_is_equation_2_written_out_and_equals_that_of_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    first, second = unit(6, 8, seed=1), unit(6, 8, seed=2)
    label = torch.tensor([0.0, 5.0, 2.5, 2.5, 1.0, 4.0], dtype=torch.float64)
    score = [float(first[i] @ second[i]) / TEMPERATURE for i in range(6)]
    total = sum(math.exp(score[k] - score[i]) for i in range(6) for k in range(6) if label[i] > label[k])
    found = cosent(first, second, label, temperature=TEMPERATURE)
    assert found.item() == pytest.approx(math.log(1 + total))
    theirs = CoSENTLoss(torch.nn.Identity(), scale=50).compute_loss_from_embeddings([first, second], label)
    assert found.item() == pytest.approx(theirs.item())


def test_cosent_has_nothing_to_say_of_pairs_with_one_score():
    first = unit(3, 8, seed=1).requires_grad_()
    loss = cosent(first, unit(3, 8, seed=2), torch.ones(3), temperature=TEMPERATURE)
    loss.backward()
    assert loss.item() == 0.0
    assert first.grad is not None and not first.grad.any()


@pytest.mark.parametrize("num_negatives", [0, 2])
def test_class_masked_info_nce_is_equation_3_written_out(num_negatives: int):
    text, positive, negative = unit(4, 8, seed=1), unit(4, 8, seed=2), unit(4, num_negatives, 8, seed=3)
    label = [0, 1, 0, 2]
    negative_label = [[1, 2], [0, 2], [2, 1], [0, 1]]
    total = 0.0
    for i in range(4):
        right = exp_score(text[i], positive[i])
        rest = sum(exp_score(text[i], text[j]) for j in range(4) if label[j] != label[i])
        rest += sum(
            exp_score(text[i], negative[j, n])
            for j in range(4)
            for n in range(num_negatives)
            if negative_label[j][n] != label[i]
        )
        total -= math.log(right / (right + rest))
    labels = torch.tensor(negative_label)[:, :num_negatives]
    found = class_masked_info_nce(text, positive, negative, torch.tensor(label), labels, temperature=TEMPERATURE)
    assert found.item() == pytest.approx(total / 4)

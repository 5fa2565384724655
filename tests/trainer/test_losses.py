"""Each loss against the formula written out as loops, and against sentence-transformers where it has the same one."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from trainer.losses import class_masked_info_nce, cosent, info_nce, margin_mse, score_kl

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


def test_a_positive_is_told_from_other_passages_where_that_is_asked():
    query, passage = unit(3, 8, seed=1), unit(4, 8, seed=2)
    positive = [2, 0, 2]
    total = 0.0
    for i in range(3):
        right = exp_score(query[i], passage[positive[i]])
        rest = sum(exp_score(query[i], passage[m]) for m in range(4) if m != positive[i])
        rest += sum(exp_score(query[i], query[j]) for j in range(3) if j != i)
        rest += sum(exp_score(passage[positive[i]], passage[m]) for m in range(4) if m != positive[i])
        total -= math.log(right / (right + rest))
    found = info_nce(query, passage, torch.tensor(positive), temperature=TEMPERATURE, document_negatives=True)
    assert found.item() == pytest.approx(total / 3)


def test_what_lies_above_the_positive_by_more_than_the_margin_is_left_out():
    query, passage = unit(4, 8, seed=1), unit(7, 8, seed=2)
    positive, margin = [2, 0, 5, 6], 0.1
    total, num_left_out = 0.0, 0
    for i in range(4):
        limit = float(query[i] @ passage[positive[i]]) + margin
        others = [passage[m] for m in range(7) if m != positive[i]] + [query[j] for j in range(4) if j != i]
        kept = [other for other in others if float(query[i] @ other) <= limit]
        num_left_out += len(others) - len(kept)
        right = exp_score(query[i], passage[positive[i]])
        total -= math.log(right / (right + sum(exp_score(query[i], other) for other in kept)))
    found = info_nce(query, passage, torch.tensor(positive), temperature=TEMPERATURE, margin=margin)
    assert found.item() == pytest.approx(total / 4)
    assert num_left_out > 3


@pytest.mark.parametrize(
    "directions", [("query_to_doc", "query_to_query"), ("query_to_doc", "query_to_query", "doc_to_doc")]
)
def test_info_nce_equals_that_of_sentence_transformers_in_value_and_gradient(directions: tuple[str, ...]):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    query, positive, negative = (unit(5, 8, seed=seed).requires_grad_() for seed in (1, 2, 3))
    embeddings = [query, positive, negative] if len(directions) == 2 else [query, positive]
    theirs = MultipleNegativesRankingLoss(
        torch.nn.Identity(), scale=50, directions=directions, partition_mode="joint"
    ).compute_loss_from_embeddings(embeddings, None)
    ours = info_nce(  # theirs normalises what it is given
        normalize(query, dim=-1),
        normalize(torch.cat(embeddings[1:]), dim=-1),
        torch.arange(5),
        temperature=TEMPERATURE,
        document_negatives=len(directions) == 3,
    )
    assert ours.item() == pytest.approx(theirs.item())
    for mine, other in zip(torch.autograd.grad(ours, embeddings), torch.autograd.grad(theirs, embeddings), strict=True):
        torch.testing.assert_close(mine, other)


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cosent_of_many_pairs_has_value_and_gradient_of_the_sum_over_all_pairs_of_pairs(dtype: torch.dtype):
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    first, second = (unit(300, 4, seed=seed).to(dtype).requires_grad_() for seed in (1, 2))
    label = torch.randint(0, 6, (300,), generator=torch.Generator().manual_seed(3)).to(dtype)
    ours = cosent(normalize(first, dim=-1), normalize(second, dim=-1), label, temperature=TEMPERATURE)
    theirs = CoSENTLoss(torch.nn.Identity(), scale=50).compute_loss_from_embeddings([first, second], label)
    rel = 1e-9 if dtype is torch.float64 else 1e-5
    assert ours.item() == pytest.approx(theirs.item(), rel=rel)
    for mine, other in zip(
        torch.autograd.grad(ours, [first, second]), torch.autograd.grad(theirs, [first, second]), strict=True
    ):
        assert float((mine - other).norm() / other.norm()) < 10 * rel


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


def test_a_teachers_margins_are_followed_where_it_said_any():
    query, positive, negative = unit(3, 8, seed=1), unit(3, 8, seed=2), unit(3, 2, 8, seed=3)
    teacher = torch.tensor([[0.3, 0.1], [0.2, math.nan], [math.nan, math.nan]], dtype=torch.float64)
    wrong = [
        float(query[i] @ positive[i] - query[i] @ negative[i, n] - teacher[i, n]) ** 2
        for i, n in ((0, 0), (0, 1), (1, 0))
    ]
    assert margin_mse(query, positive, negative, teacher).item() == pytest.approx(sum(wrong) / 3)
    assert margin_mse(query, positive, negative, teacher * math.nan).item() == 0.0


def test_a_teachers_distribution_is_followed_where_it_knows_two_passages():
    query, passage = unit(3, 8, seed=1).requires_grad_(), unit(3, 3, 8, seed=2)
    teacher = torch.tensor([[0.8, 0.5, 0.6], [0.7, math.nan, 0.2], [0.9, math.nan, math.nan]], dtype=torch.float64)
    total = 0.0
    for i, places in ((0, (0, 1, 2)), (1, (0, 2))):
        own = [exp_score(query[i].detach(), passage[i, n]) for n in places]
        told = [math.exp(float(teacher[i, n]) / TEMPERATURE) for n in places]
        shares = [(told[k] / sum(told), own[k] / sum(own)) for k in range(len(places))]
        total += sum(share * math.log(share / other) for share, other in shares)
    found = score_kl(query, passage, teacher, temperature=TEMPERATURE)
    assert found.item() == pytest.approx(total / 2)
    found.backward()
    assert query.grad is not None and query.grad.isfinite().all() and not query.grad[2].any()
    assert score_kl(query, passage, teacher * math.nan, temperature=TEMPERATURE).item() == 0.0


def test_teachers_are_followed_as_in_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
    from sentence_transformers.util import pairwise_cos_sim

    query, positive, negative = (unit(5, 8, seed=seed) for seed in (1, 2, 3))
    teacher = torch.rand(5, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    margin = teacher[:, :1] - teacher[:, 1:]
    theirs = MarginMSELoss(torch.nn.Identity(), similarity_fct=pairwise_cos_sim).compute_loss_from_embeddings(
        [query, positive, negative], margin
    )
    assert margin_mse(query, positive, negative[:, None], margin).item() == pytest.approx(theirs.item())
    theirs = DistillKLDivLoss(
        torch.nn.Identity(), similarity_fct=pairwise_cos_sim, temperature=TEMPERATURE
    ).compute_loss_from_embeddings([query, positive, negative], teacher)
    ours = score_kl(query, torch.stack([positive, negative], dim=1), teacher, temperature=TEMPERATURE)
    assert ours.item() * TEMPERATURE**2 == pytest.approx(theirs.item())  # theirs is scaled so

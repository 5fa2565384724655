"""
The three losses of the recipe, as pure functions of unit vectors (arXiv 2508.21632, section 3).

Shapes: B samples of a batch, M passages of a batch, N negatives of one sample, D dimensions. Embeddings are fp32 and
L2-normalised, so that a product is a cosine; `temperature` divides it; the result is a scalar in nats. A mask is true
where a term is left out.
"""

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(
    query_BD: Tensor,
    passage_MD: Tensor,
    positive_B: Tensor,
    *,
    temperature: float,
    answers_BM: Tensor | None = None,
    same_query_BB: Tensor | None = None,
) -> Tensor:
    """
    Each query against its positive, all passages of the batch and all its other queries (equation 1).

    The report adds the query-query terms "following GTE and Qwen3-Embedding"; whether its in-batch negatives take in
    the positives of other queries it does not say: here they do.

    Args:
        query_BD: the queries.
        passage_MD: every passage of the batch, positives and hard negatives alike, each once.
        positive_B: int64, the row in `passage_MD` of each query's positive.
        answers_BM: true where passage m is known to answer query b; it is then no negative of it. The chosen
            positive may be marked too.
        same_query_BB: true where queries i and j are the same text. The diagonal need not be marked.

    Returns:
        The mean over B.
    """
    num_queries = query_BD.shape[0]
    passage_scores_BM = query_BD @ passage_MD.T / temperature
    query_scores_BB = query_BD @ query_BD.T / temperature
    if answers_BM is not None:
        other_answers_BM = answers_BM.clone()
        other_answers_BM[torch.arange(num_queries, device=query_BD.device), positive_B] = False
        passage_scores_BM = passage_scores_BM.masked_fill(other_answers_BM, -torch.inf)
    itself_BB = torch.eye(num_queries, dtype=torch.bool, device=query_BD.device)
    if same_query_BB is not None:
        itself_BB = itself_BB | same_query_BB
    scores = torch.cat([passage_scores_BM, query_scores_BB.masked_fill(itself_BB, -torch.inf)], dim=1)
    return functional.cross_entropy(scores, positive_B)


def cosent(first_BD: Tensor, second_BD: Tensor, label_B: Tensor, *, temperature: float) -> Tensor:
    """
    Pairs that people found more similar must have the higher cosine (equation 2, CoSENT).

    Only the order of labels counts. Swapping the texts of a pair changes nothing, so the report's doubling of
    symmetric pairs is not needed.

    Args:
        first_BD, second_BD: the two texts of each pair.
        label_B: how similar they are, on any scale.

    Returns:
        log(1 + the sum over all pairs of pairs); 0 if all labels are equal.
    """
    score_B = (first_BD * second_BD).sum(dim=1) / temperature
    wrong_BB = score_B[None, :] - score_B[:, None]  # [i, j]: how far pair j lies above pair i
    ordered_BB = label_B[:, None] > label_B[None, :]
    terms = torch.cat([wrong_BB.new_zeros(1), wrong_BB.masked_fill(~ordered_BB, -torch.inf).flatten()])
    return torch.logsumexp(terms, dim=0)


def class_masked_info_nce(
    text_BD: Tensor,
    positive_BD: Tensor,
    negative_BND: Tensor,
    label_B: Tensor,
    negative_label_BN: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """
    Each text against another text of its class; texts of its own class are never its negatives (equation 3).

    Args:
        text_BD: the texts to classify.
        positive_BD: for each another text of the same class. Those of other samples are no negatives, as in the report.
        negative_BND: texts of other classes; N may be 0. They serve all samples whose class is another.
        label_B, negative_label_BN: int64 classes.

    Returns:
        The mean over B; 0 of a sample to which the batch holds no text of another class.
    """
    num_texts = text_BD.shape[0]
    positive_score_B = (text_BD * positive_BD).sum(dim=1)
    negative_label_M = negative_label_BN.flatten()
    scores = torch.cat(
        [
            positive_score_B[:, None],
            text_BD @ negative_BND.flatten(0, 1).T,
            text_BD @ text_BD.T,
        ],
        dim=1,
    )
    same_class = torch.cat(
        [
            torch.zeros(num_texts, 1, dtype=torch.bool, device=text_BD.device),
            label_B[:, None] == negative_label_M[None, :],
            label_B[:, None] == label_B[None, :],  # the diagonal too: a text is not its own negative
        ],
        dim=1,
    )
    target_B = torch.zeros(num_texts, dtype=torch.int64, device=text_BD.device)
    return functional.cross_entropy((scores / temperature).masked_fill(same_class, -torch.inf), target_B)

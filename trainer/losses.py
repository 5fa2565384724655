"""
The losses of the recipe, as pure functions of unit vectors (arXiv 2508.21632, section 3), and two of distillation.

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
    document_negatives: bool = False,
    margin: float | None = None,
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
        document_negatives: a query's positive is told from the batch's other passages, too, as in GTE (Li et al.,
            arXiv 2308.03281).
        margin: whatever scores above a query's positive by more than this is taken for an answer that nobody marked,
            and left out (Qwen3-Embedding, arXiv 2506.05176, has 0.1); None: nothing is.

    Returns:
        The mean over B.
    """
    num_queries, num_passages = len(query_BD), len(passage_MD)
    passage_cosine_BM = query_BD @ passage_MD.T
    chosen_BM = functional.one_hot(positive_B, num_passages).bool()
    answers_BM = chosen_BM if answers_BM is None else answers_BM | chosen_BM
    itself_BB = torch.eye(num_queries, dtype=torch.bool, device=query_BD.device)
    cosines = [passage_cosine_BM, query_BD @ query_BD.T]
    left_out = [answers_BM & ~chosen_BM, itself_BB if same_query_BB is None else itself_BB | same_query_BB]
    if document_negatives:
        cosines.append(passage_MD[positive_B] @ passage_MD.T)
        left_out.append(answers_BM)
    cosine, mask = torch.cat(cosines, dim=1), torch.cat(left_out, dim=1)
    if margin is not None:
        mask = mask | (cosine.detach() > passage_cosine_BM.detach().gather(1, positive_B[:, None]) + margin)
    return functional.cross_entropy((cosine / temperature).masked_fill(mask, -torch.inf), positive_B)


def cosent(first_BD: Tensor, second_BD: Tensor, label_B: Tensor, *, temperature: float) -> Tensor:
    """
    Pairs that people found more similar must have the higher cosine (equation 2, CoSENT).

    Only the order of labels counts. Swapping the texts of a pair changes nothing, so the report's doubling of
    symmetric pairs is not needed. Takes time and memory in proportion to B log B: sorted by label, what all pairs of
    lower labels add to a pair is one running sum.

    Args:
        first_BD, second_BD: the two texts of each pair.
        label_B: how similar they are, on any scale.

    Returns:
        log(1 + the sum over all pairs of pairs); 0 if all labels are equal.
    """
    score_B = (first_BD * second_BD).sum(dim=1) / temperature
    order_B = label_B.argsort(stable=True)
    label_B, score_B = label_B[order_B], score_B[order_B]
    num_lower_B = torch.searchsorted(label_B, label_B)  # pairs of lower labels, which lie in front
    higher = num_lower_B > 0
    if not higher.any():
        return score_B.sum() * 0.0
    running_B = torch.logcumsumexp(score_B, dim=0)
    terms = running_B[num_lower_B[higher] - 1] - score_B[higher]
    return torch.logsumexp(torch.cat([terms.new_zeros(1), terms]), dim=0)


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


def margin_mse(query_BD: Tensor, positive_BD: Tensor, negative_BND: Tensor, teacher_margin_BN: Tensor) -> Tensor:
    """
    By how much a query's positive lies above each of its negatives, as a teacher has it (Hofstätter et al., arXiv
    2010.02666).

    Args:
        teacher_margin_BN: the teacher's score of the positive less that of the negative, on the scale of cosines; NaN
            where there is no negative or no score of it.

    Returns:
        The mean squared difference; 0 if the teacher said nothing.
    """
    cosine_BN = torch.einsum("bd,bnd->bn", query_BD, negative_BND)
    margin_BN = (query_BD * positive_BD).sum(dim=1, keepdim=True) - cosine_BN
    known_BN = teacher_margin_BN.isfinite()
    wrong = torch.where(known_BN, margin_BN - teacher_margin_BN.nan_to_num(), 0.0)
    return wrong.square().sum() / known_BN.sum().clamp(min=1)


def score_kl(query_BD: Tensor, passage_BND: Tensor, teacher_BN: Tensor, *, temperature: float) -> Tensor:
    """
    The Kullback-Leibler divergence from a teacher's distribution over a query's passages to the model's.

    Args:
        passage_BND: of each query its positive and its negatives.
        teacher_BN: the teacher's scores of them, on the scale of cosines; NaN where there is none. A query of which
            fewer than two are known teaches nothing.

    Returns:
        The mean over the queries that teach something; 0 if none does.
    """
    known_BN = teacher_BN.isfinite()
    teaches_B = known_BN.sum(dim=1) > 1
    if not teaches_B.any():
        return query_BD.sum() * 0.0
    known_BN, query_BD, passage_BND = known_BN[teaches_B], query_BD[teaches_B], passage_BND[teaches_B]
    cosine_BN = torch.einsum("bd,bnd->bn", query_BD, passage_BND)
    own_BN, told_BN = (
        (each / temperature).masked_fill(~known_BN, -torch.inf).log_softmax(dim=1).masked_fill(~known_BN, 0.0)
        for each in (cosine_BN, teacher_BN[teaches_B].nan_to_num())
    )
    share_BN = told_BN.exp().masked_fill(~known_BN, 0.0)
    return (share_BN * (told_BN - own_BN)).sum(dim=1).mean()

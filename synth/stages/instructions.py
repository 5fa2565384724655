"""
What an embedding model is told before the queries of well-known data sets, by the name of the source.

The wording is that of the E5-Mistral paper (arXiv 2401.00368, tables 14 and 15) and of its continuation for Chinese in
gte-Qwen2, with which Qwen3-Embedding is evaluated too; QZhou-Embedding says that it follows the latter.
"""

WEB = "Given a web search query, retrieve relevant passages that answer the query"
WIKIPEDIA = "Given a question, retrieve Wikipedia passages that answer the question"
CLAIM = "Given a claim, retrieve documents that support or refute the claim"
SIMILAR = "Retrieve semantically similar text"
CHINESE_WEB = "Given a Chinese search query, retrieve web passages that answer the question"
CHINESE_MEDICAL = "Given a Chinese community medical question, retrieve replies that best answer the question"
ENTAILED = "Given a premise, retrieve a hypothesis that is entailed by the premise"
DUPLICATES = "Given a question, retrieve questions that are semantically equivalent to the given question"

INFERENCE = ("all-nli", "snli", "mnli", "multi_nli", "ocnli", "cmnli")
KNOWN: dict[str, str] = {
    **dict.fromkeys(("msmarco", "ms_marco", "mmarco"), WEB),
    **dict.fromkeys(("nq", "natural-questions", "miracl", "mr-tydi", "mrtydi"), WIKIPEDIA),
    **dict.fromkeys(
        ("squad", "squad_v2", "trivia_qa", "triviaqa"), "Retrieve Wikipedia passages that answer the question"
    ),
    **dict.fromkeys(("cmrc", "cmrc2018", "drcd"), WIKIPEDIA),  # of their kind: nobody has words for these two
    **dict.fromkeys(
        ("hotpotqa", "hotpot_qa"), "Given a multi-hop question, retrieve documents that can help answer the question"
    ),
    **dict.fromkeys(("fever", "hover"), CLAIM),
    "climate-fever": "Given a claim about climate change, retrieve documents that support or refute the claim",
    "scifact": "Given a scientific claim, retrieve documents that support or refute the claim",
    "eli5": "Provided a user question, retrieve the highest voted answers on Reddit ELI5 forum",
    "fiqa": "Given a financial question, retrieve user replies that best answer the question",
    "nfcorpus": "Given a question, retrieve relevant documents that best answer the question",
    "arguana": "Given a claim, find documents that refute the claim",
    "dbpedia": "Given a query, retrieve relevant entity descriptions from DBPedia",
    "trec-covid": "Given a query on COVID-19, retrieve documents that answer the query",
    **dict.fromkeys(("quora", "qqp", "quora-duplicates"), DUPLICATES),
    **dict.fromkeys(("dureader", "t2ranking", "t2retrieval", "duretrieval"), CHINESE_WEB),
    **dict.fromkeys(("cmedqa", "cmedqav1", "cmedqav2"), CHINESE_MEDICAL),
    **dict.fromkeys(("stsb", "stsbenchmark", "sts12", "sts22", "sick-r", *INFERENCE), SIMILAR),
    **dict.fromkeys(("lcqmc", "bq", "atec", "afqmc", "pawsx", "paws-x"), SIMILAR),
    "banking77": "Given a online banking query, find the corresponding intents",
    "emotion": "Classify the emotion expressed in the given Twitter message into one of the six emotions: anger, fear,"
    " joy, love, sadness, and surprise",
    "imdb": "Classify the sentiment expressed in the given movie review text from the IMDB dataset",
    "massive-intent": "Given a user utterance as query, find the user intents",
    "massive-scenario": "Given a user utterance as query, find the user scenarios",
    "toxic-conversations": "Classify the given comments as either toxic or not toxic",
    "tnews": "Classify the fine-grained category of the given news title",
    "iflytek": "Given an App description text, find the appropriate fine-grained category",
    "waimai": "Classify the customer review from a food takeaway platform into positive or negative",
}


def known_instruction(name: str, layout: str) -> str:
    """
    The instruction of a source of exactly this name, but for case, "" if none is known for it.

    Args:
        layout: the source was read from. Of claims with their evidence only what supports a claim is a positive; of
            natural language inference as triplets a hypothesis is; reading comprehension tells its task in the query.
    """
    if layout == "reading":
        return ""
    if name.casefold() in INFERENCE and layout not in ("inference", "pairs"):
        return ENTAILED
    known = KNOWN.get(name.casefold(), "")
    return known.replace("support or refute", "support") if layout == "claims" else known

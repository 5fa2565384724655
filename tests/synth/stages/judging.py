"""Three samples whose passages say their grade in the eyes of a judge that goes by a rule, and what it is asked."""

import json
import re
from pathlib import Path
from typing import Any

from synth.llm.ceilings import Ceilings
from synth.llm.config import LLMConfig
from synth.records import Retrieval
from synth.stages.asking.plan import Asking
from synth.stages.judge.plan import JudgePlan, plan_judge
from synth.stages.judge.run import Judged, judge_samples
from synth.store.connection import Store
from synth.store.console import query
from tests.chat_server import Messages
from tests.synth.stages.releasing import add, give_negatives, source

PRICES = {"price_in": 2.0, "price_out": 8.0}
# Of each query the positive and the negatives, with the grade that the rule gives; what says "worse" is generated.
SAMPLES: dict[str, dict[str, int]] = {
    "who dug the harbour of Alder?": {
        "The harbour of Alder was dug by monks.": 3,
        "The harbour of Birch was dug by soldiers.": 1,
        "Monks came to Alder for its harbour, which they had dug.": 3,
        "Something was dug at Alder.": 2,
    },
    "when was Elm built?": {"Elm is a town.": 1, "Pigs like acorns.": 0, "Elm was built in 1877.": 3},
    "艾尔姆港有几座灯塔？": {
        "艾尔姆港有两座灯塔。": 3,
        "worse: 艾尔姆港有灯塔。": 2,
        "no worse: 两座灯塔立在艾尔姆港。": 3,
    },
}
ASKED: dict[str, Any] = {"seed": 0, "limit": None, "again": False, "scope": "open"}
GRADES = {text: grade for passages in SAMPLES.values() for text, grade in passages.items()}


def fill(store: Store) -> None:
    """Store SAMPLES: the first passage of each is its positive, the others are mined or, of the last, generated."""
    of = source(store)
    for asked, passages in SAMPLES.items():
        positive, *negatives = passages
        add(store, of, Retrieval(asked, (positive,)))
        origins = ["generated" if "worse: " in text else "mined" for text in negatives]
        ranks = [None if origin == "generated" else rank for rank, origin in enumerate(origins, start=1)]
        give_negatives(store, asked, list(zip(negatives, origins, ranks, strict=True)))


def shown(messages: Messages) -> tuple[str, dict[str, str]]:
    """The query of a request to judge, and the text under each letter."""
    user = messages[1]["content"]
    texts = [text.strip("\n") for text in re.split(r"^----- text .*$", user, flags=re.MULTILINE)[1::2]]
    letters = re.findall(r"^Passage ([A-T]):$", user, re.MULTILINE)
    passages = dict(zip(letters, texts[-len(letters) :], strict=True))
    return texts[-len(letters) - 1], passages


def grades(passages: dict[str, str], **changes: Any) -> list[dict[str, Any]]:
    """What the rule says of passages by their letters; of those in `changes` another grade."""
    return [
        {"passage": letter, "reason": f"says {text[:30]!r}", "grade": changes.get(letter, GRADES.get(text, 0))}
        for letter, text in passages.items()
    ]


def by_the_rule(messages: Messages) -> str:
    """A judge that gives GRADES."""
    return json.dumps({"grades": grades(shown(messages)[1])}, ensure_ascii=False)


def asking(folder: Path, base_url: str, model: str = "test-judge", **settings: Any) -> Asking:
    ceilings = settings.pop("ceilings", Ceilings())
    given = {"concurrency": 2, "max_retries": 2, "temperature": 0.0, **PRICES, **settings}
    return Asking(LLMConfig.of(base_url, model, **given), folder / "journal", ceilings, folder / "batches")


def plan(store: Store, folder: Path, base_url: str, **settings: Any) -> JudgePlan:
    asked = {name: settings.pop(name, default) for name, default in ASKED.items()}
    return plan_judge(store, asking(folder, base_url, **settings), (), **asked)


async def run(store: Store, made: JudgePlan) -> Judged:
    return await judge_samples(store, made)


def said(store: Store) -> dict[str, int]:
    """The grade of each passage by its text; every one judged once."""
    rows = query(store, "SELECT text, grade FROM judgements ORDER BY ALL").to_pylist()
    found = {row["text"]: row["grade"] for row in rows}
    assert len(found) == len(rows)
    return found


def suggested(store: Store, columns: str = "suggestion, text") -> list[tuple[Any, ...]]:
    sql = f"SELECT {columns} FROM suggestions ORDER BY suggestion, text, judge"
    return [tuple(row.values()) for row in query(store, sql).to_pylist()]

"""
Writes the outputs of docs/sql.md's questions anew: `make docs`. They are asked of one small store.

The store is made of the bundled data by the same commands and stages as any other; its LLMs are two scripts behind a
real server on loopback, its miner a bag of words, its reviewers dice with a seed. Every run gives the same answers.
"""

import asyncio
import io
import random
import re
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path

from synth.cli import app
from synth.commands.screens import print_table
from synth.llm.ceilings import Ceilings
from synth.llm.config import LLMConfig
from synth.records import LLMError, Retrieval, ReviewEvent, Verdict, key_of, new_id, text_id
from synth.stages.asking.plan import Asking
from synth.stages.generate.plan import Wanted, plan_generate
from synth.stages.generate.run import generate_samples
from synth.store import reviews
from synth.store.connection import Store
from synth.store.console import query, rows_of
from synth.store.judgements import Judge, Judgement, add_judgements
from synth.workspace import Workspace
from tests.chat_server import ChatServer, Fault, Messages
from tests.cookbook_mining import bag, cosine, mine, mine_more

REPOSITORY = Path(__file__).parent.parent
PAGE = REPOSITORY / "docs" / "sql.md"
QUESTION = re.compile(r"```sql\n(.*?)```\n(?:\n```text\n.*?```\n)?", re.DOTALL)
ENGLISH, CHINESE = "documents-en", "documents-zh"
MINED = "squad-en"
FLAGGED = "fairytale-en"


def build(folder: Path) -> Store:
    """The store that the page's questions are asked of."""
    synth("init", folder)
    synth("ingest", REPOSITORY / "data" / "sample", "-w", folder)
    store = Workspace.open(folder).store
    asyncio.run(_generate(store, folder / "journal"))
    mine(store, [ENGLISH, MINED])
    mine_more(store, FLAGGED)
    _grade(store)
    synth("check", "-w", folder)
    synth("review", "--policy", "labelled", "-w", folder)
    made, labelled = _retrieval(store, ENGLISH), _retrieval(store, MINED)[:30]
    _judge(store, "ann", made[: len(made) // 2] + labelled)
    synth("release", "create", "first", "-w", folder)
    _judge(store, "ben", made[:-8:2] + labelled[::3])
    _judge(store, "ann", made[len(made) // 2 : -8])  # eight are left to review
    _edit_one(store)
    _drop_negatives(store)
    synth("release", "create", "second", "-w", folder)
    return store


def synth(*arguments: object) -> None:
    """Run a command of ours in this process, for what it does to the store."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        app([str(argument) for argument in arguments], standalone_mode=False)


def printed(store: Store, sql: str) -> str:
    """What `synth sql` prints of a query into a pipe."""
    result = query(store, sql)
    with redirect_stdout(io.StringIO()) as out:
        print_table(result.column_names, [tuple(row.values()) for row in rows_of(result)])
    lines = (line.rstrip() for line in out.getvalue().splitlines())
    return textwrap.dedent("\n".join(line for line in lines if line)) + "\n"


def page(store: Store, text: str) -> str:
    """The page with the output of every question as it is now."""
    return QUESTION.sub(lambda found: f"```sql\n{found[1]}```\n\n```text\n{printed(store, found[1])}```\n", text)


def _passage(messages: Messages) -> tuple[str, list[str]]:
    """What a prompt asks about: the last part of the passage's title, and its longest words."""
    prompt = next(message["content"] for message in messages if message["role"] == "user")
    text = re.split(r"^-----.*$", prompt, flags=re.MULTILINE)[1].strip()
    words = sorted(set(re.findall(r"[a-z]{6,}", text.lower())), key=lambda word: (-len(word), word))
    return text.split("\n")[0].rpartition(" > ")[2].lower().strip("?"), words


def careful(messages: Messages) -> str:
    """An LLM that does what it is asked."""
    title, words = _passage(messages)
    asked = [f"what to know of {title} before using {words[0]}", f"why {words[1]} matters more than {words[2]} here"]
    return '{"queries": ' + str(asked).replace('"', "").replace("'", '"') + "}"


def hasty(messages: Messages) -> str:
    """One that chats, repeats itself, and speaks of "this passage"."""
    title, words = _passage(messages)
    if len(words) % 4 == 0:
        return f"Sure! I would ask: what is {title}?"
    asked = [f"{words[0]} {words[3]} {title}", f"what does this passage say about {words[0]}"]
    return '{"queries": ' + str(asked).replace('"', "").replace("'", '"') + "}"


async def _generate(store: Store, journal: Path) -> None:
    """Two LLMs with their prices, one that breaks down, and for Chinese the extractive engine."""
    models: list[tuple[str, Callable[[Messages], str], float, float]] = [
        ("careful-7b", careful, 0.4, 1.6),
        ("hasty-1b", hasty, 0.05, 0.2),
    ]
    for name, reply, price_in, price_out in models:
        async with ChatServer(reply) as server:
            await _run(
                store,
                journal,
                LLMConfig.of(server.base_url, name, concurrency=1, price_in=price_in, price_out=price_out),
            )
    async with ChatServer(faults={Fault.BROKEN: 1.0}) as server:
        with suppress(LLMError):
            await _run(store, journal, LLMConfig.of(server.base_url, "broken-13b", concurrency=1, max_retries=0))
    await _run(store, journal, None)


async def _run(store: Store, journal: Path, llm: LLMConfig | None) -> None:
    wanted = Wanted(names=(ENGLISH if llm else CHINESE,), per_seed=2, limit=24)
    plan = plan_generate(store, wanted, Asking(llm, journal, Ceilings(), journal) if llm else None)
    await generate_samples(store, plan)


def _grade(store: Store) -> None:
    """
    A judge to whom a positive of other words than the query is none, a negative of more of them answers it, and one of
    the positive's words answers a part of it.
    """
    judge = Judge(("judge-7b",), "llm", "judge-00000000", key_of("judge-7b"))
    sql = (
        "SELECT sample_id, revision_id, query, unnest(positives) AS text, NULL AS relative_score, NULL AS like_positive"
        f" FROM samples WHERE source = '{ENGLISH}' UNION ALL"
        " SELECT sample_id, revision_id, query, text, coalesce(relative_score, 0), positive_similarity FROM negatives"
        " ORDER BY ALL"
    )
    said = []
    with store.read() as cursor:
        for *ids, asked, text, relative, like_positive in cursor.execute(sql).fetchall():
            answers = cosine(bag(asked), bag(text)) > 0.1 if relative is None else relative > 2.3
            grade = 3 if answers else 2 if (like_positive or 0) > 0.78 else 1
            said.append(Judgement(*ids, text_id(text), relative is None, judge.names[0], grade))
    with store.write() as cursor:
        add_judgements(cursor, judge, new_id(), said)


def _retrieval(store: Store, source: str) -> list[tuple[ReviewEvent, Retrieval]]:
    """A blank event for each sample to train on of a source, with its content, in the order of the queries."""
    sql = (
        "SELECT sample_id, revision_id, query, positives FROM samples"
        f" WHERE source = '{source}' AND declared_use = 'train' ORDER BY query, positives"
    )
    with store.read() as cursor:
        rows = cursor.execute(sql).fetchall()
    return [
        (ReviewEvent(new_id(), "", sample_id, revision_id, Verdict.SKIP), Retrieval(asked, tuple(positives)))
        for sample_id, revision_id, asked, positives in rows
    ]


def _judge(store: Store, reviewer: str, cards: Sequence[tuple[ReviewEvent, Retrieval]]) -> None:
    """Verdicts as dice with the reviewer's name and the query fall: three in four approve."""
    events = []
    for blank, content in cards:
        dice = random.Random(f"{reviewer} {content.query}")
        approved = dice.random() < (0.85 if "matters" not in content.query else 0.5)
        reason = () if approved else (dice.choice(["unclear-query", "wrong-positive", "too-easy"]),)
        events.append(
            replace(
                blank,
                review_id=new_id(),
                reviewer=reviewer,
                verdict=Verdict.APPROVE if approved else Verdict.REJECT,
                reasons=reason,
                difficulty=dice.randint(1, 4),
                seconds=round(dice.uniform(2, 12), 1),
            )
        )
    reviews.add_reviews(store, events)


def _edit_one(store: Store) -> None:
    """Ann changes the first query of the first release."""
    with store.read() as cursor:
        [(released,)] = cursor.execute(
            "SELECT min(query) FROM release_samples JOIN samples USING (sample_id) WHERE source = ?", [ENGLISH]
        ).fetchall()
    [(blank, content)] = [card for card in _retrieval(store, ENGLISH) if card[1].query == released]
    edit = replace(content, query=f"{content.query}, step by step")
    event = replace(blank, review_id=new_id(), reviewer="ann", verdict=Verdict.APPROVE, edited_id=new_id(), edit=edit)
    reviews.add_reviews(store, [event])


def _drop_negatives(store: Store) -> None:
    """Ben finds that what comes nearest to three of the queries answers them."""
    sql = (
        "SELECT sample_id, revision_id, negative_id FROM negatives WHERE relative_score > 1"
        " ORDER BY relative_score DESC, query, text LIMIT 3"
    )
    with store.read() as cursor:
        rows = cursor.execute(sql).fetchall()
    verdicts = (Verdict.FALSE_NEGATIVE, Verdict.PARTIAL, Verdict.REJECT)
    reviews.add_reviews(
        store,
        [
            ReviewEvent(new_id(), "ben", sample_id, revision_id, verdict, negative_id)
            for verdict, (sample_id, revision_id, negative_id) in zip(verdicts, rows, strict=True)
        ],
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        PAGE.write_text(page(build(Path(temporary) / "store"), PAGE.read_text(encoding="utf-8")), encoding="utf-8")

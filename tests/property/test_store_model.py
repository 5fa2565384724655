"""Random sequences of what people, policies and stages do to a store, against a plain model that knows no SQL."""

import copy
import hashlib
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from pyarrow import parquet

from synth.records import (
    Draft,
    Negative,
    Retrieval,
    ReviewEvent,
    Source,
    Use,
    UserError,
    Verdict,
    key_of,
    new_id,
    text_id,
)
from synth.stages.release import create_release
from synth.store import minings, queues, reviews, samples, sources
from synth.store.connection import Store
from synth.store.release_policy import ReleasePolicy
from synth.store.sources import NewPassage
from tests.conftest import one_opinion
from tests.property.plain_model import Mined, Model, Refused, Revision, Sample

GUIDE = Source("guide", "train", Use.TRAIN, "retrieval", "a test", "CC0-1.0", "1")
TEXTS = ["A cat purrs.", "A dog barks.", "A cow moos.", "An owl hoots."]
CONTENTS = st.builds(
    Retrieval,
    st.sampled_from(["what purrs?", "what  purrs?", "who barks?", "what is that noise?"]),
    st.lists(st.sampled_from(TEXTS), min_size=1, max_size=2, unique=True).map(tuple),
)
PEOPLE = st.sampled_from(["ann", "bob", "eve"])
WORDS = st.sampled_from([Verdict.APPROVE, Verdict.APPROVE, Verdict.REJECT, Verdict.SKIP])
NEGATIVE_WORDS = st.sampled_from([Verdict.REJECT, Verdict.FALSE_NEGATIVE, Verdict.PARTIAL, Verdict.KEEP, Verdict.KEEP])
HARD = st.sampled_from([None, 1, 4])
STALE = st.sampled_from([False, False, False, True])
PLACES = st.integers(0, 5)
SCORES = st.floats(-1, 1, width=32)
MAX_NEGATIVES = 2
STATE = (
    "SELECT sample_id, revision_id, query, positives, status, decided_by, decided_kind, difficulty, num_reviews,"
    " num_negatives, hardness, num_approvals, num_rejections FROM sample_state JOIN"
    " (SELECT revision_id, query, positives FROM revision) USING (revision_id)"
)


def released(store: Store, folder: Path, name: str) -> dict[UUID, tuple[Retrieval, list[str]]]:
    """Make a release and read it as the trainer does: its files alone."""
    policy = ReleasePolicy(max_negatives=MAX_NEGATIVES, near_duplicates=False, contamination=False)
    made = create_release(store, folder, name, policy, on_progress=lambda _: None)
    rows = parquet.read_table(made.path / "samples" / "retrieval.parquet").to_pylist()
    return {
        UUID(row["revision_id"]): (
            Retrieval(row["query"], tuple(row["positives"]), row["instruction"]),
            [negative["text"] for negative in row["negatives"]],
        )
        for row in rows
    }


def fingerprint(folder: Path) -> dict[str, str]:
    """Every byte under a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


class StoreAndModel(RuleBasedStateMachine):
    """One store in a folder of its own, and the model that every rule tells the same."""

    events = Bundle("events")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.create(self.folder / "store.duckdb")
        one_opinion(self.store)
        self.random_share, queues.RANDOM_SHARE = queues.RANDOM_SHARE, 0.0  # all cards in one order
        self.model = Model()
        self.turn = 0
        self.releases: dict[str, dict[str, str]] = {}
        with self.store.write() as cursor:
            sources.add_source(cursor, GUIDE, new_id())
            sources.add_passages(cursor, GUIDE.source_id, [NewPassage(text_id(t), t, "", "") for t in TEXTS])
        self.ingest([Retrieval("what meows?", ("A cat purrs.",)), Retrieval("what sings?", ("A bird.",))])
        self.mine(1, [0.1, 0.2, 0.3, 0.4], TEXTS)  # so that there is something to disagree on from the first step

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            assert samples.rebuild_state(self.store) == 0
            queues.RANDOM_SHARE = self.random_share
            del self.store  # Hypothesis keeps the machine
            for name, before in self.releases.items():
                assert fingerprint(self.folder / "releases" / name) == before
            shutil.rmtree(self.folder)

    def sample(self, place: int) -> Sample:
        return list(self.model.samples.values())[place % len(self.model.samples)]

    def judge(self, *given: tuple[ReviewEvent, str | None]) -> None:
        """Send a batch to both; one refused event refuses it whole."""
        model, expected = copy.deepcopy(self.model), 0
        try:
            for event, text in given:
                expected += model.store(event, text)
        except Refused:
            with pytest.raises(UserError):
                reviews.add_reviews(self.store, [event for event, _ in given])
            return
        assert reviews.add_reviews(self.store, [event for event, _ in given]) == expected
        self.model = model

    @rule(contents=st.lists(CONTENTS, min_size=1, max_size=2))
    def ingest(self, contents: list[Retrieval]) -> None:
        drafts = [Draft(content, GUIDE.source_id, "query", "llm") for content in contents]
        with self.store.write() as cursor:
            num_new = samples.add_drafts(cursor, drafts, new_id())
            rows = cursor.execute("SELECT sample_id, query, positives FROM revision WHERE number = 1").fetchall()
        fresh = [row for row in rows if row[0] not in self.model.samples]
        for content in contents:
            if not self.model.says(content):
                [sample_id] = [
                    row[0]
                    for row in fresh
                    if (" ".join(row[1].split()), tuple(row[2])) == (" ".join(content.query.split()), content.positives)
                ]
                query = next(row[1] for row in fresh if row[0] == sample_id)
                stored = Retrieval(query, content.positives)
                self.model.samples[sample_id] = Sample(sample_id, [Revision(sample_id, stored)])
                num_new -= 1
        assert num_new == 0

    @precondition(lambda self: self.model.samples)
    @rule(
        target=events, place=PLACES, stale=STALE, words=st.lists(st.tuples(PEOPLE, WORDS, HARD), min_size=1, max_size=3)
    )
    def review(
        self, place: int, stale: bool, words: list[tuple[str, Verdict, int | None]]
    ) -> MultipleResults[ReviewEvent]:
        sample = self.sample(place)
        revision = sample.revisions[0] if stale else sample.head()
        given = [
            ReviewEvent(new_id(), who, sample.sample_id, revision.revision_id, verdict, difficulty=hard)
            for who, verdict, hard in words
        ]
        self.judge(*((event, None) for event in given))
        return multiple(*given)

    @precondition(lambda self: self.model.samples)
    @rule(target=events, place=PLACES, verdict=st.sampled_from([Verdict.APPROVE, Verdict.REJECT]))
    def decide_by_policy(self, place: int, verdict: Verdict) -> ReviewEvent:
        sample = self.sample(place)
        head = sample.head().revision_id
        event = ReviewEvent(new_id(), "policy:p", sample.sample_id, head, verdict, reviewer_kind="policy")
        self.judge((event, None))
        return event

    @precondition(lambda self: self.model.samples)
    @rule(target=events, place=PLACES, stale=STALE, who=PEOPLE, verdict=WORDS, content=CONTENTS)
    def edit(self, place: int, stale: bool, who: str, verdict: Verdict, content: Retrieval) -> ReviewEvent:
        sample = self.sample(place)
        revision = sample.revisions[0] if stale else sample.head()
        event = ReviewEvent(
            new_id(), who, sample.sample_id, revision.revision_id, verdict, edited_id=new_id(), edit=content
        )
        self.judge((event, None))
        return event

    def negative(self, sample: Sample, place: int) -> tuple[UUID, str] | None:
        """One of the head's negatives: its id, which only the store knows, and its text."""
        head = sample.head()
        texts = sorted({each.text for each in head.negatives})
        if not texts:
            return None
        text = texts[place % len(texts)]
        with self.store.read() as cursor:
            rows = cursor.execute(
                "SELECT negative_id FROM negative WHERE revision_id = ? AND text_id = ? ORDER BY negative_id",
                [head.revision_id, text_id(text)],
            ).fetchall()
        return rows[place % len(rows)][0], text

    @precondition(lambda self: self.model.samples)
    @rule(
        target=events,
        place=PLACES,
        which=PLACES,
        words=st.lists(st.tuples(PEOPLE, NEGATIVE_WORDS), min_size=2, max_size=3),
    )
    def judge_negative(self, place: int, which: int, words: list[tuple[str, Verdict]]) -> MultipleResults[ReviewEvent]:
        sample = self.sample(place)
        found = self.negative(sample, which)
        if found is None:
            return multiple()
        head = sample.head().revision_id
        given = [
            ReviewEvent(new_id(), who, sample.sample_id, head, verdict, negative_id=found[0]) for who, verdict in words
        ]
        self.judge(*((event, found[1]) for event in given))
        return multiple(*given)

    @precondition(lambda self: self.model.samples)
    @rule(target=events, place=PLACES, which=PLACES, who=PEOPLE, approves=st.booleans())
    def promote(self, place: int, which: int, who: str, approves: bool) -> MultipleResults[ReviewEvent]:
        sample = self.sample(place)
        found = self.negative(sample, which)
        if found is None:
            return multiple()
        promotion = ReviewEvent(
            new_id(),
            who,
            sample.sample_id,
            sample.head().revision_id,
            Verdict.PROMOTE,
            negative_id=found[0],
            edited_id=new_id(),
        )
        made = promotion.edited_id
        assert made is not None
        approval = ReviewEvent(new_id(), who, sample.sample_id, made, Verdict.APPROVE)
        self.judge((promotion, found[1]), *([(approval, None)] if approves else []))
        return multiple(promotion, *([approval] if approves else []))

    @rule(target=events, event=events, who=st.none() | PEOPLE)
    def undo(self, event: ReviewEvent, who: str | None) -> ReviewEvent:
        sample = self.model.samples[event.sample_id]
        undo = ReviewEvent(
            new_id(), who or event.reviewer, sample.sample_id, event.revision_id, Verdict.SKIP, undoes=event.review_id,
            reviewer_kind="human" if who else event.reviewer_kind,
        )  # fmt: skip
        self.judge((undo, None))
        return undo

    @rule(event=events)
    def send_again(self, event: ReviewEvent) -> None:
        if self.model.known(event.review_id):
            assert reviews.add_reviews(self.store, [event, event]) == 0

    @precondition(lambda self: self.model.samples)
    @rule(stage=st.integers(1, 3), scores=st.lists(SCORES, min_size=4, max_size=4), which=st.permutations(TEXTS))
    def mine(self, stage: int, scores: list[float], which: list[str]) -> None:
        key = key_of("stage", stage)
        found = minings.minable(self.store, key)
        assert {each.revision_id for each in found} == self.model.unmined(key)
        self.turn += 1
        results = []
        for place, each in enumerate(found):
            sample = self.model.samples[each.sample_id]
            texts = [text for text in which[: 1 + place % 3] if text not in sample.head().content.positives]
            rows = [Mined(text, rank, scores[rank], 0.5, self.turn) for rank, text in enumerate(texts, start=1)]
            sample.head().negatives += rows
            sample.head().mined_by.add(key)
            sample.head().last_turn = self.turn
            negatives = tuple(
                Negative(each.sample_id, each.revision_id, text_id(n.text), "mined", n.rank, n.score, n.positive_score)
                for n in rows
            )
            results.append(minings.Mined(each, "full", "", 1, negatives))
        with self.store.write() as cursor:
            minings.add_mined(cursor, key, new_id(), results)

    @precondition(lambda self: self.model.samples)
    @rule(
        who=PEOPLE,
        queue=st.sampled_from([queue for queue in queues.Queue if queue is not queues.Queue.ADJUDICATION]),
        limit=st.integers(0, 3),
        held=st.sets(PLACES, max_size=2),
    )
    def fetch_cards(self, who: str, queue: queues.Queue, limit: int, held: set[int]) -> None:
        ids = list({self.sample(place).sample_id: None for place in held})
        given = queues.cards(
            self.store, reviewer=who, queue=queue, limit=limit, except_for=ids, claim_for=timedelta(minutes=15)
        )
        assert [card.sample_id for card in given] == self.model.cards(queue, who, limit, ids)
        for card in given:
            negatives = self.model.samples[card.sample_id].head().latest()
            assert {each.text for each in card.negatives} == {each.text for each in negatives}

    @precondition(lambda self: self.model.release(MAX_NEGATIVES))
    @rule()
    def release(self) -> None:
        name = f"release-{len(self.releases)}"
        assert released(self.store, self.folder / "releases", name) == self.model.release(MAX_NEGATIVES)
        self.releases[name] = fingerprint(self.folder / "releases" / name)

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.read() as cursor:
            rows = cursor.execute(STATE)
            names = [column[0] for column in rows.description or ()][1:]
            found = {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows.fetchall()}
        assert found == {sample_id: sample.state() for sample_id, sample in self.model.samples.items()}


TestStoreAndModel = pytest.mark.slow(StoreAndModel.TestCase)
TestStoreAndModel.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

"""
From texts with classes to negatives: of each the nearest texts of other classes, those that say nearly the same aside.

Shapes: N samples, M texts of a source sorted by class, D dimensions, k results of a sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synth.likeness import overlap
from synth.records import FoundBy, Negative, NegativeFlag, text_id
from synth.stages.mine.labelled_texts import Classes
from synth.stages.mine.settings import DENSE, MineSettings
from synth.store.label_minings import ClassMined, Labelled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mining.search import Found, Searcher

BLOCK = 5000  # samples searched for and stored together
# Samples times texts of their class. Classes of fewer are searched for together, each sample's own class masked: one by
# one, 2,000 classes of 5 texts take 20 times as long.
MOST_MASKED = 1_000_000
MOST_ASIDE = 4  # nearly the same texts of other classes that are kept of a sample
SPARE = 16  # results beyond the negatives asked for, as some may have nearly all words in common with the text


@dataclass(frozen=True, slots=True)
class _Nearest:
    """What was found for one sample: (text, rank, score), best first; ranks up to `num_capped` score above the cap."""

    found: Sequence[tuple[str, int, float]]
    num_capped: int
    num_candidates: int
    positive_rank: int
    positive_score: float


class OtherClasses:
    """The texts of a source as vectors, (M, D), searched for the texts of other classes."""

    def __init__(
        self, searcher: "Searcher", settings: MineSettings, classes: Classes, text_MD: "NDArray[np.float32]"
    ) -> None:
        self._searcher, self._settings, self._classes, self._text_MD = searcher, settings, classes, text_MD

    def groups(self, by_class: Mapping[str, Sequence[Labelled]]) -> Iterator[list[Labelled]]:
        """The samples in groups that are searched for together: several small classes, or a part of a large one."""
        group: list[Labelled] = []
        masked = 0
        for label, samples in by_class.items():
            first, end = self._classes.span(label)
            for start in range(0, len(samples), BLOCK):
                part = samples[start : start + BLOCK]
                pairs = len(part) * (end - first)
                if group and (masked + pairs > MOST_MASKED or len(group) + len(part) > BLOCK):
                    yield group
                    group, masked = [], 0
                group, masked = [*group, *part], masked + pairs
        if group:
            yield group

    def mine(self, group: Sequence[Labelled]) -> list[ClassMined]:
        """What the samples of a group get."""
        nearest = self._nearest(group)
        return [self._mined(sample, found) for sample, found in zip(group, nearest, strict=True)]

    def _nearest(self, group: Sequence[Labelled]) -> list[_Nearest]:
        import numpy as np

        place_N = np.array([self._classes.place(sample) for sample in group])
        spans = [self._classes.span(sample.label) for sample in group]
        own_N = self._nearest_of_own(place_N, spans)
        cap_N = np.full(len(group), self._settings.near_positive, np.float32)
        found = self._scan(place_N, spans, self._settings.num_negatives + SPARE, cap_N, own_N)
        near = np.flatnonzero(found.num_capped_N)
        no_cap = np.full(len(near), np.inf, np.float32)
        above = self._scan(place_N[near], [spans[number] for number in near], MOST_ASIDE, no_cap, no_cap)
        capped = {int(number): self._told(above, place, 1) for place, number in enumerate(near)}
        results = []
        for number, (first, end) in enumerate(spans):
            num_capped = int(found.num_capped_N[number])
            ranked = capped.get(number, [])[:num_capped] + self._told(found, number, num_capped + 1)
            num_candidates, rank = len(self._text_MD) - (end - first), int(found.num_above_N[number]) + 1
            results.append(_Nearest(ranked, num_capped, num_candidates, rank, float(own_N[number])))
        return results

    def _scan(
        self,
        place_N: "NDArray[np.int64]",
        spans: Sequence[tuple[int, int]],
        k: int,
        cap_N: "NDArray[np.float32]",
        mark_N: "NDArray[np.float32]",
    ) -> "Found":
        """The best texts of other classes below the cap. Of one class alone, in what lies before it and after it."""
        import numpy as np

        text_ND = self._text_MD[place_N]
        if len(set(spans)) != 1:
            masked = [np.arange(first, end) for first, end in spans]
            return self._searcher.scan(text_ND, self._text_MD, k, cap_N=cap_N, mark_N=mark_N, masked=masked)
        first, end = spans[0]
        others = [self._text_MD[:first], self._text_MD[end:]]
        found = self._searcher.scan(text_ND, others, k, cap_N=cap_N, mark_N=mark_N)
        found.rows_Nk[found.rows_Nk >= first] += end - first
        return found

    def _nearest_of_own(self, place_N: "NDArray[np.int64]", spans: Sequence[tuple[int, int]]) -> "NDArray[np.float32]":
        """(N,) the score of the nearest other text of each sample's class."""
        import numpy as np

        from mining.search import pair_scores

        nearest_N = np.empty(len(place_N), np.int64)
        start = 0
        while start < len(spans):
            first, end = spans[start]
            stop = start + next((n for n, span in enumerate(spans[start:]) if span != spans[start]), len(spans) - start)
            own = [np.array([place - first]) for place in place_N[start:stop]]
            text_ND, own_CD = self._text_MD[place_N[start:stop]], self._text_MD[first:end]
            if len(own) * len(own_CD) > MOST_MASKED:
                nearest_N[start:stop] = first + self._searcher.scan(text_ND, own_CD, 1, masked=own).rows_Nk[:, 0]
            else:
                score_NC = text_ND @ own_CD.T
                score_NC[np.arange(len(own)), np.concatenate(own)] = -np.inf
                nearest_N[start:stop] = first + score_NC.argmax(axis=1)
            start = stop
        return pair_scores(self._text_MD[place_N], self._text_MD[nearest_N])

    def _told(self, found: "Found", number: int, first_rank: int) -> list[tuple[str, int, float]]:
        """Text, rank and score of what was found for a sample."""
        rows, scores = found.rows_Nk[number].tolist(), found.scores_Nk[number].tolist()
        there = [(self._classes.texts[row], score) for row, score in zip(rows, scores, strict=True) if row >= 0]
        return [(text, rank, score) for rank, (text, score) in enumerate(there, start=first_rank)]

    def _mined(self, sample: Labelled, nearest: _Nearest) -> ClassMined:
        wanted = self._settings.num_negatives
        taken: list[Negative] = []
        aside: list[Negative] = []
        num_alike = 0
        for text, rank, score in nearest.found:
            if len(taken) == wanted:
                break
            negative = self._negative(sample, text, rank, score, nearest)
            (aside if negative.flags else taken).append(negative)
            num_alike += negative.flags == ("near_duplicate",)
        reason = ""
        if len(taken) < wanted:
            alike = nearest.num_capped + num_alike
            reason = f"{nearest.num_candidates} texts of other classes, {alike} of them nearly the same text"
        return ClassMined(
            sample,
            "full" if not reason else "short" if taken else "none",
            reason,
            (*taken, *aside[:MOST_ASIDE]),
            nearest.positive_rank,
            nearest.positive_score,
            nearest.num_candidates,
            {"near_positive": nearest.num_capped, "near_duplicate": num_alike},
        )

    def _negative(self, sample: Labelled, text: str, rank: int, score: float, nearest: _Nearest) -> Negative:
        shared = overlap(sample.text, text)
        flags: tuple[NegativeFlag, ...] = ("near_positive",) if rank <= nearest.num_capped else ()
        flags += ("near_duplicate",) if shared >= self._settings.near_duplicate else ()
        return Negative(
            sample.sample_id,
            sample.revision_id,
            text_id(text),
            "mined",
            rank,
            score,
            nearest.positive_score,
            miners=(FoundBy(DENSE, rank, score),),
            positive_similarity=score,
            overlap=shared,
            flags=flags,
        )

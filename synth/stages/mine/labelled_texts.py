"""Which texts of a source's classes can be negatives of others, and for which nothing can be searched."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from synth.checks import same_as
from synth.records import normalise
from synth.store.label_minings import Labelled

LeftOut = Literal["several_classes", "alone", "no_other_class", "held_out"]


class Classes:
    """
    The samples of one source, and those of their texts that can be negatives, each once, sorted by class. Texts that
    differ in case, punctuation, width or white space alone are one text.
    """

    def __init__(self, samples: Sequence[Labelled], held_out: set[str]) -> None:
        self._held_out = held_out
        self._labels: dict[str, set[str]] = {}
        for sample in samples:
            self._labels.setdefault(sameness(sample.text), set()).add(sample.label)
        self._pending = [sample for sample in samples if sample.is_pending]
        self.texts: list[str] = []
        self._place_of: dict[str, int] = {}
        self._span_of: dict[str, tuple[int, int]] = {}
        for sample in sorted(samples, key=lambda each: each.label):
            same = sameness(sample.text)
            if same in held_out or len(self._labels[same]) > 1 or same in self._place_of:
                continue
            start, _ = self._span_of.get(sample.label, (len(self.texts), 0))
            self._place_of[same] = len(self.texts)
            self.texts.append(sample.text)
            self._span_of[sample.label] = (start, len(self.texts))

    def left_out(self, sample: Labelled) -> LeftOut | None:
        """Why nothing can be searched for this sample, if so."""
        same = sameness(sample.text)
        if same in self._held_out:
            return "held_out"
        if len(self._labels[same]) > 1:
            return "several_classes"
        start, end = self._span_of[sample.label]
        if end - start == len(self.texts):
            return "no_other_class"
        return "alone" if end - start == 1 else None

    def pending(self) -> tuple[dict[str, list[Labelled]], Counter[str]]:
        """The samples to search for, by class, and how many others are left out, by why."""
        by_class: dict[str, list[Labelled]] = {}
        left_out: Counter[str] = Counter()
        for sample in self._pending:
            if why := self.left_out(sample):
                left_out[why] += 1
            else:
                by_class.setdefault(sample.label, []).append(sample)
        return by_class, left_out

    def span(self, label: str) -> tuple[int, int]:
        """The places of a class's texts: the first, and the one after the last."""
        return self._span_of[label]

    def place(self, sample: Labelled) -> int:
        """The place of a sample's text."""
        return self._place_of[sameness(sample.text)]


def sameness(text: str) -> str:
    """Equal for texts that count as one."""
    return same_as(text) or normalise(text)

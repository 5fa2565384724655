"""A run that is under way, in figures: what stands in its progress lines, in words and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from synth.llm.budget import dollars
from synth.llm.usage import Usage

MOST_CAUSES = 5
MOST_ERROR = 80  # characters of the last error where there is room for it, half of that where there is less
DISTANT = 100 * 86400.0  # seconds; a time left beyond it says nothing


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a line. Where the terminal is too narrow, those of high rank shrink to `short`, or are left out."""

    text: str
    rank: int = 0
    short: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """One look at a run."""

    done: int  # seeds
    total: int
    seconds: float  # since it began
    usage: Usage
    per_second: float | None = None  # seeds that are not from the journal
    state: str = ""  # what it waits for, if that is more than replies
    left: Mapping[str, float] = field(default_factory=dict)  # below the ceilings that are set: cost, tokens, requests
    over: bool = False
    failed: int = 0  # of those done: they gave nothing, and are left for another run

    @property
    def made(self) -> float:
        """Seeds done by replies that were bought now, as far as that can be told from the replies."""
        bought, replayed = self.usage.replies, self.usage.replayed
        return self.done * bought / (bought + replayed) if replayed else float(self.done)

    @property
    def seconds_left(self) -> float | None:
        if self.per_second is None or self.state or self.over:
            return None
        seconds = (self.total - self.done) / self.per_second
        return seconds if seconds < DISTANT else None

    def at_the_end(self, so_far: float | None) -> float | None:
        """What an amount will have grown to when all seeds are done; None if that cannot be told, or they are."""
        if so_far is None or self.over or self.made < 1 or not self.usage.replies or self.done >= self.total:
            return None
        return so_far * (1 + (self.total - self.done) / self.made)


def as_json(figures: Figures) -> dict[str, Any]:
    """All of it, for machines; null where it is not known."""
    usage = figures.usage
    return {
        "done": figures.done,
        "failed": figures.failed,
        "total": figures.total,
        "seconds": round(figures.seconds, 1),
        "per_second": _rounded(figures.per_second, 3),
        "seconds_left": _rounded(figures.seconds_left, 1),
        "state": figures.state,
        **asdict(usage),
        "projected_tokens": _rounded(figures.at_the_end(usage.tokens_in + usage.tokens_out)),
        "projected_cost": _rounded(figures.at_the_end(usage.cost), 6),
        "left": {name: _rounded(amount, 6) for name, amount in figures.left.items()},
    }


def line(figures: Figures) -> str:
    """All of it in one line of ASCII (but for what servers said)."""
    parts = (*seeds(figures), *requests(figures), *spending(figures))
    return "; ".join(" ".join(part.text.split()) for part in parts)


def seeds(figures: Figures) -> Sequence[Part]:
    """How far it is, and how far it has to go."""
    width = len(f"{figures.total:,}")
    so_far = f"{figures.done:>{width},} of {figures.total:,}"
    failed = [Part(f"{figures.failed:,} failed", 3)] if figures.failed else []
    if figures.over:
        took = f"{'in' if figures.done >= figures.total else 'after'} {duration(figures.seconds)}"
        return [Part(f"{so_far} {took}"), *failed]
    found = [Part(so_far), *failed]
    if figures.per_second is not None:
        found.append(Part(_rate(figures.per_second), 2))
    if figures.seconds_left is not None:
        found.append(Part(f"{duration(figures.seconds_left)} left", 1))
    return found


def requests(figures: Figures) -> Sequence[Part]:
    """What is under way, and what went wrong on the way; nothing where nobody is asked."""
    usage, found = figures.usage, []
    if figures.state and not figures.over:
        found.append(Part(" ".join(figures.state.split())))
    if figures.over:
        found.append(Part(f"{usage.requests:,} sent"))
    elif usage.requests and not (figures.state and not usage.in_flight):
        width = len(f"{usage.limit:,}")
        found.append(Part(f"{usage.in_flight:>{width},} of {usage.limit:,} in flight", 1))
        found += [Part(f"{usage.waiting:,} waiting", 3)] if usage.waiting else []
    if sum(usage.retries.values()):
        found.append(_retries(usage.retries))
    if usage.replayed:
        found.append(Part(f"{usage.replayed:,} from the journal", 4))
    if usage.last_error and not figures.over:
        found.append(
            Part(f"last: {_cut(usage.last_error, MOST_ERROR)}", 5, f"last: {_cut(usage.last_error, MOST_ERROR // 2)}")
        )
    return found if usage.requests or usage.replayed or figures.state else ()


def spending(figures: Figures) -> Sequence[Part]:
    """What was spent, what it will come to, and what is left to spend; nothing where nothing is bought."""
    usage = figures.usage
    if not (usage.tokens_in or usage.tokens_out or usage.lost or usage.lost_tokens):
        return ()
    found = [Part(f"{_short(usage.tokens_in)} tokens in, {_short(usage.tokens_out)} out", 3)]
    found.append(Part("no price stated", 5) if usage.cost is None else Part(dollars(usage.cost)))
    if usage.lost or usage.lost_tokens:  # a second Ctrl-C breaks requests off, and some servers count nothing
        lost = f"{_short(usage.lost_tokens)} tokens" if usage.lost_cost is None else dollars(usage.lost_cost)
        how = "lost" if usage.lost else "lost or uncounted"
        found.append(Part(f"at most {lost} {how}", 1 if figures.over else 4))
    cost = figures.at_the_end(usage.cost)
    all_tokens = figures.at_the_end(usage.tokens_in + usage.tokens_out)
    if cost is not None:
        found.append(Part(f"about {dollars(cost)} at the end", 1, f"~{dollars(cost)} at the end"))
    elif all_tokens is not None:
        found.append(Part(f"about {_short(all_tokens)} at the end", 1))
    return [*found, *_left(figures)]


def _left(figures: Figures) -> Sequence[Part]:
    """What may still be spent, and how far it goes where it does not go all the way."""
    usage, left, found = figures.usage, figures.left, []
    for name, used, shown in (
        ("cost", usage.cost, dollars),
        ("tokens", usage.tokens_in + usage.tokens_out, lambda amount: f"{_short(amount)} tokens"),
        ("requests", usage.requests, lambda amount: counted(round(amount), "request")),
    ):
        if name not in left:
            continue
        text = f"{shown(max(left[name], 0.0))} left"
        end = figures.at_the_end(used)
        if used and end is not None and end - used > left[name]:
            more = max(int(figures.made * left[name] / used), 0)
            found.append(Part(f"{text}, enough for about {more:,} more", 1, f"{text}: ~{more:,} more"))
        else:
            found.append(Part(text, 2))
    return found


def _retries(retries: Mapping[str, int]) -> Part:
    commonest = sorted(retries.items(), key=lambda item: (-item[1], item[0]))
    causes = [f"{number:,}x {' '.join(cause.split())}" for cause, number in commonest[:MOST_CAUSES]]
    if len(commonest) > MOST_CAUSES:
        causes.append(f"{sum(number for _, number in commonest[MOST_CAUSES:]):,}x other")
    text = counted(sum(retries.values()), "retry", "retries")
    return Part(f"{text} ({', '.join(causes)})", 2, text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """So many of something: 1 request, 1,310 requests."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """A time for people: 44 s, 3 min 20 s, 18 min, 2 h 05 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _rate(per_second: float) -> str:
    for unit, times in (("s", 1), ("min", 60), ("h", 3600)):
        if per_second * times >= 1 or unit == "h":
            break
    amount = per_second * times
    return f"{amount:,.0f}/{unit}" if amount >= 10 else f"{amount:.1f}/{unit}"


def _short(number: float) -> str:
    """Three digits and a unit: 950, 12.3 k, 1.21 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            amount = number / size
            digits = 0 if amount >= 99.95 else 1 if amount >= 9.995 else 2
            return f"{amount:,.{digits}f} {unit}"
    return f"{number:.0f}"


def _cut(text: str, width: int) -> str:
    """A text in one line, cut between two words where it has any that are short enough."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    whole_words = text[: width - 2].rpartition(" ")[0]
    return f"{whole_words if len(whole_words) > width // 2 else text[: width - 3]}..."


def _rounded(number: float | None, digits: int | None = None) -> float | None:
    return None if number is None else round(number, digits)

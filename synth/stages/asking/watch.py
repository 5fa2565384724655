"""What somebody who looks on is told while a stage asks an LLM."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synth.llm.budget import Budget, Spent
from synth.llm.ceilings import Ceilings
from synth.llm.usage import Usage

if TYPE_CHECKING:
    from synth.stages.asking.work import Outcome


@dataclass
class Watch:
    """
    What somebody who looks on is told while a stage works: seeds done, lines that cannot wait, what it is busy with;
    and what they may ask for at any moment: `usage`, and where the budget stands.
    """

    advance: Callable[[int], None] = lambda number: None
    fail: Callable[[int], None] = lambda number: None  # so many of them gave nothing
    note: Callable[[str], None] = lambda text: None
    state: Callable[[str], None] = lambda text: None
    usage: Callable[[], Usage] = Usage
    spent: Callable[[], Spent] = lambda: Budget(Ceilings()).spent
    ended: Callable[["Outcome"], None] = lambda outcome: None  # told the outcome, before an error too

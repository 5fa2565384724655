"""
The gate: whether so few errors were found among so many that were read that the others may go in unread.

The number of errors in a random sample is binomial; the bound is the one of Clopper and Pearson, exact and one-sided.
"""

from dataclasses import dataclass
from functools import cache

from synth.records import UserError

CONFIDENCE = 0.95
LEAST_LIMIT, GREATEST_LIMIT = 0.001, 0.5


@dataclass(frozen=True, slots=True)
class Gate:
    """
    `errors` among `num_read` that were read, chosen by chance, and the share of errors that is allowed (`limit`).
    Raises UserError if no reading could show that the limit is kept, or if it says nothing.
    """

    num_read: int
    errors: int
    limit: float

    def __post_init__(self) -> None:
        if not LEAST_LIMIT <= self.limit <= GREATEST_LIMIT:  # NaN is not
            raise UserError(
                f"--max-error {self.limit:g} is no share that can be checked;"
                f" give {LEAST_LIMIT:g} to {GREATEST_LIMIT:g}"
            )

    @property
    def bound(self) -> float:
        """With 95 % confidence the true share of errors is not above it."""
        return upper_bound(self.errors, self.num_read)

    @property
    def num_more(self) -> int:
        """How many more must be read without an error until it opens; 0 if it is open."""
        return max(least_read(self.errors, self.limit) - self.num_read, 0)

    @property
    def passes(self) -> bool:
        """Whether what was not read may go in."""
        return self.bound <= self.limit


@cache
def upper_bound(errors: int, num_read: int) -> float:
    """The one-sided upper bound of 95 % of the share of errors; 1.0 where nothing, or nothing right, was read."""
    from scipy.stats import beta

    return float(beta.ppf(CONFIDENCE, errors + 1, num_read - errors)) if errors < num_read else 1.0


def least_read(errors: int, limit: float) -> int:
    """The least number to be read with so many errors for the bound to be within the limit."""
    enough = errors + 1
    while upper_bound(errors, enough) > limit:
        enough *= 2
    too_few = errors
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if upper_bound(errors, middle) > limit:
            too_few = middle
        else:
            enough = middle
    return enough

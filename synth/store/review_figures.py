"""
What people found in the random part of the samples, read in the order of `draw`: the figures that hold for the rest.

The random part is a fifth of all samples, chosen by their ids. Of it only what was read without a gap counts, in each
group of samples on its own: what was judged beyond the first unread one may have come there by suspicion, from another
queue. docs/reviews.md (The gate) and docs/dashboard.md state the rules.
"""

from dataclasses import dataclass

from synth.store.connection import Store
from synth.store.queues import RANDOM_SHARE

AUDITED = "policy:audited"  # whose own approvals take no sample out of a stratum
# Events that count, of samples: no undo, nothing undone.
STANDING = """
    SELECT v.review_id, v.created_at, v.reviewer, v.reviewer_kind, v.sample_id, v.revision_id, v.edited_id, v.verdict,
           coalesce(v.edited_id, v.revision_id) AS head_id, v.seconds, v.saw_scores, v.num_shown,
           coalesce(v.adjudicates, false) AS adjudicates
    FROM review v ANTI JOIN (SELECT u.undoes AS review_id FROM review u WHERE u.undoes IS NOT NULL) w USING (review_id)
    WHERE v.undoes IS NULL AND v.negative_id IS NULL"""
# The random part. `operation`, `model` and `prompt_version` are of the latest revision that no person made; `outcome`
# is null where nobody read the sample; `is_chosen`: a policy other than `audited` had a word on it, so that another
# queue shows it; what such a policy rejected nobody is shown, and it is left out.
READ = f"""
WITH standing AS MATERIALIZED ({STANDING}),
part AS MATERIALIZED (
    SELECT st.sample_id, st.revision_id, st.task, st.source_id, st.status, st.decided_kind, st.adjudication, st.draw
    FROM sample_state st WHERE st.declared_use = 'train' AND st.draw < {RANDOM_SHARE}
),
by_hand AS (SELECT DISTINCT v.edited_id AS revision_id FROM review v WHERE v.edited_id IS NOT NULL),
origin AS (
    SELECT r.sample_id, r.revision_id, r.operation, r.model, r.prompt_version FROM revision r
    SEMI JOIN part USING (sample_id) ANTI JOIN by_hand USING (revision_id) QUALIFY row_number() OVER (
        PARTITION BY r.sample_id ORDER BY r.number DESC, r.created_at DESC, r.revision_id DESC
    ) = 1
),
passed AS (
    SELECT DISTINCT sample_id, head_id AS revision_id FROM standing
    WHERE reviewer_kind = 'human' AND verdict IN ('skip', 'flag')
),
chosen AS (SELECT DISTINCT head_id FROM standing WHERE reviewer_kind = 'policy' AND reviewer <> '{AUDITED}'),
dropped AS (SELECT DISTINCT sample_id FROM negative_verdicts WHERE reviewer_kind = 'human' AND drops),
read AS MATERIALIZED (
    SELECT p.sample_id, p.task, s.name AS source, o.operation, o.model, o.prompt_version, p.draw,
           c.head_id IS NOT NULL AS is_chosen, p.decided_kind = 'human' AS is_decided,
           CASE WHEN p.status = 'disputed' OR p.adjudication IS NOT NULL THEN 'open'
                WHEN is_decided AND p.status = 'rejected' THEN 'rejected'
                WHEN is_decided AND (h.revision_id IS NOT NULL OR d.sample_id IS NOT NULL) THEN 'mended'
                WHEN is_decided THEN 'right'
                WHEN h.revision_id IS NOT NULL OR w.sample_id IS NOT NULL THEN 'open' END AS outcome
    FROM part p JOIN source s ON s.source_id = p.source_id JOIN origin o ON o.sample_id = p.sample_id
    LEFT JOIN by_hand h ON h.revision_id = p.revision_id
    LEFT JOIN passed w ON w.sample_id = p.sample_id AND w.revision_id = p.revision_id
    LEFT JOIN chosen c ON c.head_id = o.revision_id LEFT JOIN dropped d ON d.sample_id = p.sample_id
    WHERE NOT coalesce(p.decided_kind = 'policy' AND p.status = 'rejected', false)
),
turn AS MATERIALIZED (
    SELECT *, bool_and(outcome IS NOT NULL) OVER (
        PARTITION BY {{groups}} ORDER BY draw, sample_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS in_turn FROM read
)
"""
COUNTS = """
    count(*) FILTER (in_turn AND outcome = 'right') AS num_right,
    count(*) FILTER (in_turn AND outcome = 'mended') AS num_mended,
    count(*) FILTER (in_turn AND outcome = 'rejected') AS num_rejected,
    count(*) FILTER (in_turn AND outcome = 'open') AS num_open,
    count(*) FILTER (NOT in_turn AND outcome IS NOT NULL) AS num_out_of_turn"""
STRATA = f"""
{READ.format(groups="source, operation, is_chosen")},
waiting AS (
    SELECT s.name AS source, st.operation, count(*) FILTER (st.status = 'pending') AS num_pending,
           count(*) FILTER (st.decided_kind = 'policy' AND st.decided_by = '{AUDITED}') AS num_audited
    FROM sample_state st JOIN source s ON s.source_id = st.source_id
    ANTI JOIN by_hand h ON h.revision_id = st.revision_id
    WHERE st.declared_use = 'train' GROUP BY ALL
),
found AS (
    SELECT source, operation, {COUNTS}, count(*) AS num_random FROM turn WHERE NOT is_chosen GROUP BY source, operation
)
SELECT source, operation, coalesce(num_right, 0), coalesce(num_mended, 0), coalesce(num_rejected, 0),
       coalesce(num_open, 0), coalesce(num_out_of_turn, 0), coalesce(num_random, 0), coalesce(num_pending, 0),
       coalesce(num_audited, 0)
FROM found FULL JOIN waiting USING (source, operation)
WHERE num_random > 0 OR num_pending > 0 OR num_audited > 0 ORDER BY source, operation
"""
# What acceptance is grouped by.
GROUPS = ("model", "prompt_version", "operation", "source", "task")
ACCEPTANCE_GROUPS = ", ".join((*GROUPS, "is_chosen"))  # each read in its order
ACCEPTANCE = f"""
{READ.format(groups=ACCEPTANCE_GROUPS)}
SELECT name, value, {COUNTS} FROM (
    {" UNION ALL ".join(f"SELECT '{group}' AS name, {group} AS value, in_turn, outcome FROM turn" for group in GROUPS)}
) GROUP BY name, value HAVING count(outcome) > 0 ORDER BY name, value
"""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """
    What became of the samples of the random part that were read in turn: approved as they were, approved after an edit
    or without a negative, rejected, or left open (skipped, flagged, disputed). `num_out_of_turn` more were read beyond
    the first unread one and count for nothing.
    """

    num_right: int
    num_mended: int
    num_rejected: int
    num_open: int
    num_out_of_turn: int

    @property
    def num_read(self) -> int:
        """How many were read in turn."""
        return self.num_right + self.num_mended + self.num_rejected + self.num_open

    @property
    def errors(self) -> int:
        """How many of these people did not approve as they were."""
        return self.num_read - self.num_right

    @property
    def num_approved(self) -> int:
        """How many people approved, mended or not."""
        return self.num_right + self.num_mended

    @property
    def num_decided(self) -> int:
        """How many people approved or rejected."""
        return self.num_approved + self.num_rejected


@dataclass(frozen=True, slots=True)
class Stratum:
    """
    The samples of a source that an operation made and no policy but `audited` decided.

    Attributes:
        read: what people found in its random part.
        num_random: how many samples the random part has, read or not.
        num_pending: how many of all are undecided.
        num_audited: how many the policy `audited` approved, and nobody read since.
    """

    source: str
    operation: str
    read: Outcomes
    num_random: int
    num_pending: int
    num_audited: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was read of the samples with one `value` of one of GROUPS (`name`); no value where there is none."""

    name: str
    value: str | None
    read: Outcomes


def strata(store: Store) -> list[Stratum]:
    """Every source with every operation that has undecided samples, by name."""
    with store.read() as cursor:
        rows = cursor.execute(STRATA).fetchall()
    return [Stratum(source, operation, Outcomes(*counts[:5]), *counts[5:]) for source, operation, *counts in rows]


def acceptance(store: Store) -> list[Accepted]:
    """What people found in the random part, by each of GROUPS; only what anybody read."""
    with store.read() as cursor:
        rows = cursor.execute(ACCEPTANCE).fetchall()
    return [Accepted(name, value, Outcomes(*counts)) for name, value, *counts in rows]

"""A person's condition in SQL: one expression over the view `samples`, which cannot get out of where it is put."""

import pytest

from synth.records import Retrieval, SkiffError, UserError
from synth.store.conditions import matching_samples
from synth.store.connection import Store
from tests.synth.stages.releasing import add, retrieval, source, sts


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two queries, one of them with a parenthesis and a quote, and a pair. Nothing here writes."""
    store = Store.create(tmp_path_factory.mktemp("conditions") / "store.duckdb")
    add(store, source(store), retrieval(1), Retrieval("what's ü (a ')?", ("x",)), sts(2))
    return store


@pytest.mark.parametrize(
    ("condition", "number"),
    [
        ("true", 3),
        ("task = 'retrieval'", 2),
        ("source = 'guide' AND (hardness > -0.1 OR hardness IS NULL)", 3),
        ("query = 'what''s ü (a '')?'", 1),
        ("query = $$what's ü (a ')?$$ -- the hostile one", 1),
        ("task = 'sts' /* not ) ; these */", 1),
        ("sample_id IN (SELECT sample_id FROM reviews)", 0),
        ("query LIKE '%ü%' -- )", 1),
    ],
)
def test_a_condition_selects_samples(filled: Store, condition: str, number: int) -> None:
    found = matching_samples(filled, condition)
    assert (found.num_rows, found.column_names) == (number, ["sample_id", "revision_id"])


@pytest.mark.parametrize(
    "condition",
    [
        "true) OR (true",
        "true) UNION SELECT sample_id, revision_id FROM samples WHERE (true",
        "'ü') OR ('ü' = 'ü'",
        "true); DROP TABLE review; SELECT (true",
        "true;",
        "; true",
        "(true",
        "true)",
        "",
        "  -- nothing",
        "/* nothing */",
        "task = 'sts'\0",
    ],
)
def test_what_would_leave_its_parentheses_is_refused(filled: Store, condition: str) -> None:
    with pytest.raises(UserError, match="is not one SQL expression"):
        matching_samples(filled, condition)


@pytest.mark.parametrize(
    "condition",
    [
        "true /* (",
        "'abc",
        "no_such_column = 1",
        "task = 'sts' ORDER BY task",
        "true, true",
        "SELECT true; true",
        "query = ?",
        "DELETE FROM review",
        "(SELECT count(*) FROM read_csv('/etc/passwd')) > 0",
        "(SELECT content FROM read_text('/etc/passwd')) <> ''",
        "getenv('HOME') <> ''",
        "'no boolean'",
    ],
)
def test_what_does_not_run_or_reaches_outside_is_one_line(filled: Store, condition: str) -> None:
    with pytest.raises(SkiffError) as caught:
        matching_samples(filled, condition)
    assert "\n" not in str(caught.value)

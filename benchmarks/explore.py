"""
What a page of the Explore page costs at a million samples: 50 rows and how many there are, by filter and order.

Example: python benchmarks/explore.py --store stores

Each figure is the median of calls in one process, against the floor: the texts of 50 samples by their ids, in one
statement. Ends with one line of JSON; benchmarks/README.md has the table.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import Any

from store import MILLION, Figures, Goal, apart, made_store, timed

HERE = Path(__file__).resolve().parent
SMALL = 100_000
TIMES = 20
FLOOR = "explore_floor_ms"
# By the name of the figure: what is kept, in which order, which page.
PAGES: MappingProxyType[str, tuple[dict[str, Any], str, int]] = MappingProxyType(
    {
        "all": ({}, "suspicion", 1),
        "page_100": ({}, "suspicion", 100),
        "newest": ({}, "newest", 1),
        "source_and_status": ({"source": "source-1", "status": "pending"}, "hardness", 1),
        "model": ({"model": "generator-7b"}, "suspicion", 1),
        "text": ({"text": "harbour"}, "suspicion", 1),
        "flagged": ({"flagged": "by mining"}, "suspicion", 1),
    }
)
GOALS = tuple(Goal(f"explore_{name}_ms", "ms", 300, f"a page of 50: {name.replace('_', ' ')}", FLOOR) for name in PAGES)


def main() -> None:
    """Measure; figures go to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute: 100,000 samples")
    parser.add_argument(
        "--data", type=Path, default=HERE.parent / "data" / "sample", help="folder whose texts are cut up"
    )
    parser.add_argument("--store", type=Path, help="keep the made store in this folder, and use the one that is there")
    parser.add_argument("--markdown", action="store_true", help="print the table of benchmarks/README.md as well")
    options = parser.parse_args()
    num_samples = SMALL if options.quick else MILLION
    with tempfile.TemporaryDirectory() as scratch:
        path = made_store(options.data, options.store or Path(scratch), num_samples)
        figures: Figures = {"samples": num_samples, **apart(_measured, path)}
    if options.markdown:
        sys.stdout.write("| what | figure | measured | floor | bound | met |\n|---|---|---|---|---|---|\n")
        sys.stdout.write("\n".join([*(goal.row(figures) for goal in GOALS), "", ""]))
    sys.stdout.write(json.dumps({key: round(value, 3) for key, value in figures.items()}) + "\n")


def _measured(path: Path) -> Figures:
    from synth.store.connection import Store
    from synth.store.exploring import Filter, Flagged, Sorting, page_of

    store = Store.open(path)
    ids = [str(each.head.revision_id) for each in page_of(store, Filter(), Sorting.SUSPICION, 1).listed]

    def keyed_read() -> None:
        with store.read() as cursor:
            cursor.execute(
                "SELECT query, positives FROM revision WHERE rowid IN (SELECT x.rowid FROM revision x"
                " WHERE x.revision_id IN (SELECT unnest($ids::UUID[])))",
                {"ids": ids},
            ).fetchall()

    figures = {FLOOR: timed(keyed_read, TIMES).median}
    for name, (asked, order, number) in PAGES.items():
        if flagged := asked.get("flagged"):
            asked = {"flagged": Flagged(flagged)}
        kept = Filter(**asked)
        figures[f"explore_{name}_ms"] = timed(
            lambda kept=kept, order=order, number=number: page_of(store, kept, Sorting(order), number),  # type: ignore[misc]
            TIMES,
        ).median
    return figures


if __name__ == "__main__":
    main()

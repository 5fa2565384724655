"""What tests of the pages share: a page as Streamlit runs it, without a browser, on the test's store."""

import sys
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from synth.store.connection import Store

ShowPage = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def main_module_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit makes its script the main module, which processes that later tests begin would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def show_page(store: Store) -> ShowPage:
    """Run one of review_app's modules of a page, on the test's store."""

    def run(module: str, reviewer: str = "ada", **query: str) -> AppTest:
        page = AppTest.from_function(draw, args=(module, str(store.path), reviewer), default_timeout=60)
        page.query_params.update(query)
        page.run()
        assert not page.exception
        return page

    return run


def draw(module: str, path: str, reviewer: str) -> None:
    from importlib import import_module
    from pathlib import Path

    from synth.store.connection import Store

    import_module(f"review_app.{module}").show(Store.open(Path(path)), reviewer)

"""Models as their libraries load them: without progress bars, and with one line for what keeps a model from loading."""

from collections.abc import Iterator
from contextlib import contextmanager

from mining import MiningError


@contextmanager
def loading(name: str, kind: str) -> Iterator[None]:
    """
    What is loaded within it is a model of this name, "an embedding model" or whatever else it is.

    Raises:
        MiningError: it is no model that can be read.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MiningError(
            f"{name!r} cannot be loaded as {kind} ({reason}): give a folder saved by sentence-transformers or "
            "transformers, or the name of a package or hub repository that holds one"
        ) from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]

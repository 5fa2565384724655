"""
Tasks of mteb by name, measured by the library itself: its data, its protocol, its main score.

A model that takes instructions is given each task's own, before queries and before every text of the symmetric tasks,
as the report does; they stand in the library, in the words of Qwen3-Embedding's evaluation. Data come from the Hugging
Face hub or its cache, or from a folder of copies.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mining import MiningError
from synth.records import UserError
from synth.screen import progress
from trainer.compare import Change, Settings, measurer_of
from trainer.measure import Measurer

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

MEASURES = {
    "ndcg_at_10": "nDCG@10", "cosine_spearman": "Spearman", "accuracy": "accuracy", "map_at_1000": "MAP@1000",
    "v_measure": "V-measure", "max_ap": "average precision",
}  # fmt: skip


def measure_tasks(
    model: str, against: str, names: Sequence[str], data: Path | None, settings: Settings
) -> tuple[list[Change], str]:
    """
    The main score of each task, averaged over its splits and languages, by both models (or one), and the device.

    Args:
        data: holds a copy of a task's data set as the hub has it, in a folder of the task's name; others are asked of
            the hub.

    Raises:
        UserError: mteb is not installed, there is no such task, or its data cannot be had.
    """
    if find_spec("mteb") is None:
        raise UserError("--mteb needs the mteb library; install it with: pip install 'skiff-embeddings[mteb]'")
    scores: list[list[float]] = []
    measures = [_task(name, data).metadata.main_score for name in names]  # all of them, before any is measured
    told = ""
    for each in (against, model) if against else (model,):
        measurer = measurer_of(each, None, settings)
        told = f"{', '.join(measurer.encoder.devices)}, {measurer.encoder.precision}"
        with progress(f"measuring {each}", len(names)) as advance:
            found = []
            for name in names:
                found.append(_score(_task(name, data), measurer))
                advance(1)
        scores.append(found)
    before: Sequence[float | None] = scores[0] if against else [None] * len(names)
    return [
        Change(name, MEASURES.get(measure, measure), 0, old, new, None if old is None else new - old, note=_protocol())
        for name, measure, old, new in zip(names, measures, before, scores[-1], strict=True)
    ], told


def _protocol() -> str:
    from importlib.metadata import version

    return f"mteb {version('mteb')}"


def _task(name: str, data: Path | None) -> "AbsTask":
    import mteb

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tasks that have been renamed
            task = mteb.get_task(name)
    except KeyError:
        raise UserError(f"--mteb {name}: mteb has no task of this name; see https://huggingface.co/mteb") from None
    if data is not None and (data / name).is_dir():
        task.metadata = task.metadata.model_copy(deep=True)  # it is the class's, for all that ask for the task
        task.metadata.dataset["path"] = str((data / name).resolve())
    return task


def _score(task: "AbsTask", measurer: Measurer) -> float:
    import mteb
    from datasets.exceptions import DatasetsError
    from datasets.utils import disable_progress_bars

    name = task.metadata.name
    disable_progress_bars()
    with _own_cache(task), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            task.load_data()
        except (OSError, ValueError, KeyError, TypeError, DatasetsError) as error:  # no hub is an OSError
            raise UserError(
                f"the data of {name} cannot be had ({_first_line(error)}): copy the data set into FOLDER/{name}, and"
                " say --mteb-data FOLDER"
            ) from None
        try:
            found = mteb.evaluate(_model(measurer), task, cache=None, co2_tracker=False, show_progress_bar=False)
        except MiningError as error:
            raise UserError(f"{name}: {error}") from None
        except (ValueError, KeyError, TypeError, IndexError, DatasetsError) as error:
            raise UserError(
                f"mteb cannot measure {name} on its data ({_first_line(error)}): compare the copy with the hub's"
            ) from None
    return float(found.task_results[0].get_score())


def _first_line(error: Exception) -> str:
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]:.200}"


@contextmanager
def _own_cache(task: "AbsTask") -> Iterator[None]:
    """
    For a copy of the data set a cache of its own: `datasets` knows a folder by its name, and would give what it held
    when it was read first.
    """
    from datasets import config

    if not Path(task.metadata.dataset["path"]).is_dir():
        yield
        return
    usual = config.HF_DATASETS_CACHE
    with TemporaryDirectory() as folder:
        config.HF_DATASETS_CACHE = Path(folder)
        try:
            yield
        finally:
            config.HF_DATASETS_CACHE = usual


def _model(measurer: Measurer) -> Any:
    """The encoder as mteb takes one."""
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType

    encoder = measurer.encoder

    class Model(AbsEncoder):
        mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": "skiff/model", "revision": "none", "similarity_fn_name": ScoringFunction.COSINE,
                "modalities": ["text"],
            }
        )  # fmt: skip

        def encode(self, inputs: Any, *, task_metadata: Any, prompt_type: Any = None, **_: Any) -> Any:
            texts = [text for batch in inputs for text in batch["text"]]
            if prompt_type == PromptType.document:
                return measurer.encode(texts, encoder.passage_instruction)
            own = encoder.query_instruction if prompt_type == PromptType.query else None
            return measurer.encode(texts, measurer.instructed(self.get_instruction(task_metadata, prompt_type)) or own)

    return Model()

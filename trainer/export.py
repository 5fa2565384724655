"""
The trained model as a folder that sentence-transformers, transformers and vLLM load as it is.

Three modules: the transformer, mean pooling, normalisation. A decoder keeps `is_causal: false` in its configuration, by
which every reader knows that its attention goes both ways. Weights are written in fp32, the precision that they were
trained in.
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from synth.records import Task
from trainer.card import write_card
from trainer.config import Config
from trainer.encoder import Encoder
from trainer.lora import merge_updates
from trainer.release import Release
from trainer.texts import query_prefix

if TYPE_CHECKING:
    from torch import Tensor


def export_model(
    encoder: Encoder, release: Release, config: Config, folder: Path, weights: "dict[str, Tensor] | None" = None
) -> None:
    """
    Write the model, its prompts and its card into a folder that holds the run's record already. `weights`: those of a
    model of which other processes hold parts.

    Raises:
        OSError, safetensors.SafetensorError: the disk did not take it.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    trained = max(config.query_tokens, config.passage_tokens)
    length = min(encoder.max_tokens, max(trained, encoder.stated_tokens))
    plain = folder / "plain"
    if config.lora_rank:
        merge_updates(encoder.model)
    encoder.model.save_pretrained(plain, state_dict=weights)
    encoder.tokenizer.save_pretrained(plain)
    transformer = Transformer(str(plain), max_seq_length=length)
    mode = {"mean": "mean", "last": "lasttoken"}[encoder.pooling]
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), mode), Normalize()]
    model = SentenceTransformer(modules=modules, prompts=query_prompts(release), device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(plain)
    share(folder)
    write_card(folder)


def share(folder: Path) -> None:
    """Let everyone read the weights whom the folder's other files let: safetensors writes them for the owner alone."""
    usual = (folder / "config.json").stat().st_mode
    for file in folder.rglob("*.safetensors"):
        file.chmod(usual)


def query_prompts(release: Release) -> dict[str, str]:
    """
    Prompts for sentence-transformers: each dataset's prefix under its name, `query` where all retrieval datasets have
    the same one (else nothing: the wrong instruction is worse than none), and nothing for `document`.
    """
    own = {name: text for task in release.samples for name, text in sorted(instructions(release, task).items())}
    shared = set(instructions(release, Task.RETRIEVAL).values())
    prompts = {name: query_prefix(text) for name, text in own.items() if text}
    return prompts | {"query": query_prefix(shared.pop()) if len(shared) == 1 else "", "document": ""}


def instructions(release: Release, task: Task) -> dict[str, str]:
    """The most frequent instruction of each dataset of a task."""
    table = release.samples.get(task)
    if table is None:
        return {}
    counts: dict[str, Counter[str]] = {}
    names, texts = table.column("dataset").to_pylist(), table.column("instruction").to_pylist()
    for name, instruction in zip(names, texts, strict=True):
        counts.setdefault(name, Counter())[instruction or ""] += 1
    return {name: min(counter, key=lambda text: (-counter[text], text)) for name, counter in counts.items()}

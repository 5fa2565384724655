"""Vectors of texts of which none answers another: all are encoded alike, as queries."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from synth.stages.encoders import EncoderSettings, open_encoder
from synth.stages.mine.miners import Vectors
from synth.stages.mine.settings import MineSettings

ENCODER = tuple(each.name for each in fields(EncoderSettings))


def counted(settings: MineSettings, task: str, *names: str) -> dict[str, Any]:
    """The settings that count where no passage is searched for: the encoder's, and those named."""
    return {"task": task} | {name: getattr(settings, name) for name in (*ENCODER, "precision", *names)}


def symmetric_vectors(settings: MineSettings, folder: Path, notes: list[str], *, device: str) -> Vectors:
    """
    The encoder that the settings name, whose `queries` are to encode all texts.

    Args:
        folder: where vectors are cached.
        notes: is given a line for each file of the cache that was damaged, and each process that died.

    Raises UserError and MiningError as `open_encoder` does.
    """
    wanted = EncoderSettings(**{name: getattr(settings, name) for name in ENCODER})
    return Vectors(open_encoder(wanted, folder, device=device, precision=settings.precision), folder, notes)

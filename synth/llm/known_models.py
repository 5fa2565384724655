"""
Which model stands behind a name at a server: told by the vectors that it gives for fixed texts.

Servers keep a name and change the model behind it, and the vectors of one must not be mixed with the other's. No digest
of rounded numbers can tell: the same model gives numbers that differ in the fifth digit from one request to the next,
and among thousands of them some always cross a rounding edge. So the vectors are kept, and compared.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synth.records import SkiffError

PROBES = ("The harbour freezes in January, and the ferry stops.", "冬天港口结冰，渡轮停航。")
# From this cosine on two vectors of a text are one model's. Another batch, fp16 and bf16 leave it above 0.9999 (with
# MiniLM; less is left where there are more layers); 8 bits for a weight give 0.99975, a training that moves each weight
# by a hundredth of their spread 0.9994, 6 bits 0.997.
SAME = 0.9995
FOLDER = "endpoints"


def recognised(vectors_PD: NDArray[np.float32], folder: Path, model: str) -> str | None:
    """
    The id of the model that gave these vectors before under this name, None if none did.

    Args:
        vectors_PD: of the P probes, L2-normalised.
        folder: of the cache of vectors.

    Raises:
        SkiffError: the folder cannot be read.
    """
    try:
        for path in sorted(_home(folder, model, vectors_PD.shape[1]).glob("*.npy")):
            try:
                known_PD = np.load(path, allow_pickle=False)
            except (ValueError, EOFError):  # damaged: it recognises nothing any more
                continue
            fits = known_PD.shape == vectors_PD.shape and known_PD.dtype == np.float32
            if fits and agreement(vectors_PD, known_PD) >= SAME:
                return path.stem
    except OSError as error:
        raise SkiffError(f"{folder} cannot be read ({error.strerror}): check the folder of cached vectors") from None
    return None


def remember(vectors_PD: NDArray[np.float32], folder: Path, model: str) -> str:
    """
    Keep the vectors of a model that is new, and return its id.

    Raises:
        SkiffError: the folder cannot be written.
    """
    home = _home(folder, model, vectors_PD.shape[1])
    name = hashlib.sha256(vectors_PD.tobytes()).hexdigest()[:16]
    partial = home / f"{name}.{os.getpid()}.part"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, vectors_PD)
        partial.replace(home / f"{name}.npy")
    except OSError as error:
        raise SkiffError(f"{home} cannot be written ({error.strerror}): make room, and run again") from None
    return name


def agreement(one_PD: NDArray[np.float32], other_PD: NDArray[np.float32]) -> float:
    """The least cosine of two normalised vectors of the same probe."""
    return float((one_PD * other_PD).sum(axis=1).min())


def _home(folder: Path, model: str, dimension: int) -> Path:
    return folder / FOLDER / hashlib.sha256(f"{model}\0{dimension}".encode()).hexdigest()[:16]

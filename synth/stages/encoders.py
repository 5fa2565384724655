"""Which encoder the settings mean: vectors computed elsewhere, a model at a server, or a model on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synth.records import UserError, text_id

if TYPE_CHECKING:
    from mining.encode import Encoder


@dataclass(frozen=True)
class EncoderSettings:
    """What decides the vectors of a text."""

    encoder: str  # a folder of vectors, or a model: its name at the server if there is a base_url, else on this machine
    base_url: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    dimensions: int | None = None  # asked of a server; None: the model's own
    query_instruction: str | None = None  # put before each query; None: what the model itself names, if it does
    passage_instruction: str | None = None
    max_length: int | None = None  # tokens, of a model on this machine; None: the model's own limit


def open_encoder(settings: EncoderSettings, folder: Path, *, device: str, precision: str) -> "Encoder":
    """
    The encoder that the settings mean. A server is asked nothing yet.

    Args:
        folder: where vectors are cached.
        device: of a model on this machine, as for `mining.encode.load_encoder`; `precision` alike.

    Raises UserError if a setting makes no sense, and MiningError if there is no such model or the vectors are unfit.
    """
    if settings.base_url:
        from synth.llm.embeddings import open_endpoint

        _refuse(settings, "a model at a server, which decides itself how much of a text it reads", "max_length")
        return open_endpoint(
            settings.base_url,
            settings.encoder,
            folder=folder,
            api_key_env=settings.api_key_env,
            dimensions=settings.dimensions,
            query_instruction=settings.query_instruction or "",
            passage_instruction=settings.passage_instruction or "",
        )
    from mining.precomputed import holds_vectors, open_precomputed

    _refuse(settings, "an encoder without base_url", "dimensions")
    if holds_vectors(Path(settings.encoder)):
        _refuse(settings, "vectors that are there already", "query_instruction", "passage_instruction", "max_length")
        return open_precomputed(Path(settings.encoder), text_id)
    from mining.encode import load_encoder

    return load_encoder(
        settings.encoder,
        device=device,
        precision=precision,
        max_length=settings.max_length,
        query_instruction=settings.query_instruction,
        passage_instruction=settings.passage_instruction,
        folder=folder,
    )


def is_here(name: str) -> bool:
    """Whether an encoder's name is that of a folder on this machine, or of a package that is to carry a model."""
    from mining.model_folder import resolve_model

    return name.startswith(("package:", "/", "./", "../")) or Path(resolve_model(name)).is_dir()


def spending(encoder: "Encoder") -> str:
    """What a server was asked for an encoder so far, in one line; "" where no server is."""
    return str(getattr(encoder, "spent", ""))


def _refuse(settings: EncoderSettings, what: str, *names: str) -> None:
    if stated := [name for name in names if getattr(settings, name) is not None]:
        verb = "does not go" if len(stated) == 1 else "do not go"
        raise UserError(f"encoder {settings.encoder}: {' and '.join(stated)} {verb} with {what}; leave it out")

"""Checkpoints on disk, looked at before they are offered: the operator's commands ask here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from farebox.core.errors import BadRequest
from farebox_engine import demo
from farebox_engine.checkpoint.files import hash_files, weight_files
from farebox_engine.checkpoint.json_file import read_json
from farebox_engine.config import EngineConfig
from farebox_engine.encoders import is_encoder, load_encoder
from farebox_engine.errors import LoadError
from farebox_engine.lora.reading import adapter_files, is_adapter
from farebox_engine.models.loader import load_model
from farebox_engine.seq2seq.loader import is_seq2seq, load_seq2seq
from farebox_engine.seq2seq.sizing import fit


class UnusableCheckpoint(BadRequest):
    code = "unusable_checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that the engine can load. `sha256` is over its weight files."""

    path: Path
    sha256: str
    context_length: int
    parameters: int


def inspect_checkpoint(folder: Path) -> Checkpoint:
    """Check config, tokenizer, and the name and shape of every weight, without computing anything.

    Reads the weights once for their hash; memory stays small, as the model is built without storage.
    Raises UnusableCheckpoint, saying what is wrong with the folder.
    """
    folder = folder.resolve()
    try:
        sha256, context_length, parameters = _inspect(folder, torch.device("meta"), torch.float32)
    except LoadError as error:
        raise UnusableCheckpoint(str(error)) from None
    return Checkpoint(folder, sha256, context_length, parameters)


def kind_of(folder: Path) -> Literal["decoder", "encoder", "encoder-decoder"]:
    """What the folder's config.json describes; what is unknown is taken for a decoder. Raises LoadError."""
    if not folder.is_dir():
        return "decoder"  # whose loader says so
    description = read_json(folder / "config.json")
    if is_encoder(description):
        return "encoder"
    return "encoder-decoder" if is_seq2seq(description) else "decoder"


def _inspect(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[str, int, int]:
    """Hash, context length in tokens, number of parameters."""
    match kind_of(folder):
        case "encoder":
            encoder = load_encoder(folder, device=device, dtype=dtype)
            return encoder.model_hash, encoder.tokenizer.max_length, encoder.parameters
        case "encoder-decoder":
            both = load_seq2seq(folder, device=device, dtype=dtype)
            sizes = fit(both, EngineConfig(device="cpu"))
            parameters = both.encoder_parameters + both.decoder_parameters
            return both.model_hash, sizes.source_length + sizes.target_length, parameters
        case "decoder":
            model = load_model(folder, device=device, dtype=dtype)
            return model.model_hash, model.config.max_position_embeddings, model.parameters


def hash_checkpoint(folder: Path) -> str:
    """The SHA-256 that `inspect_checkpoint` or `inspect_adapter` would report. Raises UnusableCheckpoint."""
    try:
        return hash_files(adapter_files(folder) if is_adapter(folder) else weight_files(folder))
    except LoadError as error:
        raise UnusableCheckpoint(str(error)) from None


def demo_folder() -> Path:
    """The model that travels with Farebox."""
    return demo.path()


def describe_device() -> str:
    """What models run on here by default, in words."""
    if not torch.cuda.is_available():
        return f"no GPU; models run on the CPU with {torch.get_num_threads()} threads"
    return ", ".join(
        f"{torch.cuda.get_device_name(index)} ({_gibibytes(index)} GiB)"
        for index in range(torch.cuda.device_count())
    )


def _gibibytes(index: int) -> int:
    return int(torch.cuda.get_device_properties(index).total_memory) >> 30

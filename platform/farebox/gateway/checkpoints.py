"""Checkpoints on disk, looked at before they are offered: the operator's commands ask here."""

from dataclasses import dataclass
from pathlib import Path

import torch

from farebox.core.errors import BadRequest
from farebox_engine import demo
from farebox_engine.errors import LoadError
from farebox_engine.loader import hash_files, load_model, weight_files
from farebox_engine.lora.reading import adapter_files, is_adapter


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
        loaded = load_model(folder, device=torch.device("meta"), dtype=torch.float32)
    except LoadError as error:
        raise UnusableCheckpoint(str(error)) from None
    return Checkpoint(
        path=folder,
        sha256=loaded.model_hash,
        context_length=loaded.config.max_position_embeddings,
        parameters=loaded.parameters,
    )


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

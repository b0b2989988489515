"""Opening a Hugging Face folder, reading data only: no pickle, no code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from farebox_engine.checkpoint.families import Families
from farebox_engine.checkpoint.fields import ConfigError
from farebox_engine.checkpoint.files import hash_files, weight_files
from farebox_engine.checkpoint.json_file import read_json
from farebox_engine.checkpoint.quantized import refuse_quantized
from farebox_engine.checkpoint.tensors import Fill, Tensors, load_module
from farebox_engine.errors import LoadError

_Family = TypeVar("_Family")


@dataclass(frozen=True, slots=True)
class OpenFolder(Generic[_Family]):
    """A checkpoint whose files are open. `description` is what its config.json says."""

    path: Path
    description: Mapping[str, object]
    family: _Family
    tensors: Tensors
    _weight_files: list[Path]

    def load_module(
        self,
        build: Callable[[], nn.Module],
        fill: Fill,
        *,
        layers: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> nn.Module:
        """A module filled with the tensors, ready to compute; see `checkpoint.tensors.load_module`."""
        module = load_module(build, fill, self.tensors, layers=layers, device=device, dtype=dtype)
        return module.eval()

    def hash(self) -> str:
        """SHA-256 over the weight files, hexadecimal."""
        return hash_files(self._weight_files)


@contextmanager
def open_folder(folder: str | Path, families: Families[_Family]) -> Iterator[OpenFolder[_Family]]:
    """Open the checkpoint in `folder`, to be read within a `with` block.

    A `ConfigError` that is raised in the block becomes a `LoadError` that names the folder.

    Raises:
        LoadError: something is missing, broken or not supported; one sentence that says
            what and how to mend it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise LoadError(f"There is no folder {path}; give the path of a Hugging Face checkpoint.")
    description = read_json(path / "config.json")
    family = families.of(description)
    refuse_quantized(path, description)
    files = weight_files(path)
    try:
        with Tensors(files) as tensors:
            yield OpenFolder(path, description, family, tensors, files)
    except ConfigError as error:
        raise LoadError(f"{path} cannot be loaded: {error}") from error


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module has learned; tied ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())

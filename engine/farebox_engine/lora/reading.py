"""From peft's folder format to an adapter: every tensor finds its place in the base model, or none does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from farebox_engine.checkpoint.fields import ConfigError
from farebox_engine.checkpoint.files import hash_files
from farebox_engine.checkpoint.json_file import read_json
from farebox_engine.checkpoint.symlinks import refuse_special_file
from farebox_engine.checkpoint.tensors import Tensors
from farebox_engine.errors import LoadError
from farebox_engine.lora.adapter import Adapter, LowRank
from farebox_engine.lora.config import FILE_NAME, LoraConfig, read_lora
from farebox_engine.machine import is_shortage
from farebox_engine.models.loader import LoadedModel
from farebox_engine.models.weights import Slot, weight_slots

WEIGHTS_NAME = "adapter_model.safetensors"
PREFIX = "base_model.model."
_TENSOR = re.compile(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True, slots=True)
class Place:
    """A projection that can have an adapter, or a part of one.

    `source` is its path in the checkpoint, `path` ours, `slot` its place in our weight, which
    has `columns` inputs.
    """

    source: str
    path: str
    slot: Slot
    columns: int


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter, by peft's naming."""
    return (folder / FILE_NAME).is_file()


def adapter_files(folder: Path) -> list[Path]:
    """The files that decide what an adapter computes.

    Raises:
        LoadError: one is missing, or lies outside of the folder.
    """
    if not folder.is_dir():
        raise LoadError(f"There is no folder {folder}; give the path of an adapter as peft saves it.")
    files = [folder / FILE_NAME, folder / WEIGHTS_NAME]
    for path in files:
        refuse_special_file(path)
        if not path.is_file():
            pickled = " (a *.bin is a pickle and is never opened)" if any(folder.glob("*.bin")) else ""
            raise LoadError(f"{folder} has no {path.name}{pickled}; save the adapter with peft again.")
    return files


def adaptable_places(loaded: LoadedModel) -> list[Place]:
    """Where `loaded` can have adapters; it must not have been packed."""
    if not isinstance(loaded.model, nn.Module):
        return []
    return list(adaptable(loaded.model, weight_slots(loaded.model, loaded.naming)))


def read_adapter(name: str, folder: str | Path, loaded: LoadedModel, places: Seq[Place]) -> Adapter:
    """Read the adapter in `folder` for a model with these `places`, cast to its dtype.

    Raises:
        LoadError: something is missing, does not fit the model or is not supported; one sentence.
    """
    folder = Path(folder)
    files = adapter_files(folder)
    try:
        config = read_lora(read_json(files[0]))
        with Tensors(files[1:]) as tensors:
            matrices = _place(config, tensors, loaded, places)
    except ConfigError as error:
        raise LoadError(f"{folder} cannot be loaded: {error}") from error
    except Exception as error:
        if not is_shortage(error):
            raise
        raise LoadError(f"There is no memory left for {folder}; unload an adapter first.") from error
    return Adapter(name, hash_files(files), config.rank, matrices)


def adaptable(module: nn.Module, naming_slots: Mapping[str, Slot]) -> Iterator[Place]:
    """Each projection that can have an adapter; `module` must not have been packed."""
    linear = {path for path, each in module.named_modules() if isinstance(each, nn.Linear)}
    for source, slot in naming_slots.items():
        path, _, kind = slot.name.rpartition(".")
        if kind == "weight" and path in linear and path.startswith("layers."):
            columns = module.get_parameter(slot.name).shape[1]
            yield Place(source.removesuffix(".weight"), path, slot, columns)


def _place(
    config: LoraConfig, tensors: Tensors, loaded: LoadedModel, places: Seq[Place]
) -> dict[str, tuple[LowRank, ...]]:
    if not isinstance(loaded.model, nn.Module):
        raise ConfigError("this model takes no adapters.")
    found = _pairs(tensors)
    matrices: dict[str, tuple[LowRank, ...]] = {}
    _refuse_strangers(found, {place.source for place in places})
    for place in places:
        source, path = place.source, place.path
        if not config.covers(source, int(path.split(".")[1])):
            if source in found:
                raise ConfigError(f"it holds an adapter of {source}, which its {FILE_NAME} does not name.")
            continue
        if source not in found:
            # Only "all-linear" leaves open which they are.
            if config.targets is None:
                continue
            raise ConfigError(f"it lacks the adapter of {source}, which its {FILE_NAME} names.")
        if config.transposed and not place.slot.transposed:
            raise ConfigError(f"fan_in_fan_out is true, but {source} is not stored transposed.")
        part = _low_rank(config, tensors, place, loaded)
        matrices[path] = (*matrices.get(path, ()), part)
    if not matrices:
        raise ConfigError(f"its {FILE_NAME} names no module of this model.")
    return matrices


def _pairs(tensors: Mapping[str, Tensor]) -> set[str]:
    """The modules that have both matrices."""
    halves: dict[str, set[str]] = {"A": set(), "B": set()}
    for name in tensors:
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise ConfigError(f"it holds the tensor {name}, which is not supported.")
        halves[match[2]].add(match[1])
    single = halves["A"] ^ halves["B"]
    if single:
        raise ConfigError(f"it holds only one of the two matrices of {min(single)}.")
    return halves["A"]


def _refuse_strangers(found: set[str], known: set[str]) -> None:
    strange = found - known
    if strange:
        raise ConfigError(f"it adapts {min(strange)}, which this model does not have or cannot adapt.")


def _low_rank(config: LoraConfig, tensors: Tensors, place: Place, loaded: LoadedModel) -> LowRank:
    source, slot = place.source, place.slot
    names = [f"{PREFIX}{source}.lora_{half}.weight" for half in "AB"]
    expected = ([config.rank, place.columns], [slot.stop - slot.start, config.rank])
    for half, name, shape in zip("AB", names, expected, strict=True):
        found = list(tensors.outline(name).shape)
        if found != shape:
            raise ConfigError(
                f"lora_{half} of {source} has shape {found}, but r and the model imply {shape}."
            )
    down, up = (tensors[name] for name in names)
    scaled = up.float() * config.scale
    return LowRank(
        down.to(device=loaded.device, dtype=loaded.dtype),
        scaled.to(device=loaded.device, dtype=loaded.dtype),
        slot.start,
        slot.stop,
    )

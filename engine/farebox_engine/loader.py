"""From a Hugging Face folder to a model, reading data only: no pickle, no code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from farebox_engine.config import ConfigError, DecoderConfig
from farebox_engine.errors import LoadError
from farebox_engine.generation_defaults import GenerationDefaults
from farebox_engine.json_file import read_json, read_optional_json
from farebox_engine.models.weights import Naming
from farebox_engine.registry import FAMILIES, CausalLM, Family
from farebox_engine.tokenizer import ChatTokenizer

_HASH_CHUNK = 1 << 20
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run. `model_hash` is the SHA-256 over its weight files, hexadecimal."""

    model: CausalLM
    config: DecoderConfig
    tokenizer: ChatTokenizer
    eos_token_ids: frozenset[int]
    defaults: GenerationDefaults
    model_hash: str
    parameters: int
    device: torch.device
    dtype: torch.dtype
    naming: Naming


def load_model(folder: str | Path, *, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Read config, weights and tokenizer of the checkpoint in `folder`.

    Raises:
        LoadError: something is missing, broken or not supported; one sentence that says
            what and how to mend it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LoadError(f"There is no folder {folder}; give the path of a Hugging Face checkpoint.")
    description = read_json(folder / "config.json")
    family = _family(description)
    files = weight_files(folder)
    try:
        config = family.read_config(description)
        defaults = GenerationDefaults.read(folder)
        model = allocate(family, config, device, dtype)
        with Tensors(files) as tensors:
            family.load(model, tensors)
    except ConfigError as error:
        raise LoadError(f"{folder} cannot be loaded: {error}") from error
    tokenizer = ChatTokenizer.load(folder, config.vocab_size)
    return LoadedModel(
        model=cast(CausalLM, model.eval()),
        config=config,
        tokenizer=tokenizer,
        eos_token_ids=_end_tokens(folder, config),
        defaults=defaults,
        model_hash=hash_files(files),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=device,
        dtype=dtype,
        naming=family.naming,
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, by its index if it has one, in order of their names.

    Raises:
        LoadError: there are none, one is missing, or the index points out of the folder.
    """
    index = read_optional_json(folder / _INDEX)
    if not index:
        files = sorted(folder.glob("*.safetensors"))
        if files:
            return files
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) or any(folder.glob("*.pkl")):
            raise LoadError(
                f"{folder} holds its weights in a pickle, which can run code when it is opened; "
                "convert them to safetensors."
            )
        raise LoadError(f"{folder} has no *.safetensors file; export the model as safetensors.")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise LoadError(f"{folder / _INDEX} has no weight_map; export the model again.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise LoadError(f"{folder / _INDEX} names {name!r}, which is no safetensors file in its folder.")
        if not (folder / name).is_file():
            raise LoadError(f"{folder} lacks {name}, which its index names; copy the file there.")
    return [folder / name for name in names]


def hash_files(files: list[Path]) -> str:
    """SHA-256 over the names and contents of `files`, hexadecimal."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while data := file.read(_HASH_CHUNK):
                digest.update(data)
    return digest.hexdigest()


class Tensors(Mapping[str, Tensor]):
    """The tensors of several safetensors files by name, read when asked for; a context manager."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._stack = ExitStack()
        self._homes: dict[str, safe_open] = {}

    def __enter__(self) -> Tensors:
        for path in self._files:
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                self._stack.close()
                raise LoadError(
                    f"{path} is not a whole safetensors file ({error}); copy or download it again."
                ) from error
            self._homes.update(dict.fromkeys(file.keys(), file))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._homes[name].get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


def _family(description: Mapping[str, object]) -> Family:
    model_type = description.get("model_type")
    family = FAMILIES.get(str(model_type))
    if family is not None:
        return family
    code = " Code that comes with a checkpoint is never run." if description.get("auto_map") else ""
    known = ", ".join(sorted(FAMILIES))
    raise LoadError(f"Models of type {model_type!r} are not supported; supported are: {known}.{code}")


def allocate(family: Family, config: DecoderConfig, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Build a decoder with uninitialised parameters; tied ones stay tied."""
    return allocate_module(lambda: family.build(config), device, dtype)


def allocate_module(build: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """As `allocate`, for any module."""
    with torch.device("meta"):
        model = build()
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in made:
                storage = torch.empty(parameter.shape, dtype=dtype, device=device)
                made[parameter] = nn.Parameter(storage, requires_grad=False)
            setattr(module, name, made[parameter])
    return model


def _end_tokens(folder: Path, config: DecoderConfig) -> frozenset[int]:
    """generation_config.json decides where it speaks: chat models end turns with other tokens than texts."""
    value = read_optional_json(folder / "generation_config.json").get("eos_token_id")
    if value is None:
        return frozenset(config.eos_token_ids)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(token, int) and 0 <= token < config.vocab_size for token in values):
        raise LoadError(
            f"{folder}/generation_config.json has an eos_token_id outside the vocabulary: {value}."
        )
    return frozenset(values)

"""From a Hugging Face folder to a model, reading data only: no pickle, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from farebox_engine.checkpoint import tensors
from farebox_engine.checkpoint.config import ConfigError, DecoderConfig
from farebox_engine.checkpoint.files import hash_files, weight_files
from farebox_engine.checkpoint.json_file import read_json, read_optional_json
from farebox_engine.checkpoint.quantized import refuse_quantized
from farebox_engine.checkpoint.tensors import Tensors, load_module, outline_module
from farebox_engine.errors import LoadError
from farebox_engine.models.registry import FAMILIES, CausalLM, Family
from farebox_engine.models.sampling_defaults import GenerationDefaults
from farebox_engine.models.weights import Naming
from farebox_engine.tokenization.tokenizer import ChatTokenizer


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
    refuse_quantized(folder, description)
    files = weight_files(folder)
    try:
        config = family.read_config(description)
        defaults = GenerationDefaults.read(folder)
        with Tensors(files) as tensors:
            model = load_module(
                lambda: family.build(config),
                family.load,
                tensors,
                layers=config.num_layers,
                device=device,
                dtype=dtype,
            )
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
    module = outline_module(lambda: family.build(config))
    tensors.allocate(module, device, dtype)
    return module


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

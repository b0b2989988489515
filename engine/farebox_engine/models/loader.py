"""From a Hugging Face folder to a model, reading data only: no pickle, no code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from farebox_engine.checkpoint import tensors
from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.checkpoint.folder import count_parameters, open_folder
from farebox_engine.checkpoint.json_file import read_optional_json
from farebox_engine.checkpoint.tensors import outline_module
from farebox_engine.errors import LoadError
from farebox_engine.models.registry import FAMILIES, CausalLM, Family
from farebox_engine.models.sampling_defaults import GenerationDefaults
from farebox_engine.models.weights import Naming, has_own_head
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
    with open_folder(folder, FAMILIES) as checkpoint:
        family = checkpoint.family
        config = family.read_config(checkpoint.description)
        if config.tie_word_embeddings and has_own_head(checkpoint.tensors, family.naming):
            config = replace(config, tie_word_embeddings=False)
        defaults = GenerationDefaults.read(checkpoint.path)
        model = checkpoint.load_module(
            lambda: family.build(config), family.load, layers=config.num_layers, device=device, dtype=dtype
        )
    tokenizer = ChatTokenizer.load(checkpoint.path, config.vocab_size)
    return LoadedModel(
        model=cast(CausalLM, model),
        config=config,
        tokenizer=tokenizer,
        eos_token_ids=_end_tokens(checkpoint.path, config, tokenizer),
        defaults=defaults,
        model_hash=checkpoint.hash(),
        parameters=count_parameters(model),
        device=device,
        dtype=dtype,
        naming=family.naming,
    )


def allocate(family: Family, config: DecoderConfig, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Build a decoder with uninitialised parameters; tied ones stay tied."""
    module = outline_module(lambda: family.build(config))
    tensors.allocate(module, device, dtype)
    return module


def _end_tokens(folder: Path, config: DecoderConfig, tokenizer: ChatTokenizer) -> frozenset[int]:
    """generation_config.json decides where it speaks: chat models end turns with other tokens than texts.

    Where neither it nor config.json names one, the tokenizer does: an answer without an end is all cost.
    """
    value = read_optional_json(folder / "generation_config.json").get("eos_token_id")
    if value is None:
        own = tokenizer.end_token
        named = () if own is None or own >= config.vocab_size else (own,)
        return frozenset(config.eos_token_ids or named)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(token, int) and 0 <= token < config.vocab_size for token in values):
        raise LoadError(
            f"{folder}/generation_config.json has an eos_token_id outside the vocabulary: {value}."
        )
    return frozenset(values)

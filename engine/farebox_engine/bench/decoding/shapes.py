"""Well-known models' shapes, filled with random weights: speed does not depend on what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.models.loader import LoadedModel, allocate
from farebox_engine.models.registry import FAMILIES, CausalLM
from farebox_engine.models.sampling_defaults import GenerationDefaults
from farebox_engine.tokenization.tokenizer import ChatTokenizer

_LLAMA = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False}
_QWEN3 = {"model_type": "qwen3", "hidden_act": "silu", "attention_bias": False, "head_dim": 128}

# From each model's published config.json; "tiny" is nobody's, to try the benchmark itself.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": _LLAMA
    | {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "smollm-135m": _LLAMA
    | {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "qwen3-0.6b": _QWEN3
    | {
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "max_position_embeddings": 40_960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
    },
    "qwen3-1.7b": _QWEN3
    | {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "max_position_embeddings": 40_960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": _LLAMA
    | {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": False,
    },
}


def build_model(
    shape: Mapping[str, object], device: torch.device, dtype: torch.dtype, deviation: float = 0.02
) -> LoadedModel:
    """Build a model of a Hugging Face configuration, its matrices drawn from a normal distribution."""
    family = FAMILIES.of(shape)
    config = family.read_config(shape)
    model = allocate(family, config, device, dtype)
    _draw_weights(model, device, deviation)
    return LoadedModel(
        model=cast(CausalLM, model.eval()),
        config=config,
        tokenizer=_numbers_tokenizer(config),
        eos_token_ids=frozenset(),
        model_hash="random",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=device,
        dtype=dtype,
        defaults=GenerationDefaults(),
        naming=family.naming,
    )


def move(loaded: LoadedModel, device: torch.device) -> LoadedModel:
    """The same model on another device."""
    cast(nn.Module, loaded.model).to(device)
    return replace(loaded, device=device)


def describe(shape: Mapping[str, object]) -> tuple[DecoderConfig, int]:
    """A configuration as the engine reads it, and how many parameters the model has."""
    family = FAMILIES.of(shape)
    config = family.read_config(shape)
    with torch.device("meta"):
        model = family.build(config)
    return config, sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def _draw_weights(model: nn.Module, device: torch.device, deviation: float) -> None:
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=deviation, generator=generator)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def _numbers_tokenizer(config: DecoderConfig) -> ChatTokenizer:
    """A word for every token, so that detokenising costs what it costs in service."""
    vocab = {f"t{token}": token for token in range(config.vocab_size)}
    description = {
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "added_tokens": [],
    }
    return ChatTokenizer(description, None, {})

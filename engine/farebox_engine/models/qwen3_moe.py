"""The Qwen3 decoder with experts (Yang et al. 2025, arXiv 2505.09388)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from farebox_engine.checkpoint.config import ConfigError, DecoderConfig, read_decoder, refuse_settings
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.experts import Experts, SparseMLP
from farebox_engine.layers.mlp import GatedMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.models.decoder import Decoder
from farebox_engine.models.qwen3 import qwen3_block


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3MoeConfig(DecoderConfig):
    """Layers in ``dense_layers`` have one network of ``intermediate_size``, the others experts."""

    num_experts: int
    experts_per_token: int
    expert_size: int
    renormalise: bool
    dense_layers: frozenset[int]
    attention_bias: bool = False


def read_qwen3_moe(config: Mapping[str, object]) -> Qwen3MoeConfig:
    """Read the content of a ``config.json``; see `read_decoder`."""
    fields = Fields(config, "config.json")
    refuse_settings(fields, layer_types=None, mlp_bias=False, dual_chunk_attention_config=None)
    shared = read_decoder(fields, "qwen3_moe", "Qwen3MoeForCausalLM")
    layers = shared["num_layers"]
    # Unlike in the dense Qwen3, transformers gives every layer the window.
    window = None
    if fields.boolean("use_sliding_window", default=False):
        window = fields.window("sliding_window", absent=4096)
    experts, chosen = fields.experts("num_experts", "num_local_experts", default=128)
    expert_size = fields.integer("moe_intermediate_size", minimum=1)
    dense = _dense_layers(fields, layers)
    idle = (experts - chosen) * 3 * shared["hidden_size"] * expert_size
    return Qwen3MoeConfig(
        **shared,
        windows=() if window is None else (window,) * layers,
        idle_parameters=(layers - len(dense)) * idle,
        num_experts=experts,
        experts_per_token=chosen,
        expert_size=expert_size,
        renormalise=fields.boolean("norm_topk_prob", default=False),
        dense_layers=dense,
        attention_bias=fields.boolean("attention_bias", default=False),
    )


def _dense_layers(fields: Fields, layers: int) -> frozenset[int]:
    listed = fields.values.get("mlp_only_layers") or []
    if not isinstance(listed, list):
        raise ConfigError(f"mlp_only_layers must be a list of layers, not {listed!r}.")
    step = fields.integer("decoder_sparse_step", default=1, minimum=1)
    return frozenset(layer for layer in range(layers) if layer in listed or (layer + 1) % step)


class Qwen3MoeForCausalLM(Decoder):
    """See `Decoder`."""

    def __init__(self, config: Qwen3MoeConfig) -> None:
        layers = (
            qwen3_block(config, layer, _mlp(config, layer), bias=config.attention_bias)
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, RMSNorm(config.hidden_size, config.norm_eps))


def _mlp(config: Qwen3MoeConfig, layer: int) -> nn.Module:
    if layer in config.dense_layers:
        return GatedMLP(config.hidden_size, config.intermediate_size)
    return SparseMLP(
        Experts(config.num_experts, config.hidden_size, config.expert_size),
        config.hidden_size,
        config.experts_per_token,
        renormalise=config.renormalise,
    )

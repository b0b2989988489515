"""The Qwen3 decoder: Llama with normalised queries and keys (Yang et al. 2025, arXiv 2505.09388)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from farebox_engine.checkpoint.config import DecoderConfig, read_decoder, refuse_settings
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.attention import SelfAttention
from farebox_engine.layers.block import PreNormBlock
from farebox_engine.layers.mlp import GatedMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.models.decoder import Decoder
from farebox_engine.models.qwen2 import read_qwen_windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3Config(DecoderConfig):
    """``attention_bias`` is on all four projections."""

    attention_bias: bool = False


def read_qwen3(config: Mapping[str, object]) -> Qwen3Config:
    """Read the content of a ``config.json``; see `read_decoder`."""
    fields = Fields({"head_dim": 128} | dict(config), "config.json")
    refuse_settings(fields, mlp_bias=False, dual_chunk_attention_config=None)
    shared = read_decoder(fields, "qwen3", "Qwen3ForCausalLM")
    return Qwen3Config(
        **shared,
        windows=read_qwen_windows(fields, shared["num_layers"]),
        attention_bias=fields.boolean("attention_bias", default=False),
    )


def qwen3_block(config: DecoderConfig, layer: int, mlp: nn.Module, *, bias: bool) -> PreNormBlock:
    """A layer of Qwen3, dense or with experts."""

    def norm(size: int = config.hidden_size) -> RMSNorm:
        return RMSNorm(size, config.norm_eps)

    attention = SelfAttention(config, layer, qkv_bias=bias, output_bias=bias, norm=norm)
    return PreNormBlock(attention, mlp, norm)


class Qwen3ForCausalLM(Decoder):
    """See `Decoder`."""

    def __init__(self, config: Qwen3Config) -> None:
        layers = (
            qwen3_block(
                config,
                layer,
                GatedMLP(config.hidden_size, config.intermediate_size),
                bias=config.attention_bias,
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, RMSNorm(config.hidden_size, config.norm_eps))

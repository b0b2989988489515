"""The Gemma 2 decoder (Riviere et al. 2024, arXiv 2408.00118)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.checkpoint.config import DecoderConfig, read_decoder, read_layer_windows, refuse_settings
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.attention import AttentionRule, SelfAttention
from farebox_engine.layers.block import SandwichNormBlock
from farebox_engine.layers.mlp import GatedMLP, gelu_tanh
from farebox_engine.layers.norm import OffsetRMSNorm
from farebox_engine.models.decoder import Decoder

GELU_TANH = ("gelu_pytorch_tanh", "gelu_new")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma2Config(DecoderConfig):
    """Scores are scaled by ``attention_scale``; ``None`` leaves scores or logits unbounded."""

    attention_scale: float
    attention_bias: bool = False
    attention_softcap: float | None = None
    logit_softcap: float | None = None


def read_gemma2(config: Mapping[str, object]) -> Gemma2Config:
    """Read the content of a ``config.json``; see `read_decoder`."""
    fields = Fields({"head_dim": 256} | dict(config), "config.json")
    refuse_settings(fields, use_bidirectional_attention=False)
    shared = read_decoder(
        fields,
        "gemma2",
        "Gemma2ForCausalLM",
        activations=GELU_TANH,
        activation_field="hidden_activation",
        tied=True,
    )
    window = fields.window("sliding_window", absent=4096)
    layers = shared["num_layers"]
    return Gemma2Config(
        **shared,
        windows=read_layer_windows(fields, layers, window, range(0, layers, 2)),
        attention_scale=fields.number("query_pre_attn_scalar", default=256, above=0.0) ** -0.5,
        attention_bias=fields.boolean("attention_bias", default=False),
        attention_softcap=fields.softcap("attn_logit_softcapping", absent=50.0),
        logit_softcap=fields.softcap("final_logit_softcapping", absent=30.0),
    )


class Gemma2ForCausalLM(Decoder):
    """See `Decoder`."""

    config: Gemma2Config

    def __init__(self, config: Gemma2Config) -> None:
        def norm() -> OffsetRMSNorm:
            return OffsetRMSNorm(config.hidden_size, config.norm_eps)

        layers = (
            SandwichNormBlock(
                SelfAttention(
                    config,
                    layer,
                    rule=AttentionRule(
                        config.window(layer), config.attention_scale, config.attention_softcap
                    ),
                    qkv_bias=config.attention_bias,
                    output_bias=config.attention_bias,
                ),
                GatedMLP(config.hidden_size, config.intermediate_size, activation=gelu_tanh),
                norm,
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, norm())

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """See `Decoder.embed`."""
        return scaled_embedding(super().embed(tokens, positions))

    def logits(self, hidden: Tensor) -> Tensor:
        """See `Decoder.logits`."""
        return capped(super().logits(hidden), self.config.logit_softcap)


def scaled_embedding(hidden: Tensor) -> Tensor:
    """Gemma's embeddings are as long as its other states: times sqrt(size), rounded to their dtype."""
    return hidden * float(torch.tensor(hidden.shape[-1] ** 0.5, dtype=hidden.dtype))


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Bound ``logits`` to ``softcap`` * tanh(logits / ``softcap``)."""
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)

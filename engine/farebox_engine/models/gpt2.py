"""The GPT-2 decoder (Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from farebox_engine.checkpoint.config import (
    ConfigError,
    DecoderConfig,
    refuse_other_activations,
    refuse_other_models,
    refuse_settings,
)
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.attention import AttentionRule, SelfAttention
from farebox_engine.layers.block import PreNormBlock
from farebox_engine.layers.mlp import gelu_tanh
from farebox_engine.models.decoder import Decoder
from farebox_engine.models.weights import Naming

GPT2_NAMING = Naming(
    prefix="transformer.",
    renamed={
        "embed_tokens": "wte",
        "embed_positions": "wpe",
        "layers": "h",
        "input_layernorm": "ln_1",
        "self_attn": "attn",
        "qkv_proj": "c_attn",
        "o_proj": "c_proj",
        "post_attention_layernorm": "ln_2",
        "up_proj": "c_fc",
        "down_proj": "c_proj",
        "norm": "ln_f",
    },
    fused=True,
    # "Conv1D" in the original code: y = x W + b.
    transposed=frozenset({"qkv_proj", "o_proj", "up_proj", "down_proj"}),
    # Causal masks that old exports carry along.
    ignored=r"\.attn\.(masked_)?bias$",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GPT2Config(DecoderConfig):
    """``scaled`` divides scores by head_dim ** 0.5, ``scaled_by_layer`` by the layer's number, from 1."""

    scaled: bool = True
    scaled_by_layer: bool = False

    def attention_scale(self, layer: int) -> float:
        scale = self.head_dim**-0.5 if self.scaled else 1.0
        return scale / (layer + 1) if self.scaled_by_layer else scale


def read_gpt2(config: Mapping[str, object]) -> GPT2Config:
    """Read the content of a ``config.json``; the fields have names of their own.

    Raises:
        ConfigError: as `read_decoder`.
    """
    fields = Fields(config, "config.json")
    refuse_other_models(fields, "gpt2", "GPT2LMHeadModel")
    refuse_other_activations(fields, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    # reorder_and_upcast_attn only guards half-precision training; what it computes is the same.
    refuse_settings(fields, add_cross_attention=False)
    hidden_size = fields.integer("n_embd", default=768, minimum=1)
    num_heads = fields.integer("n_head", default=12, minimum=1)
    if hidden_size % num_heads:
        raise ConfigError(f"n_embd ({hidden_size}) must be a multiple of n_head ({num_heads}).")
    return GPT2Config(
        vocab_size=fields.integer("vocab_size", minimum=1),
        hidden_size=hidden_size,
        intermediate_size=fields.optional_integer("n_inner", minimum=1) or 4 * hidden_size,
        num_layers=fields.layers("n_layer", default=12),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        max_position_embeddings=fields.integer("n_positions", default=1024, minimum=1),
        norm_eps=fields.number("layer_norm_epsilon", default=1e-5, above=0.0),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", default=True),
        eos_token_ids=fields.token_ids("eos_token_id"),
        scaled=fields.boolean("scale_attn_weights", default=True),
        scaled_by_layer=fields.boolean("scale_attn_by_inverse_layer_idx", default=False),
    )


class GPT2MLP(nn.Module):
    """Two projections with a GELU between them."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(hidden_size, intermediate_size)
        self.down_proj = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape."""
        output: Tensor = self.down_proj(gelu_tanh(self.up_proj(hidden)))
        return output


class GPT2LMHeadModel(Decoder):
    """See `Decoder`."""

    def __init__(self, config: GPT2Config) -> None:
        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(config.hidden_size, config.norm_eps)

        layers = (
            PreNormBlock(
                SelfAttention(
                    config,
                    layer,
                    rule=AttentionRule(scale=config.attention_scale(layer)),
                    qkv_bias=True,
                    output_bias=True,
                ),
                GPT2MLP(config.hidden_size, config.intermediate_size),
                norm,
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, norm())
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """See `Decoder.embed`."""
        hidden: Tensor = super().embed(tokens, positions) + self.embed_positions(positions)
        return hidden

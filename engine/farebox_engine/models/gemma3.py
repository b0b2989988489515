"""The text decoder of Gemma 3 (Kamath et al. 2025, arXiv 2503.19786)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from farebox_engine.checkpoint.config import (
    ConfigError,
    DecoderConfig,
    read_decoder,
    read_layer_windows,
    refuse_settings,
)
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.checkpoint.rope import Rope
from farebox_engine.layers.attention import AttentionRule, SelfAttention
from farebox_engine.layers.block import Rotation, SandwichNormBlock
from farebox_engine.layers.mlp import GatedMLP, gelu_tanh
from farebox_engine.layers.norm import OffsetRMSNorm
from farebox_engine.layers.rotary import RotaryEmbedding
from farebox_engine.models.decoder import Decoder
from farebox_engine.models.gemma2 import GELU_TANH, capped, scaled_embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3Config(DecoderConfig):
    """Layers with a window are rotated by ``local_rope``, the others by ``rope``."""

    attention_scale: float
    local_rope: Rope
    attention_bias: bool = False
    logit_softcap: float | None = None


def read_gemma3(config: Mapping[str, object]) -> Gemma3Config:
    """Read the content of a ``config.json``; see `read_decoder`."""
    fields = Fields({"head_dim": 256, "max_position_embeddings": 131_072} | dict(config), "config.json")
    # transformers reads attn_logit_softcapping but does not apply it.
    refuse_settings(fields, use_bidirectional_attention=False, attn_logit_softcapping=None)
    local, everywhere = _rope_fields(fields)
    shared = read_decoder(
        fields,
        "gemma3_text",
        "Gemma3ForCausalLM",
        activations=GELU_TANH,
        activation_field="hidden_activation",
        rope_fields=everywhere,
        default_theta=1_000_000.0,
        tied=True,
    )
    layers = shared["num_layers"]
    pattern = fields.integer("sliding_window_pattern", default=6, minimum=1)
    sliding = [layer for layer in range(layers) if (layer + 1) % pattern]
    return Gemma3Config(
        **shared,
        windows=read_layer_windows(fields, layers, fields.window("sliding_window", absent=4096), sliding),
        attention_scale=fields.number("query_pre_attn_scalar", default=256, above=0.0) ** -0.5,
        local_rope=Rope.read(local, shared["max_position_embeddings"], shared["head_dim"]),
        attention_bias=fields.boolean("attention_bias", default=False),
        logit_softcap=fields.optional_number("final_logit_softcapping", above=0.0),
    )


def _rope_fields(fields: Fields) -> tuple[Fields, Fields]:
    """The rotary settings of layers with and without a window, in the form that `Rope.read` takes.

    transformers 5 nests one object per layer type; transformers 4 has ``rope_local_base_freq`` beside
    the settings of the global layers.
    """
    nested = fields.mapping("rope_parameters")
    if nested is None:
        return Fields({"rope_theta": fields.values.get("rope_local_base_freq")}, "config.json"), fields
    if not {"sliding_attention", "full_attention"} & nested.values.keys():
        raise ConfigError("rope_parameters must hold one object per layer type for this model.")
    return (
        Fields({"rope_parameters": nested.values.get("sliding_attention")}, "rope_parameters"),
        Fields({"rope_parameters": nested.values.get("full_attention")}, "rope_parameters"),
    )


class Gemma3ForCausalLM(Decoder):
    """See `Decoder`."""

    config: Gemma3Config

    def __init__(self, config: Gemma3Config) -> None:
        def norm(size: int = config.hidden_size) -> OffsetRMSNorm:
            return OffsetRMSNorm(size, config.norm_eps)

        layers = (
            SandwichNormBlock(
                SelfAttention(
                    config,
                    layer,
                    rule=AttentionRule(config.window(layer), config.attention_scale),
                    qkv_bias=config.attention_bias,
                    output_bias=config.attention_bias,
                    norm=norm,
                ),
                GatedMLP(config.hidden_size, config.intermediate_size, activation=gelu_tanh),
                norm,
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, norm())
        self.local_rotary = RotaryEmbedding(config.local_rope)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """See `Decoder.embed`."""
        return scaled_embedding(super().embed(tokens, positions))

    def rotations(self, positions: Tensor, lengths: Tensor | None) -> Sequence[Rotation | None]:
        """See `Decoder.rotations`."""
        everywhere = super().rotations(positions, lengths)
        local = self.local_rotary(positions, lengths)
        return [
            rotation if self.config.window(layer) is None else local
            for layer, rotation in enumerate(everywhere)
        ]

    @property
    def lengths_matter(self) -> bool:
        """See `Decoder.lengths_matter`."""
        return super().lengths_matter or self.local_rotary.lengths_matter

    def logits(self, hidden: Tensor) -> Tensor:
        """See `Decoder.logits`."""
        return capped(super().logits(hidden), self.config.logit_softcap)

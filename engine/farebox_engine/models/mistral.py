"""The Mistral decoder: Llama with a sliding window (Jiang et al. 2023, arXiv 2310.06825)."""

from __future__ import annotations

from collections.abc import Mapping

from farebox_engine.checkpoint.config import DecoderConfig, read_decoder, refuse_settings
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.attention import SelfAttention
from farebox_engine.layers.block import PreNormBlock
from farebox_engine.layers.mlp import GatedMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.models.decoder import Decoder


def read_mistral(config: Mapping[str, object]) -> DecoderConfig:
    """Read the content of a ``config.json``; see `read_decoder`."""
    fields = Fields(config, "config.json")
    # transformers' Mistral gives every layer the window, whatever this list says.
    refuse_settings(fields, layer_types=None, attention_bias=False, mlp_bias=False)
    shared = read_decoder(fields, "mistral", "MistralForCausalLM")
    window = fields.window("sliding_window", absent=4096)
    return DecoderConfig(**shared, windows=() if window is None else (window,) * shared["num_layers"])


class MistralForCausalLM(Decoder):
    """See `Decoder`."""

    def __init__(self, config: DecoderConfig) -> None:
        def norm() -> RMSNorm:
            return RMSNorm(config.hidden_size, config.norm_eps)

        layers = (
            PreNormBlock(
                SelfAttention(config, layer), GatedMLP(config.hidden_size, config.intermediate_size), norm
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, norm())

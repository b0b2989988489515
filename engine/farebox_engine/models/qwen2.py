"""The Qwen2 decoder: Llama with biases on q, k and v (Yang et al. 2024, arXiv 2407.10671)."""

from __future__ import annotations

from collections.abc import Mapping

from farebox_engine.checkpoint.config import DecoderConfig, read_decoder, read_layer_windows, refuse_settings
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.attention import SelfAttention
from farebox_engine.layers.block import PreNormBlock
from farebox_engine.layers.mlp import GatedMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.models.decoder import Decoder


def read_qwen2(config: Mapping[str, object]) -> DecoderConfig:
    """Read the content of a ``config.json``; see `read_decoder`."""
    fields = Fields(config, "config.json")
    # Qwen 1.5 and 2 had a switch for attention over chunks in code of their own.
    refuse_settings(fields, attention_bias=True, mlp_bias=False, dual_chunk_attention_config=None)
    shared = read_decoder(fields, "qwen2", "Qwen2ForCausalLM")
    return DecoderConfig(**shared, windows=read_qwen_windows(fields, shared["num_layers"]))


def read_qwen_windows(fields: Fields, num_layers: int) -> tuple[int | None, ...]:
    """The windows of Qwen 2 and 3: where switched on, layers from ``max_window_layers`` up have one."""
    window = None
    if fields.boolean("use_sliding_window", default=False):
        window = fields.window("sliding_window", absent=4096)
    first = fields.integer("max_window_layers", default=28, minimum=0)
    return read_layer_windows(fields, num_layers, window, range(first, num_layers))


class Qwen2ForCausalLM(Decoder):
    """See `Decoder`."""

    def __init__(self, config: DecoderConfig) -> None:
        def norm() -> RMSNorm:
            return RMSNorm(config.hidden_size, config.norm_eps)

        layers = (
            PreNormBlock(
                SelfAttention(config, layer, qkv_bias=True),
                GatedMLP(config.hidden_size, config.intermediate_size),
                norm,
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, norm())

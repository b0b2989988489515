"""The Phi-3 decoder (Abdin et al. 2024, arXiv 2404.14219): Llama, stored fused, perhaps partly rotated."""

from __future__ import annotations

from collections.abc import Mapping

from farebox_engine.checkpoint.config import ConfigError, DecoderConfig, read_decoder, refuse_settings
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.attention import SelfAttention
from farebox_engine.layers.block import PreNormBlock
from farebox_engine.layers.mlp import GatedMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.models.decoder import Decoder
from farebox_engine.models.weights import Naming

PHI3_NAMING = Naming(fused=True)


def read_phi3(config: Mapping[str, object]) -> DecoderConfig:
    """Read the content of a ``config.json``; see `read_decoder`."""
    defaults = {"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096}
    fields = Fields(defaults | dict(config), "config.json")
    refuse_settings(fields, layer_types=None, attention_bias=False, mlp_bias=False)
    shared = read_decoder(fields, "phi3", "Phi3ForCausalLM", partial_rotary=True)
    scaling = shared["rope"].scaling
    if scaling is not None and scaling.kind != "longrope":
        raise ConfigError(f"rope type {scaling.kind!r} is not supported for phi3; it must be 'longrope'.")
    window = fields.window("sliding_window", absent=None)
    return DecoderConfig(**shared, windows=() if window is None else (window,) * shared["num_layers"])


class Phi3ForCausalLM(Decoder):
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

    @property
    def outgrown_at(self) -> int | None:
        """See `Decoder.outgrown_at`: keys rotated by the short factors and by the long do not mix."""
        scaling = None if self.config.rope is None else self.config.rope.scaling
        return None if scaling is None else scaling.original_max_position_embeddings

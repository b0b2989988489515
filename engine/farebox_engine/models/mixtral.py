"""The Mixtral decoder: Mistral with experts (Jiang et al. 2024, arXiv 2401.04088)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from farebox_engine.checkpoint.config import DecoderConfig, read_decoder, refuse_settings
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.layers.attention import SelfAttention
from farebox_engine.layers.block import PreNormBlock
from farebox_engine.layers.experts import Experts, SparseMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.models.decoder import Decoder
from farebox_engine.models.weights import LLAMA_NAMING, Naming, load_weights

_ORIGINAL_NAMING = Naming(
    renamed={"mlp": "block_sparse_moe", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtralConfig(DecoderConfig):
    """Each token is sent to ``experts_per_token`` of ``num_experts``."""

    num_experts: int
    experts_per_token: int


def read_mixtral(config: Mapping[str, object]) -> MixtralConfig:
    """Read the content of a ``config.json``; see `read_decoder`."""
    fields = Fields({"rms_norm_eps": 1e-5} | dict(config), "config.json")
    # router_jitter_noise acts in training only.
    refuse_settings(fields, layer_types=None, attention_bias=False, mlp_bias=False)
    shared = read_decoder(fields, "mixtral", "MixtralForCausalLM", default_theta=1_000_000.0)
    window = fields.window("sliding_window", absent=None)
    experts, chosen = fields.experts("num_local_experts", "num_experts", default=8)
    expert_size = 3 * shared["hidden_size"] * shared["intermediate_size"]
    return MixtralConfig(
        **shared,
        windows=() if window is None else (window,) * shared["num_layers"],
        idle_parameters=shared["num_layers"] * (experts - chosen) * expert_size,
        num_experts=experts,
        experts_per_token=chosen,
    )


class MixtralForCausalLM(Decoder):
    """See `Decoder`."""

    def __init__(self, config: MixtralConfig) -> None:
        def norm() -> RMSNorm:
            return RMSNorm(config.hidden_size, config.norm_eps)

        layers = (
            PreNormBlock(
                SelfAttention(config, layer),
                SparseMLP(
                    Experts(config.num_experts, config.hidden_size, config.intermediate_size),
                    config.hidden_size,
                    config.experts_per_token,
                    renormalise=True,
                ),
                norm,
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, norm())


def load_mixtral(model: MixtralForCausalLM, tensors: Mapping[str, Tensor]) -> None:
    """As `load_weights`; transformers 5 has other names in memory than the files it writes by default."""
    original = any(".block_sparse_moe." in name for name in tensors)
    load_weights(model, tensors, _ORIGINAL_NAMING if original else LLAMA_NAMING)

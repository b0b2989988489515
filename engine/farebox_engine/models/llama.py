"""The Llama decoder (Touvron et al. 2023, arXiv 2302.13971)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from farebox_engine.checkpoint.config import DecoderConfig, read_decoder
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.checkpoint.rope import Rope
from farebox_engine.layers.attention import SelfAttention
from farebox_engine.layers.block import PreNormBlock
from farebox_engine.layers.mlp import GatedMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.models.decoder import Decoder

_MODEL_TYPE, _ARCHITECTURE = "llama", "LlamaForCausalLM"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """A decoder of the Llama family; the only one that is trained here and therefore written."""

    rope: Rope
    attention_bias: bool = False
    mlp_bias: bool = False
    initializer_range: float = 0.02
    dtype: str = "float32"
    bos_token_id: int | None = None
    pad_token_id: int | None = None

    @classmethod
    def from_dict(cls, config: Mapping[str, object]) -> LlamaConfig:
        """Read the content of a ``config.json``; see `read_decoder`."""
        fields = Fields(config, "config.json")
        return cls(
            **read_decoder(fields, _MODEL_TYPE, _ARCHITECTURE),
            attention_bias=fields.boolean("attention_bias", default=False),
            mlp_bias=fields.boolean("mlp_bias", default=False),
            initializer_range=fields.number("initializer_range", default=0.02, above=0.0),
            dtype=fields.text("dtype" if "dtype" in config else "torch_dtype", default="float32"),
            bos_token_id=fields.optional_integer("bos_token_id", minimum=0),
            pad_token_id=fields.optional_integer("pad_token_id", minimum=-1),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the content of a ``config.json`` that `transformers` 4 and 5 both load."""
        scaling = self.rope.scaling
        config: dict[str, object] = {
            "architectures": [_ARCHITECTURE],
            "model_type": _MODEL_TYPE,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope.theta,
            "rope_scaling": None if scaling is None else scaling.to_dict(),
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "initializer_range": self.initializer_range,
            "torch_dtype": self.dtype,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self._eos_field(),
            "pad_token_id": self.pad_token_id,
        }
        return config

    def _eos_field(self) -> int | list[int] | None:
        if len(self.eos_token_ids) == 1:
            return self.eos_token_ids[0]
        return list(self.eos_token_ids) or None


class LlamaForCausalLM(Decoder):
    """See `Decoder`. ``dropout`` acts on what each block adds to the residual stream, in training mode."""

    config: LlamaConfig

    def __init__(self, config: LlamaConfig, dropout: float = 0.0) -> None:
        def norm() -> RMSNorm:
            return RMSNorm(config.hidden_size, config.norm_eps)

        layers = (
            PreNormBlock(
                SelfAttention(
                    config, layer, qkv_bias=config.attention_bias, output_bias=config.attention_bias
                ),
                GatedMLP(config.hidden_size, config.intermediate_size, bias=config.mlp_bias),
                norm,
                dropout,
            )
            for layer in range(config.num_layers)
        )
        super().__init__(config, layers, norm())

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw matrices from a normal distribution of the config's width and zero the biases.

        Projections onto the residual stream are narrower by sqrt(2 * layers), so that its variance
        does not grow with depth (Radford et al. 2019, section 2.3).
        """
        width = self.config.initializer_range
        residual_width = width / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:
                onto_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(
                    parameter, std=residual_width if onto_residual else width, generator=generator
                )

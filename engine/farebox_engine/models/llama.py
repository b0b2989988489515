"""The Llama decoder (Touvron et al. 2023, arXiv 2302.13971)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.config import DecoderConfig
from farebox_engine.layers.attention import AttentionBackend, SelfAttention
from farebox_engine.layers.mlp import GatedMLP
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.layers.rotary import RotaryEmbedding


class DecoderLayer(nn.Module):
    """Attention and feed-forward network, each normalised before and added to the residual stream."""

    def __init__(self, config: DecoderConfig, layer: int, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GatedMLP(config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], attention: AttentionBackend) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape."""
        mixed = self.self_attn(self.input_layernorm(hidden), rotation, attention)
        hidden = hidden + self.dropout(mixed)
        output: Tensor = hidden + self.dropout(self.mlp(self.post_attention_layernorm(hidden)))
        return output


class LlamaForCausalLM(nn.Module):
    """A decoder over flat batches: tokens of any number of sequences laid end to end.

    Which token sees which is the `AttentionBackend`'s affair. ``dropout`` acts on what each block adds
    to the residual stream, and only in training mode. A new model's parameters are arbitrary: load
    weights (`farebox_engine.models.weights`) or call `initialise`.
    """

    def __init__(self, config: DecoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer, dropout) for layer in range(config.num_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: AttentionBackend,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Return hidden states [T, hidden_size], final norm applied, for int64 ``tokens`` [T].

        ``positions`` int64 [T] count from 0 in each sequence. ``lengths`` int64 [T] is needed only
        where ``rotary.lengths_matter``: see `RotaryEmbedding.forward`.
        """
        hidden = self.embed_tokens(tokens)
        rotation = self.rotary(positions, lengths)
        for layer in self.layers:
            hidden = layer(hidden, rotation, attention)
        output: Tensor = self.norm(hidden)
        return output

    def logits(self, hidden: Tensor) -> Tensor:
        """Return fp32 logits [N, vocab_size] for hidden states [N, hidden_size]."""
        return functional.linear(hidden, self.lm_head.weight).float()

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

    @property
    def lengths_matter(self) -> bool:
        """Whether `forward` looks at ``lengths``."""
        return self.rotary.lengths_matter

    @property
    def device(self) -> torch.device:
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed_tokens.weight.dtype

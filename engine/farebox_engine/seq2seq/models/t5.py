"""T5 (Raffel et al. 2020, arXiv 1910.10683), versions 1.0 and 1.1.

Modules are named as in Hugging Face checkpoints, so that weights are found by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.layers.norm import RMSNorm
from farebox_engine.seq2seq.models.model import (
    AttentionForm,
    DecoderAttention,
    Dimensions,
    SelfAttentionBackend,
    split_heads,
)

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gated-gelu": partial(functional.gelu, approximate="tanh"),
    "gated-relu": functional.relu,
    "gated-silu": functional.silu,
}


@dataclass(frozen=True, slots=True)
class T5Config:
    """The shape of a T5. `tied`: the output projection is the embedding. `feed_forward`: see T5's paper."""

    vocab_size: int
    hidden_size: int
    head_dim: int
    num_heads: int
    feed_forward_size: int
    encoder_layers: int
    decoder_layers: int
    feed_forward: str
    buckets: int
    max_distance: int
    norm_eps: float
    length: int
    tied: bool
    scaled_output: bool

    @classmethod
    def read(cls, description: Mapping[str, object], tensors: Collection[str]) -> T5Config:
        """Read a config.json; `tensors` are the checkpoint's, which alone tell whether the output is tied.

        Raises:
            ConfigError: a field is missing, out of bounds, or asks for what this model does not compute.
        """
        fields = Fields(description, "config.json")
        feed_forward = fields.text("feed_forward_proj", default="relu")
        if feed_forward not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise ConfigError(f"feed_forward_proj {feed_forward!r} is not supported; supported are: {known}.")
        layers = fields.layers("num_layers")
        buckets = fields.integer("relative_attention_num_buckets", default=32, minimum=4)
        max_distance = fields.integer("relative_attention_max_distance", default=128, minimum=2)
        if max_distance <= buckets // 2:
            raise ConfigError("relative_attention_max_distance must exceed half the number of buckets.")
        # Saved by transformers 5, which sets tie_word_embeddings for every T5, or by older ones.
        tied_field = fields.boolean("tie_word_embeddings", default=True)
        return cls(
            vocab_size=fields.integer("vocab_size", minimum=1),
            hidden_size=fields.integer("d_model", minimum=1),
            head_dim=fields.integer("d_kv", minimum=1),
            num_heads=fields.integer("num_heads", minimum=1),
            feed_forward_size=fields.integer("d_ff", minimum=1),
            encoder_layers=layers,
            decoder_layers=fields.layers("num_decoder_layers", default=layers),
            feed_forward=feed_forward,
            buckets=buckets,
            max_distance=max_distance,
            norm_eps=fields.number("layer_norm_epsilon", default=1e-6, above=0.0),
            length=fields.integer("n_positions", default=512, minimum=1),
            tied=not any(name.removeprefix("transformer.") == "lm_head.weight" for name in tensors),
            scaled_output=fields.boolean("scale_decoder_outputs", default=tied_field),
        )


class _Attention(nn.Module):
    def __init__(self, config: T5Config, *, with_bias: bool = False) -> None:
        super().__init__()
        width = config.num_heads * config.head_dim
        self._heads = config.num_heads
        self.q = nn.Linear(config.hidden_size, width, bias=False)
        self.k = nn.Linear(config.hidden_size, width, bias=False)
        self.v = nn.Linear(config.hidden_size, width, bias=False)
        self.o = nn.Linear(width, config.hidden_size, bias=False)
        if with_bias:
            self.relative_attention_bias = nn.Embedding(config.buckets, config.num_heads)

    def query(self, hidden: Tensor) -> Tensor:
        return split_heads(self.q(hidden), self._heads)

    def key_value(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return split_heads(self.k(hidden), self._heads), split_heads(self.v(hidden), self._heads)

    def output(self, mixed: Tensor) -> Tensor:
        output: Tensor = self.o(mixed.flatten(1))
        return output


class _SelfAttention(nn.Module):
    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self._layer = layer
        self.SelfAttention = _Attention(config, with_bias=layer == 0)
        self.layer_norm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, hidden: Tensor, backend: SelfAttentionBackend) -> Tensor:
        normed = self.layer_norm(hidden)
        key, value = self.SelfAttention.key_value(normed)
        mixed = backend.attend(self._layer, self.SelfAttention.query(normed), key, value)
        return hidden + self.SelfAttention.output(mixed)


class _CrossAttention(nn.Module):
    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self._layer = layer
        self.EncDecAttention = _Attention(config)
        self.layer_norm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, hidden: Tensor, backend: DecoderAttention) -> Tensor:
        query = self.EncDecAttention.query(self.layer_norm(hidden))
        return hidden + self.EncDecAttention.output(backend.attend_source(self._layer, query))


class _Dense(nn.Module):
    """Version 1.0's feed-forward network."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self._activate = _ACTIVATIONS[config.feed_forward]
        self.wi = nn.Linear(config.hidden_size, config.feed_forward_size, bias=False)
        self.wo = nn.Linear(config.feed_forward_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.wo(self._activate(self.wi(hidden)))
        return output


class _GatedDense(nn.Module):
    """Version 1.1's feed-forward network (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self._activate = _ACTIVATIONS[config.feed_forward]
        self.wi_0 = nn.Linear(config.hidden_size, config.feed_forward_size, bias=False)
        self.wi_1 = nn.Linear(config.hidden_size, config.feed_forward_size, bias=False)
        self.wo = nn.Linear(config.feed_forward_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.wo(self._activate(self.wi_0(hidden)) * self.wi_1(hidden))
        return output


class _FeedForward(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        gated = config.feed_forward.startswith("gated-")
        self.DenseReluDense = _GatedDense(config) if gated else _Dense(config)
        self.layer_norm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = hidden + self.DenseReluDense(self.layer_norm(hidden))
        return output


class _Block(nn.Module):
    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(parts)


class _Stack(nn.Module):
    """One side; what it sees is the backend's affair."""

    def __init__(self, config: T5Config, layers: int, *, looks_at_source: bool) -> None:
        super().__init__()
        self._buckets = config.buckets
        self._max_distance = config.max_distance
        self._bidirectional = not looks_at_source
        self.block = nn.ModuleList(
            _Block(
                [
                    _SelfAttention(config, layer),
                    *([_CrossAttention(config, layer)] if looks_at_source else []),
                    _FeedForward(config),
                ]
            )
            for layer in range(layers)
        )
        self.final_layer_norm = RMSNorm(config.hidden_size, config.norm_eps)

    def parts(self) -> list[nn.ModuleList]:
        """Of each block: self-attention, cross-attention (decoder only), feed-forward network."""
        return [cast(_Block, block).layer for block in self.block]

    def bias(self, relative: Tensor) -> Tensor:
        """The position bias, shared by all layers; see `PositionBias`."""
        buckets = relative_buckets(
            relative, self._buckets, self._max_distance, bidirectional=self._bidirectional
        )
        attention = cast(_SelfAttention, self.parts()[0][0]).SelfAttention
        bias: Tensor = attention.relative_attention_bias(buckets)
        return bias.movedim(-1, -3)


class T5(nn.Module):
    """An encoder and a decoder over flat batches; see `EncoderDecoder` for shapes."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self._config = config
        self.shared = nn.Embedding(config.vocab_size, config.hidden_size)
        self.encoder = _Stack(config, config.encoder_layers, looks_at_source=False)
        self.decoder = _Stack(config, config.decoder_layers, looks_at_source=True)
        if not config.tied:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def dimensions(self) -> Dimensions:
        config = self._config
        return Dimensions(
            vocab_size=config.vocab_size,
            source_vocab_size=config.vocab_size,
            source_length=config.length,
            target_length=config.length,
            extrapolates=True,
            encoder_layers=config.encoder_layers,
            encoder_width=config.num_heads * config.head_dim,
            decoder_layers=config.decoder_layers,
            decoder_heads=config.num_heads,
            decoder_head_dim=config.head_dim,
        )

    @property
    def encoder_attention(self) -> AttentionForm:
        # T5 was trained without the usual factor: its initialisation makes up for it.
        return AttentionForm(1.0, self.encoder.bias)

    @property
    def decoder_attention(self) -> AttentionForm:
        return AttentionForm(1.0, self.decoder.bias)

    def encode(self, tokens: Tensor, positions: Tensor, attention: SelfAttentionBackend) -> Tensor:
        del positions  # the backend biases by relative ones
        hidden = self.shared(tokens)
        for attend, feed_forward in self.encoder.parts():
            hidden = feed_forward(attend(hidden, attention))
        output: Tensor = self.encoder.final_layer_norm(hidden)
        return output

    def project_source(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [
            cast(_CrossAttention, look).EncDecAttention.key_value(states)
            for _, look, _ in self.decoder.parts()
        ]

    def decode(self, tokens: Tensor, positions: Tensor, attention: DecoderAttention) -> Tensor:
        del positions
        hidden = self.shared(tokens)
        for attend, look, feed_forward in self.decoder.parts():
            hidden = feed_forward(look(attend(hidden, attention), attention))
        output: Tensor = self.decoder.final_layer_norm(hidden)
        return output

    def logits(self, states: Tensor) -> Tensor:
        if self._config.scaled_output:
            states = states * self._config.hidden_size**-0.5
        weight = self.shared.weight if self._config.tied else self.lm_head.weight
        return functional.linear(states, weight).float()


def relative_buckets(relative: Tensor, buckets: int, max_distance: int, *, bidirectional: bool) -> Tensor:
    """The bucket of each relative position (key minus query), int64 of the same shape.

    Half of a direction's buckets hold one distance each, the other half grow by a constant
    factor up to `max_distance`, past which all share the last (Raffel et al. 2020, section 2.1).
    One-directional, keys after the query fall into bucket 0.
    """
    first = torch.zeros_like(relative)
    if bidirectional:
        buckets //= 2
        first = buckets * (relative > 0)
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = buckets // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    grown = exact + (ratio * (buckets - exact)).long()
    return first + torch.where(distance < exact, distance, grown.clamp(max=buckets - 1))


# What other exports call the embedding, or carry along without a use.
# Without an embedding, the head is one: transformers ties every T5's.
T5_ALIASES = {
    "shared.weight": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
}
T5_IGNORED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)

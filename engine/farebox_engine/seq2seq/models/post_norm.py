"""The layers that BART and Marian share: attention and feed-forward network, normalised after the sum.

As in Vaswani et al. 2017 (arXiv 1706.03762). Modules are named as in Hugging Face checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.seq2seq.models.model import (
    AttentionForm,
    DecoderAttention,
    Dimensions,
    SelfAttentionBackend,
    split_heads,
)

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "swish": functional.silu,
    "silu": functional.silu,
}


@dataclass(frozen=True, slots=True)
class PostNormConfig:
    """The shape of a BART or a Marian; `embedding_scale` multiplies token embeddings.

    `source_vocab_size` is None where source and target share a vocabulary, and else the source's: then
    `vocab_size` is the target's.
    """

    vocab_size: int
    hidden_size: int
    encoder_layers: int
    encoder_heads: int
    encoder_feed_forward: int
    decoder_layers: int
    decoder_heads: int
    decoder_feed_forward: int
    activation: str
    embedding_scale: float
    positions: int
    source_vocab_size: int | None = None

    @classmethod
    def read(cls, description: Mapping[str, object]) -> PostNormConfig:
        """Read a config.json.

        Raises:
            ConfigError: a field is missing, out of bounds, or asks for what these layers do not compute.
        """
        fields = Fields(description, "config.json")
        _refuse_what_differs(fields)
        hidden_size = fields.integer("d_model", minimum=1)
        heads = {
            side: fields.integer(f"{side}_attention_heads", minimum=1) for side in ("encoder", "decoder")
        }
        for side, count in heads.items():
            if hidden_size % count:
                raise ConfigError(
                    f"d_model ({hidden_size}) must be a multiple of {side}_attention_heads ({count})."
                )
        return cls(
            vocab_size=fields.integer("vocab_size", minimum=1),
            hidden_size=hidden_size,
            encoder_layers=fields.layers("encoder_layers"),
            encoder_heads=heads["encoder"],
            encoder_feed_forward=fields.integer("encoder_ffn_dim", minimum=1),
            decoder_layers=fields.layers("decoder_layers"),
            decoder_heads=heads["decoder"],
            decoder_feed_forward=fields.integer("decoder_ffn_dim", minimum=1),
            activation=fields.text("activation_function", default="gelu"),
            embedding_scale=hidden_size**0.5 if fields.boolean("scale_embedding", default=False) else 1.0,
            positions=fields.integer("max_position_embeddings", default=1024, minimum=1),
        )

    @property
    def encoder_attention(self) -> AttentionForm:
        return AttentionForm((self.hidden_size // self.encoder_heads) ** -0.5)

    @property
    def decoder_attention(self) -> AttentionForm:
        return AttentionForm((self.hidden_size // self.decoder_heads) ** -0.5)

    @property
    def dimensions(self) -> Dimensions:
        return Dimensions(
            vocab_size=self.vocab_size,
            source_vocab_size=self.source_vocab_size or self.vocab_size,
            source_length=self.positions,
            target_length=self.positions,
            extrapolates=False,
            encoder_layers=self.encoder_layers,
            encoder_width=self.hidden_size,
            decoder_layers=self.decoder_layers,
            decoder_heads=self.decoder_heads,
            decoder_head_dim=self.hidden_size // self.decoder_heads,
        )


class Attention(nn.Module):
    """The projections around an attention backend."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def query(self, hidden: Tensor) -> Tensor:
        return split_heads(self.q_proj(hidden), self._heads)

    def key_value(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Of what is looked at, [T, heads, head_dim] each."""
        return split_heads(self.k_proj(hidden), self._heads), split_heads(self.v_proj(hidden), self._heads)

    def output(self, mixed: Tensor) -> Tensor:
        output: Tensor = self.out_proj(mixed.flatten(1))
        return output


class PostNormLayer(nn.Module):
    """Self-attention and feed-forward network: an encoder's layer, and what a decoder's has of it."""

    def __init__(
        self, config: PostNormConfig, layer: int, heads: int, feed_forward: int, dropout: float
    ) -> None:
        super().__init__()
        size = config.hidden_size
        self._layer = layer
        self._activation = config.activation
        self.self_attn = Attention(size, heads)
        self.self_attn_layer_norm = nn.LayerNorm(size)
        self.fc1 = nn.Linear(size, feed_forward)
        self.fc2 = nn.Linear(feed_forward, size)
        self.final_layer_norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def attend(self, hidden: Tensor, backend: SelfAttentionBackend) -> Tensor:
        key, value = self.self_attn.key_value(hidden)
        mixed = backend.attend(self._layer, self.self_attn.query(hidden), key, value)
        output: Tensor = self.self_attn_layer_norm(hidden + self.dropout(self.self_attn.output(mixed)))
        return output

    def feed_forward(self, hidden: Tensor) -> Tensor:
        inner = self.fc2(_ACTIVATIONS[self._activation](self.fc1(hidden)))
        output: Tensor = self.final_layer_norm(hidden + self.dropout(inner))
        return output


class DecoderLayer(PostNormLayer):
    """With a look at the source between the two."""

    def __init__(self, config: PostNormConfig, layer: int, dropout: float) -> None:
        super().__init__(config, layer, config.decoder_heads, config.decoder_feed_forward, dropout)
        self.encoder_attn = Attention(config.hidden_size, config.decoder_heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.hidden_size)

    def look(self, hidden: Tensor, backend: DecoderAttention) -> Tensor:
        mixed = backend.attend_source(self._layer, self.encoder_attn.query(hidden))
        output: Tensor = self.encoder_attn_layer_norm(hidden + self.dropout(self.encoder_attn.output(mixed)))
        return output


def encoder_layers(config: PostNormConfig, dropout: float) -> nn.ModuleList:
    """A new stack for the source's side."""
    return nn.ModuleList(
        PostNormLayer(config, layer, config.encoder_heads, config.encoder_feed_forward, dropout)
        for layer in range(config.encoder_layers)
    )


def decoder_layers(config: PostNormConfig, dropout: float) -> nn.ModuleList:
    """A new stack for the target's side."""
    return nn.ModuleList(DecoderLayer(config, layer, dropout) for layer in range(config.decoder_layers))


def run_encoder(layers: nn.ModuleList, hidden: Tensor, backend: SelfAttentionBackend) -> Tensor:
    """Map embedded source tokens [T, hidden] through `encoder_layers`."""
    for layer in cast(Iterable[PostNormLayer], layers):
        hidden = layer.feed_forward(layer.attend(hidden, backend))
    return hidden


def run_decoder(layers: nn.ModuleList, hidden: Tensor, backend: DecoderAttention) -> Tensor:
    """Map embedded target tokens [T, hidden] through `decoder_layers`."""
    for layer in cast(Iterable[DecoderLayer], layers):
        hidden = layer.feed_forward(layer.look(layer.attend(hidden, backend), backend))
    return hidden


def project_source(layers: nn.ModuleList, states: Tensor) -> list[tuple[Tensor, Tensor]]:
    """See `EncoderDecoder.project_source`."""
    return [layer.encoder_attn.key_value(states) for layer in cast(Iterable[DecoderLayer], layers)]


def _refuse_what_differs(fields: Fields) -> None:
    """Refuse what would load but compute something else."""
    activation = fields.text("activation_function", default="gelu")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ConfigError(f"activation_function {activation!r} is not supported; supported are: {known}.")
    for name in ("normalize_before", "add_final_layer_norm"):
        if fields.boolean(name, default=False):
            raise ConfigError(f"{name} is true in config.json; layers of this family are normalised after.")
    if not fields.boolean("tie_word_embeddings", default=True):
        raise ConfigError("tie_word_embeddings is false, which is not supported for this family.")

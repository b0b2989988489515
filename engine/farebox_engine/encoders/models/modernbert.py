"""ModernBERT (Warner et al. 2024, arXiv 2412.13663)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.encoders.models.activations import ACTIVATIONS
from farebox_engine.encoders.models.config import EncoderConfig, read_labels, read_problem
from farebox_engine.encoders.models.ragged import RaggedAttention, RaggedBatch
from farebox_engine.encoders.models.weights import NameMap
from farebox_engine.layers.rotary import apply_rotary

NAMES = NameMap(
    prefix="model.",
    layer="layers",
    layer_parts={
        "attn_norm": ("attn_norm",),
        "Wqkv": ("attn.Wqkv",),
        "Wo": ("attn.Wo",),
        "mlp_norm": ("mlp_norm",),
        "Wi": ("mlp.Wi",),
        "mlp_Wo": ("mlp.Wo",),
    },
    head_parts={"dense": "head.dense", "norm": "head.norm", "output": "classifier"},
    left_aside=("head.", "decoder."),
    tied="decoder.weight",
    embedding="embeddings.tok_embeddings.weight",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """``window`` is how many positions away a token sees in those layers that are local."""

    window: int
    is_local: tuple[bool, ...]
    global_theta: float
    local_theta: float
    attention_bias: bool
    mlp_bias: bool
    norm_bias: bool
    head_activation: str
    head_bias: bool
    head_pools_mean: bool

    def __post_init__(self) -> None:
        # Zero-argument super() does not survive dataclass(slots=True), which makes the class anew.
        EncoderConfig.__post_init__(self)
        if self.head_dim % 2:
            raise ConfigError(f"the head size must be even for rotary embeddings, not {self.head_dim}.")
        if self.head_activation not in ACTIVATIONS:
            raise ConfigError(
                f"config.json: classifier_activation {self.head_activation!r} is not supported."
            )


def read_config(fields: Fields) -> ModernBertConfig:
    """Read config.json as transformers 4 or 5 writes it; raises `ConfigError`."""
    labels = read_labels(fields)
    layers = fields.layers("num_hidden_layers")
    pooling = fields.text("classifier_pooling", default="cls")
    if pooling not in {"cls", "mean"}:
        raise ConfigError(f"config.json: classifier_pooling must be 'cls' or 'mean', not {pooling!r}.")
    return ModernBertConfig(
        vocab_size=fields.integer("vocab_size", minimum=1),
        hidden_size=fields.integer("hidden_size", minimum=1),
        intermediate_size=fields.integer("intermediate_size", minimum=1),
        num_layers=layers,
        num_heads=fields.integer("num_attention_heads", minimum=1),
        activation=fields.text("hidden_activation", default="gelu"),
        norm_eps=fields.number("norm_eps", default=1e-5, above=0.0),
        max_length=fields.integer("max_position_embeddings", minimum=1, default=8192),
        initializer_range=fields.number("initializer_range", default=0.02, above=0.0),
        labels=labels,
        problem=read_problem(fields, labels),
        window=fields.integer("local_attention", minimum=2, default=128) // 2,
        is_local=_local_layers(fields, layers),
        global_theta=_theta(fields, "full_attention", "global_rope_theta", 160_000.0),
        local_theta=_theta(fields, "sliding_attention", "local_rope_theta", 10_000.0),
        attention_bias=fields.boolean("attention_bias", default=False),
        mlp_bias=fields.boolean("mlp_bias", default=False),
        norm_bias=fields.boolean("norm_bias", default=False),
        head_activation=fields.text("classifier_activation", default="gelu"),
        head_bias=fields.boolean("classifier_bias", default=False),
        head_pools_mean=pooling == "mean",
    )


def _local_layers(fields: Fields, layers: int) -> tuple[bool, ...]:
    kinds = fields.values.get("layer_types")
    if kinds is None:
        every = fields.integer("global_attn_every_n_layers", minimum=1, default=3)
        return tuple(bool(layer % every) for layer in range(layers))
    known = {"full_attention": False, "sliding_attention": True}
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= known.keys():
        raise ConfigError(
            "config.json: layer_types must name 'full_attention' or 'sliding_attention' for every layer."
        )
    return tuple(known[kind] for kind in kinds)


def _theta(fields: Fields, kind: str, old_name: str, default: float) -> float:
    """The rotary base of one kind of layer, in transformers 5's spelling or, if absent, 4's."""
    if fields.mapping("rope_scaling") is not None:
        raise ConfigError("config.json: rope_scaling is not supported for ModernBERT.")
    theta = fields.number(old_name, default=default, above=0.0)
    parameters = fields.mapping("rope_parameters")
    own = None if parameters is None else parameters.mapping(kind)
    if own is None:
        return theta
    if own.text("rope_type", default="default") != "default":
        raise ConfigError(
            "config.json: rope_parameters of another rope_type than 'default' are not supported."
        )
    return own.number("rope_theta", default=theta, above=0.0)


class ModernBertLayer(nn.Module):
    """Attention and gated feed-forward network, each normalised before and added to the residual stream."""

    def __init__(self, config: ModernBertConfig, layer: int, dropout: float) -> None:
        super().__init__()
        size = config.hidden_size
        self.is_local = config.is_local[layer]
        self._heads = (3, config.num_heads, config.head_dim)
        self._activation = ACTIVATIONS[config.activation]
        # The embeddings are normalised already.
        self.attn_norm = _norm(config) if layer else nn.Identity()
        self.Wqkv = nn.Linear(size, 3 * size, bias=config.attention_bias)
        self.Wo = nn.Linear(size, size, bias=config.attention_bias)
        self.mlp_norm = _norm(config)
        self.Wi = nn.Linear(size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.mlp_Wo = nn.Linear(config.intermediate_size, size, bias=config.mlp_bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], attention: RaggedAttention) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape."""
        query, key, value = self.Wqkv(self.attn_norm(hidden)).view(-1, *self._heads).unbind(1)
        query, key = apply_rotary(query, *rotation), apply_rotary(key, *rotation)
        mixed = attention.attend(query, key, value, nearby=self.is_local)
        hidden = hidden + self.dropout(self.Wo(mixed))
        signal, gate = self.Wi(self.mlp_norm(hidden)).chunk(2, dim=-1)
        output: Tensor = hidden + self.dropout(self.mlp_Wo(self._activation(signal) * gate))
        return output


class ModernBertEmbeddings(nn.Module):
    """What a token means, normalised."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = _norm(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [T, hidden_size]."""
        output: Tensor = self.norm(self.tok_embeddings(tokens))
        return output


class ModernBertEncoder(nn.Module):
    """Rotary positions, alternating global and local attention, GeGLU."""

    def __init__(self, config: ModernBertConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self._config = config
        self.embeddings = ModernBertEmbeddings(config)
        self.layers = nn.ModuleList(
            ModernBertLayer(config, layer, dropout) for layer in range(config.num_layers)
        )
        self.final_norm = _norm(config)

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Return hidden states [T, hidden_size]."""
        hidden: Tensor = self.embeddings(batch.tokens)
        everywhere = self._rotation(batch.positions, self._config.global_theta)
        nearby = self._rotation(batch.positions, self._config.local_theta)
        for layer in self.layers:
            hidden = layer(hidden, nearby if layer.is_local else everywhere, batch.attention)
        output: Tensor = self.final_norm(hidden)
        return output

    def _rotation(self, positions: Tensor, theta: float) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, 1, head_dim], fp32."""
        size = self._config.head_dim
        powers = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size
        angles = positions[:, None].float() / torch.pow(theta, powers)
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        return angles.cos(), angles.sin()


class ModernBertHead(nn.Module):
    """A dense layer, normalised, before the logits of each token or, pooled, of each sequence."""

    def __init__(self, config: ModernBertConfig, *, pooled: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self._pooled, self._mean = pooled, config.head_pools_mean
        self._activation = ACTIVATIONS[config.head_activation]
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.head_bias)
        self.norm = _norm(config)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(config.hidden_size, len(config.labels))

    def forward(self, hidden: Tensor, batch: RaggedBatch) -> Tensor:
        """Return [T, labels], or [N, labels] if pooled, for ``hidden`` [T, hidden_size]."""
        if self._pooled and self._mean:
            hidden = torch.segment_reduce(hidden, "mean", lengths=batch.lengths)
        elif self._pooled:
            hidden = hidden[batch.starts]
        logits: Tensor = self.output(self.dropout(self.norm(self._activation(self.dense(hidden)))))
        return logits


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias)

"""BERT (Devlin et al. 2018, arXiv 1810.04805)."""

from __future__ import annotations

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.encoders.models.config import EncoderConfig, read_labels, read_problem
from farebox_engine.encoders.models.weights import NameMap

NAMES = NameMap(
    prefix="bert.",
    layer="encoder.layer",
    layer_parts={
        "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention_output": ("attention.output.dense",),
        "attention_norm": ("attention.output.LayerNorm",),
        "up": ("intermediate.dense",),
        "down": ("output.dense",),
        "output_norm": ("output.LayerNorm",),
    },
    head_parts={"dense": "pooler.dense", "output": "classifier"},
    left_aside=("cls.", "pooler."),
    tied="cls.predictions.decoder.weight",
)


def read_config(fields: Fields) -> EncoderConfig:
    """Read config.json; raises `ConfigError`."""
    if fields.text("position_embedding_type", default="absolute") != "absolute":
        raise ConfigError("config.json: position_embedding_type must be 'absolute'.")
    if fields.boolean("is_decoder", default=False):
        raise ConfigError("config.json: is_decoder is true; only encoders are supported.")
    labels = read_labels(fields)
    positions = fields.integer("max_position_embeddings", minimum=1, default=512)
    return EncoderConfig(
        vocab_size=fields.integer("vocab_size", minimum=1),
        hidden_size=fields.integer("hidden_size", minimum=1),
        intermediate_size=fields.integer("intermediate_size", minimum=1),
        num_layers=fields.layers("num_hidden_layers"),
        num_heads=fields.integer("num_attention_heads", minimum=1),
        activation=fields.text("hidden_act", default="gelu"),
        norm_eps=fields.number("layer_norm_eps", default=1e-12, above=0.0),
        max_length=positions,
        position_rows=positions,
        token_types=fields.integer("type_vocab_size", minimum=0, default=2),
        initializer_range=fields.number("initializer_range", default=0.02, above=0.0),
        labels=labels,
        problem=read_problem(fields, labels),
    )

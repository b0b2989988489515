"""DistilBERT (Sanh et al. 2019, arXiv 1910.01108)."""

from __future__ import annotations

from farebox_engine.checkpoint.fields import Fields
from farebox_engine.encoders.models.config import EncoderConfig, read_labels, read_problem
from farebox_engine.encoders.models.weights import NameMap

NAMES = NameMap(
    prefix="distilbert.",
    layer="transformer.layer",
    layer_parts={
        "qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention_output": ("attention.out_lin",),
        "attention_norm": ("sa_layer_norm",),
        "up": ("ffn.lin1",),
        "down": ("ffn.lin2",),
        "output_norm": ("output_layer_norm",),
    },
    head_parts={"dense": "pre_classifier", "output": "classifier"},
    left_aside=("vocab_transform.", "vocab_layer_norm.", "vocab_projector."),
    tied="vocab_projector.weight",
)


def read_config(fields: Fields) -> EncoderConfig:
    """Read config.json; raises `ConfigError`. Sinusoidal positions come in the checkpoint as a table."""
    labels = read_labels(fields)
    positions = fields.integer("max_position_embeddings", minimum=1, default=512)
    return EncoderConfig(
        vocab_size=fields.integer("vocab_size", minimum=1),
        hidden_size=fields.integer("dim", minimum=1),
        intermediate_size=fields.integer("hidden_dim", minimum=1),
        num_layers=fields.layers("n_layers"),
        num_heads=fields.integer("n_heads", minimum=1),
        activation=fields.text("activation", default="gelu"),
        norm_eps=1e-12,
        max_length=positions,
        position_rows=positions,
        initializer_range=fields.number("initializer_range", default=0.02, above=0.0),
        labels=labels,
        problem=read_problem(fields, labels),
    )

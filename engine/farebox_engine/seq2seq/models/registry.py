"""The encoder-decoder families the engine can run: one line each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn

from farebox_engine.checkpoint.families import Families
from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.seq2seq.models.bart import Bart
from farebox_engine.seq2seq.models.marian import Marian
from farebox_engine.seq2seq.models.post_norm import PostNormConfig
from farebox_engine.seq2seq.models.t5 import T5, T5_ALIASES, T5_IGNORED, T5Config


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What builds a module, and how many layers it will have."""

    build: Callable[[], nn.Module]
    layers: int


# Reads a config.json, given the names of the checkpoint's tensors.
Plan = Callable[[Mapping[str, object], Collection[str]], Blueprint]


@dataclass(frozen=True, slots=True)
class Family:
    """How to build a family's module and where its weights lie.

    `plan` raises `ConfigError`. `prefix` may stand before any name or before none. `aliases` are other
    names under which exports store a parameter; `ignored` names are tensors that exports carry along
    without a use; `optional` parameters are zero where the checkpoint lacks them.
    """

    plan: Plan
    prefix: str
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def _plan_t5(description: Mapping[str, object], tensors: Collection[str]) -> Blueprint:
    config = T5Config.read(description, tensors)
    return Blueprint(partial(T5, config), config.encoder_layers + config.decoder_layers)


def _plan_bart(description: Mapping[str, object], tensors: Collection[str]) -> Blueprint:
    del tensors
    config = PostNormConfig.read(description)
    return Blueprint(partial(Bart, config), config.encoder_layers + config.decoder_layers)


def _plan_marian(description: Mapping[str, object], tensors: Collection[str]) -> Blueprint:
    del tensors
    config = PostNormConfig.read(description)
    fields = Fields(description, "config.json")
    target = fields.integer("decoder_vocab_size", default=config.vocab_size, minimum=1)
    if not fields.boolean("share_encoder_decoder_embeddings", default=True):
        config = replace(config, vocab_size=target, source_vocab_size=config.vocab_size)
    elif target != config.vocab_size:
        raise ConfigError(
            f"decoder_vocab_size is {target}, but source and target share {config.vocab_size} tokens."
        )
    return Blueprint(partial(Marian, config), config.encoder_layers + config.decoder_layers)


_SHARED: dict[str, tuple[str, ...]] = {
    "model.shared.weight": (
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
    )
}
_SEPARATE: dict[str, tuple[str, ...]] = {"model.decoder.embed_tokens.weight": ("lm_head.weight",)}
_POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
_VERSIONS = ("encoder.version", "decoder.version", "model.encoder.version", "model.decoder.version")
_BIAS = ("final_logits_bias",)

FAMILIES: Families[Family] = Families(
    "Encoder-decoders",
    {
        "t5": Family(_plan_t5, "transformer.", T5_ALIASES, T5_IGNORED),
        "bart": Family(_plan_bart, "model.", _SHARED, _VERSIONS, _BIAS),
        "marian": Family(_plan_marian, "model.", _SHARED | _SEPARATE, _POSITIONS, _BIAS),
    },
)

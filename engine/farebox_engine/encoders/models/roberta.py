"""RoBERTa (Liu et al. 2019, arXiv 1907.11692) and XLM-RoBERTa (Conneau et al. 2019, arXiv 1911.02116)."""

from __future__ import annotations

from dataclasses import replace

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.encoders.models import bert
from farebox_engine.encoders.models.config import EncoderConfig

NAMES = replace(
    bert.NAMES,
    prefix="roberta.",
    head_parts={"dense": "classifier.dense", "output": "classifier.out_proj"},
    token_head_parts={"output": "classifier"},
    left_aside=("lm_head.", "pooler."),
    tied="lm_head.decoder.weight",
)


def read_config(fields: Fields) -> EncoderConfig:
    """Read config.json; raises `ConfigError`.

    Positions count from one after the padding token's id: fairseq gave padding a position of its own.
    """
    config = bert.read_config(fields)
    offset = fields.integer("pad_token_id", minimum=0, default=1) + 1
    if offset >= config.position_rows:
        raise ConfigError("config.json: pad_token_id leaves no position for a token.")
    return replace(config, position_offset=offset, max_length=config.position_rows - offset)

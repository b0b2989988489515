"""The families of encoders the engine can run: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.checkpoint.families import Families
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.encoders.models import bert, distilbert, modernbert, roberta
from farebox_engine.encoders.models.config import EncoderConfig, Task
from farebox_engine.encoders.models.heads import FirstTokenHead, TokenHead
from farebox_engine.encoders.models.postnorm import PostNormEncoder
from farebox_engine.encoders.models.ragged import RaggedBatch
from farebox_engine.encoders.models.weights import NameMap


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """How to read a family's config.json (raises `ConfigError`), build its modules and name their weights."""

    read_config: Callable[[Fields], EncoderConfig]
    encoder: Callable[..., nn.Module]
    classifier: Callable[..., nn.Module]
    token_labeller: Callable[..., nn.Module]
    names: NameMap

    def build(self, config: EncoderConfig, task: Task, dropout: float = 0.0) -> EncoderModel:
        """A model with arbitrary parameters; ``dropout`` acts in training mode only."""
        heads = {Task.CLASSIFY: self.classifier, Task.LABEL_TOKENS: self.token_labeller}
        head = heads[task](config, dropout=dropout) if task in heads else None
        return EncoderModel(self.encoder(config, dropout=dropout), head)


class EncoderModel(nn.Module):
    """An encoder and, but for embeddings, a head."""

    def __init__(self, encoder: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Return fp32 hidden states [T, hidden_size], or the head's logits [T or N, labels]."""
        hidden: Tensor = self.encoder(batch)
        if self.head is not None:
            hidden = self.head(hidden, batch)
        return hidden.float()


_tanh_head = partial(FirstTokenHead, activation=torch.tanh)
_relu_head = partial(FirstTokenHead, activation=functional.relu)

_ROBERTA = EncoderFamily(roberta.read_config, PostNormEncoder, _tanh_head, TokenHead, roberta.NAMES)

ENCODERS: Families[EncoderFamily] = Families(
    "Encoders",
    {
        "bert": EncoderFamily(bert.read_config, PostNormEncoder, _tanh_head, TokenHead, bert.NAMES),
        "distilbert": EncoderFamily(
            distilbert.read_config, PostNormEncoder, _relu_head, TokenHead, distilbert.NAMES
        ),
        "modernbert": EncoderFamily(
            modernbert.read_config,
            modernbert.ModernBertEncoder,
            partial(modernbert.ModernBertHead, pooled=True),
            partial(modernbert.ModernBertHead, pooled=False),
            modernbert.NAMES,
        ),
        "roberta": _ROBERTA,
        "xlm-roberta": _ROBERTA,
    },
)

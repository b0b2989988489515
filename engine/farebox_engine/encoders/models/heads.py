"""What turns hidden states into logits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from farebox_engine.encoders.models.config import EncoderConfig
from farebox_engine.encoders.models.ragged import RaggedBatch


class TokenHead(nn.Module):
    """Logits of labels for each token."""

    def __init__(self, config: EncoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(config.hidden_size, len(config.labels))

    def forward(self, hidden: Tensor, batch: RaggedBatch) -> Tensor:
        """Return [T, labels] for ``hidden`` [T, hidden_size]."""
        del batch
        logits: Tensor = self.output(self.dropout(hidden))
        return logits


class FirstTokenHead(nn.Module):
    """Logits of labels for each sequence, from its first token by a dense layer."""

    def __init__(
        self, config: EncoderConfig, activation: Callable[[Tensor], Tensor], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self._activation = activation
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(config.hidden_size, len(config.labels))

    def forward(self, hidden: Tensor, batch: RaggedBatch) -> Tensor:
        """Return [N, labels] for ``hidden`` [T, hidden_size]."""
        first = self._activation(self.dense(hidden[batch.starts]))
        logits: Tensor = self.output(self.dropout(first))
        return logits

"""From hidden states to one vector per input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.encoders.models.ragged import RaggedBatch


class Pooling(StrEnum):
    """How the vectors of an input's tokens become one, in sentence-transformers' words."""

    CLS = "cls"
    MAX = "max"
    MEAN = "mean"
    MEAN_SQRT = "mean_sqrt_len_tokens"
    WEIGHTED_MEAN = "weightedmean"  # the n-th token counts n times
    LAST = "lasttoken"


class Dense(nn.Module):
    """A layer after the pooling."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self._activation = activation

    def forward(self, vectors: Tensor) -> Tensor:
        """Return [N, outputs] for ``vectors`` [N, inputs]."""
        return self._activation(self.linear(vectors))


class Normalize(nn.Module):
    """Scale each vector to length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=-1)


class SentenceHead(nn.Module):
    """Pooling, by one way or several side by side, and what follows it, to vectors of ``dimensions``."""

    def __init__(self, poolings: Sequence[Pooling], layers: Sequence[nn.Module], dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self._poolings = tuple(poolings)
        self.layers = nn.ModuleList(layers)

    def forward(self, hidden: Tensor, batch: RaggedBatch) -> Tensor:
        """Return fp32 vectors [N, dimensions] for fp32 ``hidden`` [T, hidden_size]."""
        vectors = torch.cat([_pool(hidden, batch, pooling) for pooling in self._poolings], dim=-1)
        for layer in self.layers:
            vectors = layer(vectors)
        return vectors


def _pool(hidden: Tensor, batch: RaggedBatch, pooling: Pooling) -> Tensor:
    match pooling:
        case Pooling.CLS:
            return hidden[batch.starts]
        case Pooling.LAST:
            return hidden[batch.starts + batch.lengths - 1]
        case Pooling.MAX:
            return torch.segment_reduce(hidden, "max", lengths=batch.lengths)
        case Pooling.MEAN:
            return torch.segment_reduce(hidden, "mean", lengths=batch.lengths)
        case Pooling.MEAN_SQRT:
            means = torch.segment_reduce(hidden, "mean", lengths=batch.lengths)
            return means * batch.lengths[:, None].sqrt()
        case Pooling.WEIGHTED_MEAN:
            weights = batch.positions[:, None] + 1.0
            sums = torch.segment_reduce(hidden * weights, "sum", lengths=batch.lengths)
            return sums / (batch.lengths * (batch.lengths + 1) / 2)[:, None]

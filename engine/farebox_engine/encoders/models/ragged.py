"""Batches of sequences laid end to end, and attention within each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# Sequences share a padded attention call while the longest is at most this much longer than the
# shortest: a call costs about as much as the scores of so many cells.
_LENGTH_RATIO = 0.75
_LENGTH_SLACK = 8

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Call:
    """One attention call: ``count`` blocks of queries and as many of keys, by their rows in the batch.

    Without ``mask`` the rows are a slice. ``kept`` are the rows of the output that are no padding, in
    the order of the batch.
    """

    count: int
    queries: Tensor | slice
    keys: Tensor | slice
    mask: Tensor | None = None
    kept: Tensor | None = None


class RaggedAttention:
    """Scaled dot-product attention in both directions, each sequence for itself.

    The sequences lie end to end, in order of falling length. Attention takes them in groups of similar
    length, so that hardly anything is computed for padding; everything else in a model works on the
    flat batch, without any. With a ``window``, a token sees only those at most ``window`` positions
    away; long sequences are then cut into blocks, so that the cost grows with the length, not its square.
    """

    def __init__(
        self, lengths: Sequence[int], device: torch.device, dtype: torch.dtype, window: int | None = None
    ) -> None:
        self._device, self._dtype = device, dtype
        starts = np.cumsum([0, *lengths[:-1]])
        sequences = list(zip(starts.tolist(), lengths, strict=True))
        self._everywhere = self._groups(sequences)
        self._nearby = self._everywhere if window is None else self._windowed(sequences, window)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, nearby: bool = False) -> Tensor:
        """Return [T, heads * head_dim] for ``query``, ``key`` and ``value`` [T, heads, head_dim].

        The scale is head_dim ** -0.5. ``nearby`` is attention within the window.
        """
        outputs = [
            self._attend(call, query, key, value) for call in (self._nearby if nearby else self._everywhere)
        ]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    @staticmethod
    def _attend(call: _Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        def blocks(states: Tensor, rows: Tensor | slice) -> Tensor:
            return states[rows].view(call.count, -1, *states.shape[1:]).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            blocks(query, call.queries), blocks(key, call.keys), blocks(value, call.keys), attn_mask=call.mask
        )
        flat = mixed.transpose(1, 2).reshape(-1, query.shape[1] * query.shape[2])
        return flat if call.kept is None else flat[call.kept]

    def _groups(self, sequences: Sequence[tuple[int, int]]) -> list[_Call]:
        """Calls for ``sequences``, each a start and a length; the longest comes first."""
        calls = []
        first = 0
        while first < len(sequences):
            longest = sequences[first][1]
            shortest = min(longest - _LENGTH_SLACK, int(longest * _LENGTH_RATIO))
            last = first
            while last < len(sequences) and sequences[last][1] >= shortest:
                last += 1
            calls.append(self._group(sequences[first:last]))
            first = last
        return calls

    def _group(self, sequences: Sequence[tuple[int, int]]) -> _Call:
        starts, lengths = np.array(sequences, dtype=np.int64).T
        if lengths.min() == lengths.max():
            rows = slice(int(starts[0]), int(starts[-1] + lengths[-1]))
            return _Call(len(starts), rows, rows)
        places = np.arange(lengths.max())
        inside = places < lengths[:, None]
        # Padding takes any row that is there; the mask hides it.
        padded = self._rows(np.where(inside, starts[:, None] + places, starts[:, None]))
        return _Call(
            len(starts),
            padded,
            padded,
            self._mask(inside[:, None, None, :]),
            self._rows(inside.ravel().nonzero()[0]),
        )

    def _windowed(self, sequences: Sequence[tuple[int, int]], window: int) -> list[_Call]:
        # In a sequence that fits the window, everything is near.
        long = [(start, length) for start, length in sequences if length > window + 1]
        calls = [self._blocks(long, window)] if long else []
        return calls + self._groups(sequences[len(long) :])

    def _blocks(self, sequences: Sequence[tuple[int, int]], window: int) -> _Call:
        """Blocks of twice the window, each with its own keys and a window more on both sides."""
        size = 2 * window
        starts, lengths, firsts = np.array(
            [(start, length, first) for start, length in sequences for first in range(0, length, size)],
            dtype=np.int64,
        ).T
        queries = firsts[:, None] + np.arange(size)
        keys = firsts[:, None] + np.arange(-window, size + window)
        real = (keys >= 0) & (keys < lengths[:, None])
        near = np.abs(queries[:, :, None] - keys[:, None, :]) <= window
        # A query that is padding sees itself: a row without any key would be no number.
        own = queries[:, :, None] == keys[:, None, :]
        inside = (queries < lengths[:, None]).ravel()
        return _Call(
            len(starts),
            self._rows(starts[:, None] + np.minimum(queries, lengths[:, None] - 1)),
            self._rows(starts[:, None] + np.clip(keys, 0, lengths[:, None] - 1)),
            self._mask((near & real[:, None, :] | own)[:, None]),
            self._rows(inside.nonzero()[0]),
        )

    def _rows(self, rows: Rows) -> Tensor:
        return torch.from_numpy(rows.ravel()).to(self._device)

    def _mask(self, visible: NDArray[np.bool_]) -> Tensor:
        """0 where ``visible``, minus infinity elsewhere: what is added to the scores."""
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(torch.from_numpy(~visible).to(self._device), -torch.inf)


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """N sequences laid end to end, T tokens in all, in order of falling length.

    ``tokens``, ``positions`` (from 0 in each sequence) and ``token_types`` (which part of a pair) are
    int64 [T]; ``starts`` and ``lengths`` int64 [N].
    """

    tokens: Tensor
    positions: Tensor
    token_types: Tensor
    starts: Tensor
    lengths: Tensor
    attention: RaggedAttention

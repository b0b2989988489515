"""Attention within sources: every token sees its whole source and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Sequence as Seq

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from farebox_engine.seq2seq.models.model import AttentionForm, relative_positions


class SourceAttention:
    """Attention over sources laid end to end, without padding: equally long neighbours are one batch."""

    def __init__(self, lengths: Seq[int], form: AttentionForm, device: torch.device) -> None:
        self._form = form
        self._groups = [(length, len(list(same))) for length, same in itertools.groupby(lengths)]
        self._biases = [self._bias(length, device) for length, _ in self._groups]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `SelfAttentionBackend.attend`."""
        del layer
        output = torch.empty_like(query)
        for (rows, sources), bias in zip(self._rows(), self._biases, strict=True):
            shape = (sources, -1, *query.shape[1:])
            mixed = scaled_dot_product_attention(
                query[rows].view(shape).transpose(1, 2),
                key[rows].view(shape).transpose(1, 2),
                value[rows].view(shape).transpose(1, 2),
                attn_mask=bias,
                scale=self._form.scale,
            )
            output[rows] = mixed.transpose(1, 2).flatten(0, 1)
        return output

    def _rows(self) -> Iterator[tuple[slice, int]]:
        start = 0
        for length, sources in self._groups:
            yield slice(start, start + length * sources), sources
            start += length * sources

    def _bias(self, length: int, device: torch.device) -> Tensor | None:
        if self._form.bias is None:
            return None
        return self._form.bias(relative_positions(torch.arange(length, device=device), length))

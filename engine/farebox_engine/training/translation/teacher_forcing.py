"""Attention in training: padded batches, where the whole target is known."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from farebox_engine.seq2seq.models.model import AttentionForm, relative_positions


class PaddedSource:
    """Attention within sources padded to one length, laid end to end; `real`, bool [B, S], marks tokens."""

    def __init__(self, real: Tensor, form: AttentionForm) -> None:
        self._batch = real.shape[0]
        self._scale = form.scale
        self._mask = _with_bias(real[:, None, None, :], real.shape[1], real.shape[1], form)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `SelfAttentionBackend.attend`; T is B * S."""
        del layer
        return _attend(self._batch, query, key, value, self._mask, self._scale)


class TeacherForcing:
    """Attention of padded targets to themselves, causal, and to their sources: a `DecoderAttention`.

    `sources` are the sources' keys and values by layer, as from `EncoderDecoder.project_source`;
    `real`, bool [B, S], marks their tokens. Padding after a target needs no mask: no token
    before it sees it, and its own loss does not count.
    """

    def __init__(
        self, target_length: int, sources: Seq[tuple[Tensor, Tensor]], real: Tensor, form: AttentionForm
    ) -> None:
        self._batch = real.shape[0]
        self._scale = form.scale
        self._sources = sources
        self._source_mask = real[:, None, None, :]
        causal = torch.ones(target_length, target_length, dtype=torch.bool, device=real.device).tril()
        self._mask = _with_bias(causal[None, None], target_length, target_length, form)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `SelfAttentionBackend.attend`; T is B * target length."""
        del layer
        return _attend(self._batch, query, key, value, self._mask, self._scale)

    def attend_source(self, layer: int, query: Tensor) -> Tensor:
        """See `DecoderAttention.attend_source`."""
        key, value = self._sources[layer]
        return _attend(self._batch, query, key, value, self._source_mask, self._scale)


def _attend(batch: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    by_sequence = [
        states.view(batch, -1, *states.shape[1:]).transpose(1, 2) for states in (query, key, value)
    ]
    output = scaled_dot_product_attention(
        by_sequence[0], by_sequence[1], by_sequence[2], attn_mask=mask, scale=scale
    )
    return output.transpose(1, 2).reshape(query.shape)


def _with_bias(seen: Tensor, queries: int, keys: int, form: AttentionForm) -> Tensor:
    """`seen`, bool, or what it lets through of the position bias."""
    if form.bias is None:
        return seen
    bias = form.bias(relative_positions(torch.arange(queries, device=seen.device), keys))
    return bias.masked_fill(~seen, -torch.inf)

"""Attention over the keys and values of sources and targets, which share a cache's blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.models.model import AttentionForm, relative_positions

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Group:
    """G contexts of similar length, and the queries, R for each, that look at them.

    `rows` picks the queries out of the step's; `table` the blocks, [G * B] or a slice of them;
    `mask` is added to the scores, or bool: [G, 1 or heads, 1, L].
    """

    rows: Tensor | slice
    table: Tensor | slice
    contexts: int
    mask: Tensor
    scale: float

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`query` [G * R, heads, head_dim] to the same shape."""
        by_context = query.view(self.contexts, -1, *query.shape[1:]).transpose(1, 2)
        output = scaled_dot_product_attention(
            by_context, self._read(keys), self._read(values), attn_mask=self.mask, scale=self.scale
        )
        return output.transpose(1, 2).reshape(query.shape)

    def _read(self, blocks: Tensor) -> Tensor:
        """-> [G, heads, L, head_dim]."""
        table = self.table
        found = blocks[table] if isinstance(table, slice) else blocks.index_select(0, table)
        return found.view(self.contexts, -1, *blocks.shape[2:]).transpose(1, 2)


class CachedAttention:
    """One step's attention of every hypothesis' last token: implements `DecoderAttention`.

    What does not depend on the layer (slots, tables, masks, biases) is made once, here.
    Contexts are grouped so that none is padded to more than twice its length. The
    hypotheses of one request look at its source as one: it is read once for all of them.
    """

    def __init__(self, cache: KVCache, decodings: Seq[Decoding], form: AttentionForm) -> None:
        """`decodings` come by number of hypotheses, then by source length, longest first."""
        self._cache = cache
        self._form = form
        rows = [(row, each.target_length) for each in decodings for row in each.rows]
        self._slots = cache.index([cache.slots(row.blocks, length - 1, length)[0] for row, length in rows])
        self._own = list(self._own_groups(rows))
        self._source = list(self._source_groups(decodings))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `SelfAttentionBackend.attend`; also stores `key` and `value`."""
        self._cache.write(layer, self._slots, key, value)
        return self._attend(self._own, layer, query)

    def attend_source(self, layer: int, query: Tensor) -> Tensor:
        """See `DecoderAttention.attend_source`."""
        return self._attend(self._source, layer, query)

    def _attend(self, groups: list[_Group], layer: int, query: Tensor) -> Tensor:
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        output = torch.empty_like(query)
        for group in groups:
            output[group.rows] = group.attend(query[group.rows], keys, values)
        return output

    def _own_groups(self, rows: list[tuple[Hypothesis, int]]) -> Iterator[_Group]:
        order = sorted(range(len(rows)), key=lambda index: -rows[index][1])
        for members in _alike(order, lambda index: rows[index][1]):
            lengths = [rows[index][1] for index in members]
            table, length = self._table([rows[index][0].blocks for index in members], lengths)
            seen = self._seen(lengths, length)
            if self._form.bias is not None:
                queries = self._cache.index(lengths)[:, None] - 1
                bias = self._form.bias(relative_positions(queries, length))
                seen = bias.masked_fill(~seen, -torch.inf)
            yield _Group(self._cache.index(members), table, len(members), seen, self._form.scale)

    def _source_groups(self, decodings: Seq[Decoding]) -> Iterator[_Group]:
        first_row = 0
        for members in _alike(list(decodings), lambda each: each.source_length, lambda each: len(each.rows)):
            lengths = [each.source_length for each in members]
            table, length = self._table([each.source_blocks for each in members], lengths)
            rows = slice(first_row, first_row + sum(len(each.rows) for each in members))
            first_row = rows.stop
            yield _Group(rows, table, len(members), self._seen(lengths, length), self._form.scale)

    def _table(self, contexts: list[list[int]], lengths: list[int]) -> tuple[Tensor | slice, int]:
        """The blocks of all contexts, each padded to the longest, and how many tokens that is."""
        width = -(-max(lengths) // self._cache.block_size)
        table: list[int] = []
        for blocks in contexts:
            # Padded with its own block: another's could hold a NaN, which a mask does not stop.
            table += blocks[:width] + blocks[:1] * (width - len(blocks))
        length = width * self._cache.block_size
        if table == list(range(table[0], table[0] + len(table))):
            return slice(table[0], table[0] + len(table)), length
        return self._cache.index(table), length

    def _seen(self, lengths: list[int], length: int) -> Tensor:
        """bool [G, 1, 1, length]."""
        positions = torch.arange(length, device=self._cache.device)
        return positions < self._cache.index(lengths)[:, None, None, None]


def _alike(
    items: list[_Item], length: Callable[[_Item], int], kind: Callable[[_Item], int] = lambda _: 0
) -> Iterator[list[_Item]]:
    """Cut `items`, longest first within a kind, so that none is shorter than half its group's longest."""
    start = 0
    for index, item in enumerate(items):
        first = items[start]
        if kind(item) != kind(first) or 2 * length(item) < length(first):
            yield items[start:index]
            start = index
    if items:
        yield items[start:]

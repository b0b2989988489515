"""Keys and values in blocks, and attention over them."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from farebox_engine.config import DecoderConfig
from farebox_engine.sequence import Span


class KVCache:
    """The keys and values of all layers, each [num_blocks, block_size, num_kv_heads, head_dim].

    Zeroed, not left empty: attention multiplies masked slots by zero, and a NaN would survive that.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.block_size = block_size
        shape = (num_blocks, block_size, config.num_kv_heads, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]

    @staticmethod
    def bytes_per_token(config: DecoderConfig, dtype: torch.dtype) -> int:
        return 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """Store `key` and `value` [T, num_kv_heads, head_dim] at flat token slots int64 [T]."""
        self.keys[layer].flatten(0, 1).index_copy_(0, slots, key)
        self.values[layer].flatten(0, 1).index_copy_(0, slots, value)

    def clear(self, blocks: Seq[int]) -> None:
        """Zero blocks that may hold NaN."""
        for tensor in (*self.keys, *self.values):
            tensor[list(blocks)] = 0


@dataclass(frozen=True, slots=True)
class _Context:
    """Where the keys and values of G equally padded sequences lie: a slice of blocks, or a table [G, B]."""

    tables: slice | Tensor
    sequences: int

    def read(self, blocks: Tensor) -> Tensor:
        """[num_blocks, block_size, heads, dim] -> [G, heads, B * block_size, dim]."""
        table = self.tables
        found = blocks[table] if isinstance(table, slice) else blocks.index_select(0, table)
        return found.view(self.sequences, -1, *blocks.shape[2:]).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class _DecodeGroup:
    """Sequences of similar length that compute one token each; `mask` is [G, 1, 1, L], true where seen."""

    rows: slice
    context: _Context
    mask: Tensor

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        kv_heads = keys.shape[2]
        # The query heads that share a key head stand in line like positions: no repeated keys.
        grouped = query.view(query.shape[0], kv_heads, -1, query.shape[-1])
        output = scaled_dot_product_attention(
            grouped, self.context.read(keys), self.context.read(values), attn_mask=self.mask
        )
        return output.reshape(query.shape)


@dataclass(frozen=True, slots=True)
class _PrefillGroup:
    """A span of one sequence's prompt after `context`; `mask` is [T, L], true where seen."""

    rows: slice
    context: _Context
    mask: Tensor

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        length = self.mask.shape[1]
        output = scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            self.context.read(keys)[:, :, :length],
            self.context.read(values)[:, :, :length],
            attn_mask=self.mask,
            enable_gqa=query.shape[1] != keys.shape[2],
        )
        return output[0].transpose(0, 1)


class PagedAttention:
    """One step's attention over a `KVCache`: implements `AttentionBackend`.

    Everything that does not depend on the layer (slots, block tables, masks) is made
    once, here. Decoding sequences are grouped so that no block table is padded to more
    than twice its length, and each group is one batched call.
    """

    def __init__(self, cache: KVCache, spans: Seq[Span]) -> None:
        self._cache = cache
        self._device = cache.keys[0].device
        self._slots = self._tensor([slot for span in spans for slot in self._span_slots(span)])
        self._fresh: list[slice] = []
        self._groups: list[_DecodeGroup | _PrefillGroup] = []
        row = 0
        decoding = []
        for span in spans:
            rows = slice(row, row + span.length)
            row = rows.stop
            if span.length == 1:
                decoding.append((rows, span))
            elif span.start == 0:
                self._fresh.append(rows)
            else:
                self._groups.append(self._prefill_group(rows, span))
        self._groups.extend(self._decode_groups(decoding))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionBackend.attend`; also stores `key` and `value`."""
        self._cache.write(layer, self._slots, key, value)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        if len(self._groups) == 1 and not self._fresh:
            return self._groups[0].attend(query, keys, values)
        output = torch.empty_like(query)
        for rows in self._fresh:
            output[rows] = _attend_fresh(query[rows], key[rows], value[rows])
        for group in self._groups:
            output[group.rows] = group.attend(query[group.rows], keys, values)
        return output

    def _decode_groups(self, decoding: list[tuple[slice, Span]]) -> list[_DecodeGroup]:
        groups: list[_DecodeGroup] = []
        start = 0
        for index, (_, span) in enumerate(decoding):
            if 2 * span.stop < decoding[start][1].stop:
                groups.append(self._decode_group(decoding[start:index]))
                start = index
        if decoding:
            groups.append(self._decode_group(decoding[start:]))
        return groups

    def _decode_group(self, members: list[tuple[slice, Span]]) -> _DecodeGroup:
        spans = [span for _, span in members]
        context = self._context(spans)
        padded = self._blocks(max(span.stop for span in spans)) * self._cache.block_size
        lengths = self._tensor([span.stop for span in spans])
        mask = torch.arange(padded, device=self._device) < lengths[:, None, None, None]
        return _DecodeGroup(slice(members[0][0].start, members[-1][0].stop), context, mask)

    def _prefill_group(self, rows: slice, span: Span) -> _PrefillGroup:
        positions = torch.arange(span.stop, device=self._device)
        return _PrefillGroup(rows, self._context([span]), positions <= positions[span.start :, None])

    def _context(self, spans: list[Span]) -> _Context:
        width = max(self._blocks(span.stop) for span in spans)
        tables = []
        for span in spans:
            table = span.sequence.blocks[:width]
            tables.extend(table + [0] * (width - len(table)))
        if tables == list(range(tables[0], tables[0] + len(tables))):
            return _Context(slice(tables[0], tables[0] + len(tables)), len(spans))
        return _Context(self._tensor(tables), len(spans))

    def _span_slots(self, span: Span) -> list[int]:
        size, blocks = self._cache.block_size, span.sequence.blocks
        return [
            blocks[position // size] * size + position % size for position in range(span.start, span.stop)
        ]

    def _blocks(self, length: int) -> int:
        return -(-length // self._cache.block_size)

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _attend_fresh(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """A whole prompt's attention to itself: causal, nothing to read from the cache."""
    output = scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        is_causal=True,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output[0].transpose(0, 1)

"""A decoder's attention over keys and values in blocks."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.execution.packed_prefill import PackedSpans, pack_spans
from farebox_engine.kernels.varlen import PackedAttention
from farebox_engine.layers.attention import CAUSAL, AttentionRule, attend_where, causal_mask
from farebox_engine.scheduling.sequence import Span


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

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, rule: AttentionRule) -> Tensor:
        kv_heads = keys.shape[2]
        # The query heads that share a key head stand in line like positions: no repeated keys.
        grouped = query.view(query.shape[0], kv_heads, -1, query.shape[-1])
        output = attend_where(grouped, self.context.read(keys), self.context.read(values), rule, self.mask)
        return output.reshape(query.shape)


@dataclass(frozen=True, slots=True)
class _PrefillGroup:
    """A span of one sequence's prompt after `context`; `mask` is [T, L], true where seen."""

    rows: slice
    context: _Context
    mask: Tensor

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, rule: AttentionRule) -> Tensor:
        length = self.mask.shape[1]
        output = attend_where(
            query.transpose(0, 1)[None],
            self.context.read(keys)[:, :, :length],
            self.context.read(values)[:, :, :length],
            rule,
            self.mask,
        )
        return output[0].transpose(0, 1)


@dataclass(frozen=True, slots=True)
class _FreshPrompt:
    """A whole prompt: it sees itself alone, so that nothing is read from the cache."""

    rows: slice
    mask: Tensor | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule) -> Tensor:
        output = attend_where(
            query.transpose(0, 1)[None],
            key.transpose(0, 1)[None],
            value.transpose(0, 1)[None],
            rule,
            self.mask,
        )
        return output[0].transpose(0, 1)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a step's rows are computed in layers of one window: from their own keys, or the cache's."""

    fresh: list[_FreshPrompt | PackedSpans]
    groups: list[_DecodeGroup | _PrefillGroup | PackedSpans]


class PagedAttention:
    """One step's attention over a `KVCache`: implements `AttentionBackend`.

    Everything that does not depend on the layer (slots, block tables, masks) is made once
    per window that the layers have. Decoding sequences are grouped so that no block table
    is padded to more than twice its length, and each group is one batched call. Blocks
    that a window has left behind are not read.

    Prompts are computed span by span, or in one call of `packed` where that is given and the
    layer's attention is plainly causal; spans of one token should come first, so that the rest
    lies together.
    """

    def __init__(self, cache: KVCache, spans: Seq[Span], packed: PackedAttention | None = None) -> None:
        self._cache = cache
        self._packed = packed
        self._device = cache.device
        self._slots = cache.index(
            [slot for span in spans for slot in cache.slots(span.sequence.blocks, span.start, span.stop)]
        )
        self._spans: list[tuple[slice, Span]] = []
        self._longest = 0
        self._plans: dict[tuple[int | None, bool], _Plan] = {}
        row = 0
        for span in spans:
            self._spans.append((slice(row, row + span.length), span))
            row += span.length
            self._longest = max(self._longest, span.stop)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule = CAUSAL
    ) -> Tensor:
        """See `AttentionBackend.attend`; also stores `key` and `value`."""
        self._cache.write(layer, self._slots, key, value)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        plan = self._plan(rule)
        if len(plan.groups) == 1 and not plan.fresh:
            return plan.groups[0].attend(query, keys, values, rule)
        output = torch.empty_like(query)
        for prompt in plan.fresh:
            rows = prompt.rows
            output[rows] = prompt.attend(query[rows], key[rows], value[rows], rule)
        for group in plan.groups:
            output[group.rows] = group.attend(query[group.rows], keys, values, rule)
        return output

    def _plan(self, rule: AttentionRule) -> _Plan:
        window = None if rule.window is None or rule.window >= self._longest else rule.window
        packed = self._packed if window is None and rule.softcap is None else None
        key = window, packed is not None
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make_plan(window, packed)
        return plan

    def _make_plan(self, window: int | None, packed: PackedAttention | None) -> _Plan:
        plan = _Plan([], [])
        decoding = [(rows, span) for rows, span in self._spans if span.length == 1]
        prompts = [(rows, span) for rows, span in self._spans if span.length > 1]
        if packed is not None:
            for pack in pack_spans(prompts, self._cache.block_size, self._device, packed):
                (plan.fresh if pack.slots is None else plan.groups).append(pack)
            prompts = []
        for rows, span in prompts:
            if span.start == 0:
                plan.fresh.append(_FreshPrompt(rows, causal_mask(span.stop, window, self._device)))
            else:
                plan.groups.append(self._prefill_group(rows, span, window))
        plan.groups.extend(self._decode_groups(decoding, window))
        return plan

    def _decode_groups(self, decoding: list[tuple[slice, Span]], window: int | None) -> list[_DecodeGroup]:
        groups: list[_DecodeGroup] = []
        start = 0
        for index, (_, span) in enumerate(decoding):
            longest = decoding[start][1].stop
            if 2 * _seen(span.stop, window) < _seen(longest, window):
                groups.append(self._decode_group(decoding[start:index], window))
                start = index
        if decoding:
            groups.append(self._decode_group(decoding[start:], window))
        return groups

    def _decode_group(self, members: list[tuple[slice, Span]], window: int | None) -> _DecodeGroup:
        spans = [span for _, span in members]
        firsts = [self._first_block(span, window) for span in spans]
        width = max(self._blocks(span.stop) - first for span, first in zip(spans, firsts, strict=True))
        size = self._cache.block_size
        slots = torch.arange(width * size, device=self._device)
        stops = [span.stop - first * size for span, first in zip(spans, firsts, strict=True)]
        ends = self._cache.index(stops)[:, None, None, None]
        mask = slots < ends
        if window is not None:
            mask &= slots >= ends - window
        rows = slice(members[0][0].start, members[-1][0].stop)
        return _DecodeGroup(rows, self._context(spans, firsts, width), mask)

    def _prefill_group(self, rows: slice, span: Span, window: int | None) -> _PrefillGroup:
        first = self._first_block(span, window)
        positions = torch.arange(first * self._cache.block_size, span.stop, device=self._device)
        queries = positions[-span.length :, None]
        mask = positions <= queries
        if window is not None:
            mask &= positions > queries - window
        return _PrefillGroup(rows, self._context([span], [first], self._blocks(span.stop) - first), mask)

    def _context(self, spans: list[Span], firsts: list[int], width: int) -> _Context:
        tables = []
        for span, first in zip(spans, firsts, strict=True):
            table = span.sequence.blocks[first : first + width]
            # Padded with its own block: another's may hold NaN, which no mask keeps out of a sum.
            tables.extend(table + table[:1] * (width - len(table)))
        if tables == list(range(tables[0], tables[0] + len(tables))):
            return _Context(slice(tables[0], tables[0] + len(tables)), len(spans))
        return _Context(self._cache.index(tables), len(spans))

    def _first_block(self, span: Span, window: int | None) -> int:
        """The first block that any query of `span` sees."""
        return 0 if window is None else max(0, span.start + 1 - window) // self._cache.block_size

    def _blocks(self, length: int) -> int:
        return -(-length // self._cache.block_size)


def _seen(length: int, window: int | None) -> int:
    return length if window is None else min(length, window)

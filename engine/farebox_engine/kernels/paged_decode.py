"""Attention of one new token per sequence over paged keys and values, in Triton.

The keys of each sequence are split among several programs, so that few sequences with long
contexts fill a GPU too; a second kernel merges the parts by their log-sum-exp (Dao et al. 2023,
"Flash-Decoding"; Milakov and Gimelshein 2018, arXiv 1805.02867).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from farebox_engine.layers.attention import CAUSAL, AttentionRule

# Tokens per turn of the inner loop; heads wider than 128 take fewer, to fit the shared memory.
_TILE, _WIDE_TILE = 64, 32
# tl.dot's least number of rows: the query heads of a key head are padded to it.
_LEAST_ROWS = 16
_MOST_SPLITS = 32


@triton.jit
def _store_kernel(
    keys,
    values,
    slots,
    key,
    value,
    key_stride,
    value_stride,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
):
    """One program per token; heads of `key` and `value` lie `HEAD_DIM` apart."""
    row = tl.program_id(0)
    slot = tl.load(slots + row)
    column = tl.arange(0, PADDED)
    mask = column < tl.where(slot >= 0, WIDTH, 0)
    target = slot.to(tl.int64) * WIDTH + column
    tl.store(keys + target, tl.load(key + row * key_stride + column, mask=mask), mask=mask)
    tl.store(values + target, tl.load(value + row * value_stride + column, mask=mask), mask=mask)


@triton.jit
def _split_kernel(
    query,
    keys,
    values,
    tables,
    lengths,
    partial,
    sums,
    scale,
    softcap,
    window,
    query_stride,
    table_stride,
    BLOCK: tl.constexpr,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    CAPPED: tl.constexpr,
    WINDOWED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """One program per sequence, key head and split: writes an average and its log-sum-exp."""
    sequence, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + sequence)
    first = 0
    if WINDOWED:
        first = tl.maximum(length - window, 0)
    begin = first // TILE
    tiles = tl.cdiv(tl.cdiv(length, TILE) - begin, SPLITS)
    start = (begin + split * tiles) * TILE
    stop = tl.minimum(start + tiles * TILE, length)

    row, column = tl.arange(0, ROWS), tl.arange(0, PADDED)
    heads = kv_head * GROUP + row
    row_mask, column_mask = row < GROUP, column < HEAD_DIM
    q_mask = row_mask[:, None] & column_mask[None, :]
    q = tl.load(
        query + sequence * query_stride + heads[:, None] * HEAD_DIM + column[None, :], mask=q_mask, other=0.0
    )
    if WIDEN:
        q = q.to(tl.float32)
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, PADDED], tl.float32)
    for position in range(start, stop, TILE):
        positions = position + tl.arange(0, TILE)
        inside = positions < stop
        blocks = tl.load(tables + sequence * table_stride + positions // BLOCK, mask=inside, other=0)
        slots = blocks.to(tl.int64) * BLOCK + positions % BLOCK
        places = (slots[:, None] * KV_HEADS + kv_head) * HEAD_DIM + column[None, :]
        kv_mask = inside[:, None] & column_mask[None, :]
        k = tl.load(keys + places, mask=kv_mask, other=0.0)
        v = tl.load(values + places, mask=kv_mask, other=0.0)
        if WIDEN:
            k, v = k.to(tl.float32), v.to(tl.float32)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if CAPPED:
            # tanh(x) = 2 sigmoid(2x) - 1
            scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)
        seen = inside
        if WINDOWED:
            seen = seen & (positions >= first)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        # A tile may lie before the window altogether: then nothing has been seen yet.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        shrink = tl.exp(peak - base)
        weights = tl.exp(scores - base[:, None])
        mixed = mixed * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        total = total * shrink + tl.sum(weights, 1)
        peak = higher
    safe = tl.where(total > 0, total, 1.0)
    part = ((sequence * KV_HEADS + kv_head) * GROUP + row) * SPLITS + split
    tl.store(
        partial + part[:, None].to(tl.int64) * HEAD_DIM + column[None, :], mixed / safe[:, None], mask=q_mask
    )
    tl.store(sums + part, tl.where(total > 0, peak + tl.log(safe), float("-inf")), mask=row_mask)


@triton.jit
def _merge_kernel(
    partial,
    sums,
    output,
    HEAD_DIM: tl.constexpr,
    PADDED: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
):
    """One program per sequence and query head: the splits' averages, weighted by their sums."""
    head = tl.program_id(0).to(tl.int64)
    split, column = tl.arange(0, SPLITS_PADDED), tl.arange(0, PADDED)
    split_mask, column_mask = split < SPLITS, column < HEAD_DIM
    logs = tl.load(sums + head * SPLITS + split, mask=split_mask, other=float("-inf"))
    peak = tl.max(logs, 0)
    # A padded row has no keys: its output is zero.
    weights = tl.exp(logs - tl.where(peak == float("-inf"), 0.0, peak))
    total = tl.sum(weights, 0)
    weights = weights / tl.where(total > 0, total, 1.0)
    places = (head * SPLITS + split[:, None]) * HEAD_DIM + column[None, :]
    parts = tl.load(partial + places, mask=split_mask[:, None] & column_mask[None, :], other=0.0)
    mixed = tl.sum(parts * weights[:, None], 0)
    tl.store(output + head * HEAD_DIM + column, mixed.to(output.dtype.element_ty), mask=column_mask)


def store_kv(keys: Tensor, values: Tensor, slots: Tensor, key: Tensor, value: Tensor) -> None:
    """Write `key` and `value` [T, num_kv_heads, head_dim] to flat token slots int64 [T]; -1 skips a row.

    `keys` and `values` are one layer of a `KVCache`, contiguous.
    """
    key, value = _rows(key), _rows(value)
    width = key.shape[1] * key.shape[2]
    _store_kernel[(key.shape[0],)](
        keys,
        values,
        slots,
        key,
        value,
        key.stride(0),
        value.stride(0),
        HEAD_DIM=key.shape[2],
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
    )


def paged_decode(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    lengths: Tensor,
    rule: AttentionRule = CAUSAL,
    splits: int = 1,
) -> Tensor:
    """Attention of each sequence's last token over its `lengths` keys; [B, num_heads, head_dim].

    `query` is [B, num_heads, head_dim]; `keys` and `values` [num_blocks, block_size, num_kv_heads,
    head_dim], contiguous, of the same dtype (fp32, bf16 or fp16); `tables` int32 [B, any]: the blocks
    of each sequence in order; `lengths` int32 [B], the last token included, 0 for a row to leave out
    (its output is 0). Nothing is read back, so that a launch may be captured in a graph: what depends
    on the lengths is decided on the device, `splits` by the caller.
    """
    query = _rows(query)
    batch, heads, head_dim = query.shape
    kv_heads = keys.shape[2]
    group = heads // kv_heads
    padded = triton.next_power_of_2(head_dim)
    partial = torch.empty((batch, heads, splits, head_dim), dtype=torch.float32, device=query.device)
    sums = torch.empty((batch, heads, splits), dtype=torch.float32, device=query.device)
    output = torch.empty((batch, heads, head_dim), dtype=query.dtype, device=query.device)
    _split_kernel[(batch, kv_heads, splits)](
        query,
        keys,
        values,
        tables,
        lengths,
        partial,
        sums,
        head_dim**-0.5 if rule.scale is None else rule.scale,
        rule.softcap or 1.0,
        rule.window or 0,
        query.stride(0),
        tables.stride(0),
        BLOCK=keys.shape[1],
        KV_HEADS=kv_heads,
        GROUP=group,
        ROWS=max(_LEAST_ROWS, triton.next_power_of_2(group)),
        HEAD_DIM=head_dim,
        PADDED=padded,
        TILE=tile(padded),
        SPLITS=splits,
        CAPPED=rule.softcap is not None,
        WINDOWED=rule.window is not None,
        # Tensor cores round fp32 to 10 bits unless told not to.
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        # Triton's interpreter multiplies the bits of bf16 numbers, not their values.
        WIDEN=query.dtype == torch.bfloat16 and not query.is_cuda,
    )
    _merge_kernel[(batch * heads,)](
        partial,
        sums,
        output,
        HEAD_DIM=head_dim,
        PADDED=padded,
        SPLITS=splits,
        SPLITS_PADDED=triton.next_power_of_2(splits),
    )
    return output


def choose_splits(batch: int, kv_heads: int, processors: int) -> int:
    """How many programs share a sequence's keys, so that two fall to each of a GPU's `processors`."""
    return max(1, min(_MOST_SPLITS, 2 * processors // (batch * kv_heads)))


def tile(padded: int) -> int:
    """Tokens per turn of the inner loop, for heads padded to `padded`."""
    return _TILE if padded <= 128 else _WIDE_TILE


def _rows(states: Tensor) -> Tensor:
    """The heads of a row side by side; rows may lie apart, as parts of a fused projection do."""
    return states if states.stride()[1:] == (states.shape[2], 1) else states.contiguous()

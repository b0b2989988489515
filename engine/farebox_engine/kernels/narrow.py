"""Products with weights of eight bits, in Triton: int8 weights as they lie, and rows brought to fp8.

A decode step is bound by the bytes of its weights, so that int8 weights must be widened in
registers, never in memory. One row is multiplied without tensor cores, each program reading
whole rows of the weight; several rows share tiles, and few tiles share the columns among
several programs, whose sums are added in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from farebox_engine.kernels.plain import FP8_PEAK

# One row: outputs of a program, and columns it reads at a time.
ROW_OUTPUTS, ROW_COLUMNS = 8, 1024
_SUM_TILE = 1024
_MOST_SPLITS = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """How many rows, outputs and columns a program takes at a time, and its warps."""

    rows: int
    outputs: int
    columns: int
    warps: int


@triton.jit
def _row_kernel(
    row,
    weight,
    scales,
    bias,
    output,
    columns,
    outputs,
    OUTPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BIASED: tl.constexpr,
):
    """One program per `OUTPUTS` outputs of a single row."""
    chosen = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    inside = chosen < outputs
    places = chosen[:, None].to(tl.int64) * columns
    sums = tl.zeros([OUTPUTS, COLUMNS], tl.float32)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        within = column < columns
        x = tl.load(row + column, mask=within, other=0.0).to(tl.float32)
        w = tl.load(weight + places + column[None, :], mask=inside[:, None] & within[None, :], other=0)
        sums += w.to(tl.float32) * x[None, :]
    total = tl.sum(sums, 1) * tl.load(scales + chosen, mask=inside, other=0.0)
    if BIASED:
        total += tl.load(bias + chosen, mask=inside, other=0.0).to(tl.float32)
    tl.store(output + chosen, total.to(output.dtype.element_ty), mask=inside)


# Not a variant of the code for every kind of batch: a variant is compiled while requests wait.
@triton.jit(do_not_specialize=["count"])
def _tile_kernel(
    rows,
    weight,
    scales,
    bias,
    output,
    count,
    columns,
    outputs,
    row_stride,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
    BIASED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """One program per tile of outputs, tile of rows and split of the columns.

    With one split `output` is the result [count, outputs]; with more, fp32 sums [SPLITS, count,
    outputs] that `_sum_kernel` scales.
    """
    chosen = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(2)
    inside, present = chosen < outputs, row < count
    steps = tl.cdiv(tl.cdiv(columns, COLUMNS), SPLITS)
    start = split * steps * COLUMNS
    stop = tl.minimum(start + steps * COLUMNS, columns)
    x_places = row[:, None].to(tl.int64) * row_stride
    w_places = chosen[None, :].to(tl.int64) * columns
    sums = tl.zeros([ROWS, OUTPUTS], tl.float32)
    for position in range(start, stop, COLUMNS):
        column = position + tl.arange(0, COLUMNS)
        within = column < stop
        x = tl.load(rows + x_places + column[None, :], mask=present[:, None] & within[None, :], other=0.0)
        w = tl.load(weight + w_places + column[:, None], mask=within[:, None] & inside[None, :], other=0)
        if WIDEN:
            x = x.to(tl.float32)
        sums = tl.dot(x, w.to(x.dtype), sums, input_precision=PRECISION)
    mask = present[:, None] & inside[None, :]
    if SPLITS == 1:
        sums = sums * tl.load(scales + chosen, mask=inside, other=0.0)[None, :]
        if BIASED:
            sums += tl.load(bias + chosen, mask=inside, other=0.0).to(tl.float32)[None, :]
    target = (split * count + row[:, None]).to(tl.int64) * outputs + chosen[None, :]
    tl.store(output + target, sums.to(output.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["count"])
def _sum_kernel(
    partial,
    scales,
    bias,
    output,
    count,
    outputs,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    BIASED: tl.constexpr,
):
    """One program per row and tile of outputs: the splits' sums, added in order and scaled."""
    row = tl.program_id(0)
    chosen = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = chosen < outputs
    total = tl.zeros([TILE], tl.float32)
    for split in range(SPLITS):
        place = (split * count + row).to(tl.int64) * outputs
        total += tl.load(partial + place + chosen, mask=inside, other=0.0)
    total = total * tl.load(scales + chosen, mask=inside, other=0.0)
    if BIASED:
        total += tl.load(bias + chosen, mask=inside, other=0.0).to(tl.float32)
    tl.store(output + row.to(tl.int64) * outputs + chosen, total.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _quantize_kernel(rows, quantized, scales, columns, row_stride, PADDED: tl.constexpr, PEAK: tl.constexpr):
    """One program per row: its numbers in fp8, and what they must be multiplied with."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, PADDED)
    within = column < columns
    x = tl.load(rows + row * row_stride + column, mask=within, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x), 0), 1e-30) / PEAK
    # Rounding may lift the peak's quotient over e4m3's largest number, beyond which is NaN.
    bounded = tl.minimum(tl.maximum(x / scale, -PEAK), PEAK)
    tl.store(quantized + row * columns + column, bounded.to(quantized.dtype.element_ty), mask=within)
    # Maxima and bounds pass over a NaN; its row must not look sound.
    broken = tl.max((x != x).to(tl.int32), 0) > 0
    tl.store(scales + row, tl.where(broken, float("nan"), scale))


def int8_linear(
    rows: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None = None, processors: int = 1
) -> Tensor:
    """`rows` [N, in] times an int8 `weight` [out, in] with fp32 `scales` [out]; [N, out] of the rows' dtype.

    N is at least 1; rows are fp32, bf16 or fp16, `bias` [out] or None, `weight` contiguous. Sums are
    fp32. Nothing is read back: the launch may be captured in a graph. `processors` is how many the
    GPU has, to be kept busy.
    """
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    count, columns = rows.shape
    outputs = weight.shape[0]
    output = torch.empty((count, outputs), dtype=rows.dtype, device=rows.device)
    biased = bias is not None
    # Kernels take no None: where there is no bias, what stands for it is never read.
    extra = scales if bias is None else bias
    if count == 1:
        _row_kernel[(triton.cdiv(outputs, ROW_OUTPUTS),)](
            rows,
            weight,
            scales,
            extra,
            output,
            columns,
            outputs,
            OUTPUTS=ROW_OUTPUTS,
            COLUMNS=ROW_COLUMNS,
            BIASED=biased,
            num_warps=8,
        )
        return output
    tile = choose_tile(count)
    splits = choose_splits(count, outputs, columns, processors)
    target = output
    if splits > 1:
        target = torch.empty((splits, count, outputs), dtype=torch.float32, device=rows.device)
    _tile_kernel[(triton.cdiv(outputs, tile.outputs), triton.cdiv(count, tile.rows), splits)](
        rows,
        weight,
        scales,
        extra,
        target,
        count,
        columns,
        outputs,
        rows.stride(0),
        ROWS=tile.rows,
        OUTPUTS=tile.outputs,
        COLUMNS=tile.columns,
        SPLITS=splits,
        BIASED=biased,
        # Tensor cores round fp32 to 10 bits unless told not to.
        PRECISION="ieee" if rows.dtype == torch.float32 else "tf32",
        # Triton's interpreter multiplies the bits of bf16 numbers, not their values.
        WIDEN=rows.dtype == torch.bfloat16 and not rows.is_cuda,
        num_warps=tile.warps,
    )
    if splits > 1:
        _sum_kernel[(count, triton.cdiv(outputs, _SUM_TILE))](
            target, scales, extra, output, count, outputs, TILE=_SUM_TILE, SPLITS=splits, BIASED=biased
        )
    return output


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """`rows` [N, in] in fp8 (e4m3), and fp32 scales [N, 1]: a row's peak becomes e4m3's largest number.

    The scale of a row with a NaN is NaN. Nothing is read back.
    """
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    count, columns = rows.shape
    quantized = torch.empty((count, columns), dtype=torch.float8_e4m3fn, device=rows.device)
    scales = torch.empty((count, 1), dtype=torch.float32, device=rows.device)
    padded = triton.next_power_of_2(columns)
    _quantize_kernel[(count,)](
        rows,
        quantized,
        scales,
        columns,
        rows.stride(0),
        PADDED=padded,
        PEAK=FP8_PEAK,
        num_warps=8 if padded >= 4096 else 4,
    )
    return quantized, scales


def choose_tile(count: int) -> Tile:
    """The tile for `count` rows: tl.dot takes no fewer than 16; many rows share one reading of a weight."""
    if count > 64:
        return Tile(rows=128, outputs=128, columns=64, warps=8)
    return Tile(rows=max(16, triton.next_power_of_2(count)), outputs=64, columns=128, warps=4)


def choose_splits(count: int, outputs: int, columns: int, processors: int) -> int:
    """How many programs share the columns, so that two fall to each of a GPU's `processors`; a power of 2."""
    tile = choose_tile(count)
    tiles = triton.cdiv(outputs, tile.outputs) * triton.cdiv(count, tile.rows)
    steps = triton.cdiv(columns, tile.columns)
    splits: int = max(1, min(_MOST_SPLITS, 2 * processors // tiles, steps // 2))
    return 1 << (splits.bit_length() - 1)

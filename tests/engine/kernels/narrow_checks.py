"""Checks of the kernels for weights of eight bits, run by `test_narrow` in a process of its own."""

import itertools
import sys
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from farebox_engine.kernels import narrow, plain

_TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
# Columns and outputs that fill tiles and that do not; enough columns for several splits.
_SHAPES = ((64, 32), (70, 33), (1030, 70))


def products() -> int:
    """Rows of every tile, split or not, with biases and without."""
    checked = 0
    for (columns, outputs), count in itertools.product(_SHAPES, (1, 2, 17, 70)):
        generator = torch.Generator().manual_seed(columns + count)
        dtype = list(_TOLERANCE)[checked % 3]
        rows = torch.randn(count, columns, generator=generator).to(dtype)
        weight = torch.randint(-127, 128, (outputs, columns), generator=generator, dtype=torch.int8)
        scales = torch.rand(outputs, generator=generator) / columns**0.5 / 60
        bias = torch.randn(outputs, generator=generator).to(dtype) if checked % 2 else None
        expected = plain.int8_linear(rows, weight, scales, bias)
        for processors in (1, 132) if columns > 1000 else (1,):
            found = narrow.int8_linear(rows, weight, scales, bias, processors)
            _compare(found, expected, f"{columns} columns, {outputs} outputs, {count} rows")
        checked += 1
    assert narrow.choose_splits(17, 33, 1024, 132) > 1
    apart = torch.randn(5, 64)[:, ::2]
    ones = torch.ones(3, 32, dtype=torch.int8)
    _compare(narrow.int8_linear(apart, ones, torch.ones(3)), apart.sum(1, keepdim=True).expand(5, 3), "apart")
    return checked + 1


def quantizing() -> int:
    """The same fp8 numbers as in plain torch, in rows of all sizes; what is no number stays none.

    Numbers that e4m3 holds exactly, since Triton's interpreter does not round as a GPU does.
    """
    checked = 0
    for dtype, columns in itertools.product(_TOLERANCE, (1, 64, 70, 5000)):
        generator = torch.Generator().manual_seed(columns)
        bits = torch.randint(0x7F, (5, columns), generator=generator)
        bits += 0x80 * torch.randint(2, (5, columns), generator=generator)
        exact = bits.to(torch.uint8).view(torch.float8_e4m3fn).float()
        exact[:, 0] = plain.FP8_PEAK
        exact[2] = 0
        rows = (exact * torch.tensor([[1.0], [2.0**5], [1.0], [2.0**-3], [0.5]])).to(dtype)
        found, scales = narrow.quantize_rows(rows)
        expected, wanted = plain.quantize_rows(rows)
        assert torch.equal(scales, wanted)
        assert torch.equal(found.float(), exact)
        assert torch.equal(expected.float(), exact)
        checked += 1
    rows = torch.randn(5, 40)
    rows[3, 17] = torch.nan
    for kernels in (narrow, plain):
        _, scales = kernels.quantize_rows(rows)
        assert scales.isnan()[:, 0].tolist() == [False, False, False, True, False]
    return checked + 1


def compiling() -> int:
    """Machine code for an H100 or H200 can be made without one; each must fit its shared memory."""
    count = 0
    numbers = {"columns": "i32", "outputs": "i32"}
    for dtype, tiles in (("bf16", ((2, 4), (64, 1), (256, 1))), ("fp16", ((16, 1),)), ("fp32", ((256, 1),))):
        pointers = {"weight": "*i8", "scales": "*fp32", "bias": f"*{dtype}", "output": f"*{dtype}"}
        for rows, splits in tiles:
            tile = narrow.choose_tile(rows)
            shape: dict[str, Any] = {
                "ROWS": tile.rows,
                "OUTPUTS": tile.outputs,
                "COLUMNS": tile.columns,
                "SPLITS": splits,
            }
            shape |= {"BIASED": True, "PRECISION": "ieee" if dtype == "fp32" else "tf32", "WIDEN": False}
            output = {"output": f"*{dtype}" if splits == 1 else "*fp32"}
            extra = {"rows": f"*{dtype}", "count": "i32", "row_stride": "i32"}
            _compile("_tile_kernel", pointers | numbers | extra | output, shape, tile.warps)
            count += 1
    pointers = {"scales": "*fp32", "bias": "*bf16", "output": "*bf16"}
    sizes = {"OUTPUTS": narrow.ROW_OUTPUTS, "COLUMNS": narrow.ROW_COLUMNS, "BIASED": True}
    _compile("_row_kernel", pointers | numbers | {"row": "*bf16", "weight": "*i8"}, sizes, 8)
    summed = pointers | {"partial": "*fp32", "count": "i32", "outputs": "i32"}
    _compile("_sum_kernel", summed, {"TILE": 1024, "SPLITS": 4, "BIASED": True}, 4)
    rounded = {"rows": "*bf16", "quantized": "*fp8e4nv", "scales": "*fp32"}
    rounded |= {"columns": "i32", "row_stride": "i32"}
    _compile("_quantize_kernel", rounded, {"PADDED": 8192, "PEAK": plain.FP8_PEAK}, 8)
    return count + 3


def _compare(found: Tensor, expected: Tensor, case: str) -> None:
    tolerance = _TOLERANCE[found.dtype]
    torch.testing.assert_close(
        found, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{case}: {text}"
    )


def _compile(name: str, arguments: dict[str, str], constants: dict[str, Any], warps: int) -> None:
    kernel = getattr(narrow, name)
    types = {name: arguments.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= 227 * 1024


if __name__ == "__main__":
    parts = {"products": products, "quantizing": quantizing, "compiling": compiling}
    sys.stdout.write(f"{parts[sys.argv[1]]()} checks passed\n")

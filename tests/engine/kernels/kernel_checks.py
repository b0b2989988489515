"""Checks of the Triton kernels, run in a process of its own by `test_paged_decode`; prints their number."""

import itertools
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from farebox_engine.kernels import paged_decode, plain
from farebox_engine.layers.attention import AttentionRule

Case = tuple[list[int], int, int, int, torch.dtype, AttentionRule, int, int]
_TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
_PLAIN = AttentionRule()


def case_inputs(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, block: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values, tables in scattered order, lengths; unused slots hold what would show."""
    generator = torch.Generator().manual_seed(sum(lengths) + heads)
    width = max(1, max(-(-length // block) for length in lengths))
    count = width * len(lengths) + 1
    keys, values = (torch.full((count, block, kv_heads, head_dim), 1e4, dtype=dtype) for _ in range(2))
    blocks = torch.randperm(count, generator=generator)[: width * len(lengths)]
    tables = blocks.view(len(lengths), width).to(torch.int32)
    for row, length in enumerate(lengths):
        slots = torch.arange(length)
        places = tables[row, slots // block].long() * block + slots % block
        for cache in (keys, values):
            content = torch.randn(length, kv_heads, head_dim, generator=generator)
            cache.flatten(0, 1)[places] = content.to(dtype)
    query = torch.randn(len(lengths), heads, head_dim, generator=generator).to(dtype)
    return query, keys, values, tables, torch.tensor(lengths, dtype=torch.int32)


def check(case: Case) -> None:
    lengths, heads, kv_heads, head_dim, dtype, rule, splits, block = case
    inputs = case_inputs(lengths, heads, kv_heads, head_dim, dtype, block)
    found = paged_decode.paged_decode(*inputs, rule, splits)
    expected = plain.paged_decode(*inputs, rule)
    tolerance = _TOLERANCE[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=lambda m: f"{case}: {m}")
    for row, length in enumerate(lengths):
        assert bool(found[row].any()) == (length > 0), case


def shapes() -> Iterator[Case]:
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    for head_dim, (heads, kv_heads) in itertools.product((64, 96, 128, 256), ((2, 2), (8, 2), (8, 1))):
        dtype = dtypes[(head_dim // 32 + heads) % 3]
        yield [1, 15, 16, 17, 0, 70], heads, kv_heads, head_dim, dtype, _PLAIN, 2, 16
    for dtype in dtypes:
        yield [33, 1], 9, 3, 64, dtype, _PLAIN, 1, 16


def rules() -> Iterator[Case]:
    lengths = [1, 63, 64, 65, 130]
    for window, softcap, splits in itertools.product((None, 1, 50, 200), (None, 5.0), (1, 3)):
        yield lengths, 4, 2, 64, torch.float32, AttentionRule(window, 0.3, softcap), splits, 16
    for splits in (4, 7, 32):
        yield [1, 129, 200], 4, 1, 64, torch.float32, _PLAIN, splits, 8


def chance() -> Iterator[Case]:
    rng = random.Random(0)
    for _ in range(25):
        kv_heads = rng.choice((1, 2, 3))
        rule = AttentionRule(
            rng.choice((None, rng.randint(1, 150))), rng.choice((None, 0.2)), rng.choice((None, 8.0))
        )
        lengths = [rng.choice((0, 1, rng.randint(1, 160))) for _ in range(rng.randint(1, 4))]
        yield (
            lengths,
            kv_heads * rng.choice((1, 3, 4, 8)),
            kv_heads,
            rng.choice((64, 96, 128)),
            torch.float32,
            rule,
            rng.choice((1, 2, 5, 8)),
            rng.choice((1, 8, 16, 32)),
        )


def storing() -> int:
    """Rows of a fused projection reach their slots; rows marked -1 reach nothing."""
    checked = 0
    for kv_heads, head_dim, dtype in (
        (3, 64, torch.float32),
        (1, 96, torch.bfloat16),
        (8, 128, torch.float16),
    ):
        fused = torch.randn(5, 4 * kv_heads, head_dim).to(dtype)
        key, value = fused[:, kv_heads : 2 * kv_heads], fused[:, 2 * kv_heads : 3 * kv_heads]
        slots = torch.tensor([7, -1, 0, 30, -1])
        found, expected = (
            [torch.zeros(4, 8, kv_heads, head_dim, dtype=dtype) for _ in range(2)] for _ in range(2)
        )
        paged_decode.store_kv(found[0], found[1], slots, key, value)
        plain.store_kv(expected[0], expected[1], slots, key, value)
        for got, wanted in zip(found, expected, strict=True):
            assert torch.equal(got, wanted)
            assert int(got.flatten(0, 1).flatten(1).any(1).sum()) == 3
        checked += 1
    return checked


def compiling() -> int:
    """Machine code for an H100 or H200 can be made without one; each must fit its shared memory."""
    count = 0
    for dtype, head_dim in itertools.product(("bf16", "fp16", "fp32"), (64, 96, 128, 256)):
        padded = triton.next_power_of_2(head_dim)
        pointers = dict.fromkeys(("query", "keys", "values"), f"*{dtype}")
        pointers |= {"tables": "*i32", "lengths": "*i32", "partial": "*fp32", "sums": "*fp32"}
        numbers = {"scale": "fp32", "softcap": "fp32", "window": "i32", "query_stride": "i32"}
        constants: dict[str, Any] = {"BLOCK": 16, "KV_HEADS": 8, "GROUP": 4, "ROWS": 16, "HEAD_DIM": head_dim}
        constants |= {"PADDED": padded, "TILE": paged_decode.tile(padded), "SPLITS": 8}
        constants |= {"CAPPED": True, "WINDOWED": True, "WIDEN": False}
        constants["PRECISION"] = "ieee" if dtype == "fp32" else "tf32"
        _compile("_split_kernel", pointers | numbers | {"table_stride": "i32"}, constants)
        merged = {"partial": "*fp32", "sums": "*fp32", "output": f"*{dtype}"}
        shape = {"HEAD_DIM": head_dim, "PADDED": padded, "SPLITS": 7, "SPLITS_PADDED": 8}
        _compile("_merge_kernel", merged, shape)
        stored = dict.fromkeys(("keys", "values", "key", "value"), f"*{dtype}") | {"slots": "*i64"}
        stored |= {"key_stride": "i32", "value_stride": "i32"}
        width = 8 * head_dim
        sizes = {"HEAD_DIM": head_dim, "WIDTH": width, "PADDED": triton.next_power_of_2(width)}
        _compile("_store_kernel", stored, sizes)
        count += 3
    return count


def _compile(name: str, arguments: dict[str, str], constants: dict[str, Any]) -> None:
    kernel = getattr(paged_decode, name)
    types = {name: arguments.get(name, "constexpr") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= 227 * 1024


def main(part: str) -> int:
    if part == "compiling":
        return compiling()
    if part == "storing":
        return storing()
    cases = list({"shapes": shapes, "rules": rules, "random": chance}[part]())
    for case in cases:
        check(case)
    return len(cases)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1])} checks passed\n")

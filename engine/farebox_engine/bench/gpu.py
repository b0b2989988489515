"""Everything that only a GPU can show, in one go: right results first, then speed.

python -m farebox_engine.bench gpu        stops at a wrong kernel or answer, with exit status 1

A measurement that fails is reported, and the others go on; the exit status is 1 then too.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from farebox_engine.bench.floor import Machine
from farebox_engine.bench.ours import EngineContender
from farebox_engine.bench.prefill import MIXED_SPANS, PrefillRow, measure_prefill
from farebox_engine.bench.report import machine_line, table, write_json
from farebox_engine.bench.rows import Row, measure_shape
from farebox_engine.bench.seat import Setting, usable_systems
from farebox_engine.bench.shapes import SHAPES, build_model, move
from farebox_engine.bench.workload import Workload
from farebox_engine.decode_graph import DecodeKernels
from farebox_engine.kernels import plain
from farebox_engine.kernels.varlen import try_out
from farebox_engine.layers.attention import AttentionRule
from farebox_engine.options import EngineConfig

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
_BATCHES = (1, 64, 256)
# Small, and drawn wide: at the usual width of 0.02 a fault in attention hardly shows.
_SMALL = SHAPES["smollm-135m"] | {"num_hidden_layers": 4, "vocab_size": 2000}
_SMALL_DEVIATION = 0.1
_PREFILL_SHAPE, _PREFILL_SECONDS = "qwen3-0.6b", 10.0

_Found = TypeVar("_Found")


class WrongResultError(RuntimeError):
    """The GPU's results are not those of the reference."""


def main(arguments: Sequence[str]) -> int:
    """Check, measure, print and write; return 0, 1 on a wrong result, 2 without a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shapes = ["qwen3-0.6b", "llama-3.1-8b", "qwen3-1.7b"]
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=shapes)
    parser.add_argument("--seconds", type=float, default=470, help="no shape is begun after 60 % of this")
    parser.add_argument("--json", type=Path, default=Path("engine-bench-gpu.json"), metavar="FILE")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.stderr.write("There is no GPU that torch can use here.\n")
        return 2
    started = time.perf_counter()
    device = torch.device("cuda")
    try:
        check_kernels(device)
        check_engine(device)
    except WrongResultError as error:
        sys.stderr.write(f"WRONG RESULT: {error}\n")
        return 1
    machine = Machine.measure(device, torch.bfloat16)
    _say(machine_line(machine, torch.get_num_threads()))
    failures: list[str] = []
    prefill = attempt("prefill", lambda: _measure_prefill(device), failures)
    torch.cuda.empty_cache()
    rows: list[Row] = []
    for shape in options.shapes:
        if time.perf_counter() - started > 0.6 * options.seconds:
            _say(f"{shape}: skipped, no time left")
            continue
        rows.extend(attempt(shape, partial(_measure, shape, machine, device), failures) or [])
        _say(table(rows))
        command = shlex.join(["python", "-m", "farebox_engine.bench", "gpu", *arguments])
        write_json(options.json, machine, rows, command, prefill, failures)
    _say(f"done in {time.perf_counter() - started:.0f} s; written to {options.json}")
    return 1 if failures else 0


def attempt(name: str, measure: Callable[[], _Found], failures: list[str]) -> _Found | None:
    """What `measure` finds; if it fails, `None`, and a line for the reader and in `failures`."""
    try:
        return measure()
    except Exception as error:
        failures.append(f"{name}: {type(error).__name__}: {error}")
        _say(f"FAILED {failures[-1]}")
        return None


def check_kernels(device: torch.device) -> None:
    """Compare the kernels with plain torch over shapes, rules, dtypes and splits.

    Raises:
        WrongResultError: they differ; names the case.
    """
    kernels = cast(DecodeKernels, importlib.import_module("farebox_engine.kernels.paged_decode"))
    lengths = [1, 15, 16, 17, 0, 64, 65, 1000, 1024]
    # Each case is compiled for itself: all pairs with all would take longer than the measurements.
    variants = (
        ((8, 8), AttentionRule(), 16),
        ((8, 2), AttentionRule(window=100), 1),
        ((8, 1), AttentionRule(softcap=20.0, scale=0.1), 5),
    )
    cases = itertools.product(_TOLERANCE, (64, 96, 128, 256), variants)
    count = 0
    for dtype, head_dim, ((heads, kv_heads), rule, splits) in cases:
        inputs = _paged_inputs(lengths, heads, kv_heads, head_dim, dtype, device)
        found = kernels.paged_decode(*inputs, rule, splits)
        _compare(
            found,
            plain.paged_decode(*inputs, rule),
            _TOLERANCE[dtype],
            f"paged_decode {dtype} {heads}/{kv_heads} heads of {head_dim}, {rule}, {splits} splits",
        )
        count += 1
    for dtype in _TOLERANCE:
        found, expected = (torch.zeros(8, 16, 4, 64, dtype=dtype, device=device) for _ in range(2))
        states = torch.randn(3, 12, 64, device=device).to(dtype)
        slots = torch.tensor([5, -1, 99], device=device)
        kernels.store_kv(found, found.clone(), slots, states[:, 4:8], states[:, 8:])
        plain.store_kv(expected, expected.clone(), slots, states[:, 4:8], states[:, 8:])
        _compare(found, expected, 0.0, f"store_kv {dtype}")
        count += 1
    _say(f"{count} kernel cases equal plain torch")


def check_engine(device: torch.device) -> None:
    """Compare graph-captured greedy answers in fp32 with the same model's on the CPU's path.

    Raises:
        WrongResultError: more than one of 24 answers differs (a near tie may).
    """
    prompts = [
        torch.randint(
            _SMALL["vocab_size"], (5 + 9 * row,), generator=torch.Generator().manual_seed(row)
        ).tolist()
        for row in range(24)
    ]
    answers = []
    for place in (device, torch.device("cpu")):
        # Drawn on the CPU: a GPU draws other numbers from the same seed.
        loaded = build_model(_SMALL, torch.device("cpu"), torch.float32, deviation=_SMALL_DEVIATION)
        config = EngineConfig(device=str(place), dtype="float32", context_length=320, max_running=16)
        contender = EngineContender("engine", move(loaded, place), config)
        answers.append([answer.tokens for answer in contender.answer(prompts, 40)])
        contender.close()
    same = sum(ours == theirs for ours, theirs in zip(*answers, strict=True))
    if same < len(prompts) - 1:
        raise WrongResultError(f"the engine gave {same} of {len(prompts)} answers as on the CPU")
    _say(f"the engine's graphs gave {same} of {len(prompts)} answers as on the CPU, to the token")


def _measure_prefill(device: torch.device) -> PrefillRow:
    loaded = build_model(SHAPES[_PREFILL_SHAPE], device, torch.bfloat16)
    packed = try_out(varlen_attn, loaded.config.head_dim, loaded.dtype, device)
    row = measure_prefill(_PREFILL_SHAPE, loaded, packed, MIXED_SPANS, _PREFILL_SECONDS)
    _say(row.as_line())
    check_prefill(row, loaded.dtype)
    return row


def check_prefill(row: PrefillRow, dtype: torch.dtype) -> None:
    """Let a row pass whose two ways agree.

    Raises:
        WrongResultError: they do not.
    """
    # Written so that no number at all is wrong too.
    if not row.error <= _TOLERANCE[dtype]:
        raise WrongResultError(f"packed attention is off by up to {row.error:g}")


def _measure(shape: str, machine: Machine, device: torch.device) -> list[Row]:
    setting = Setting(device, torch.bfloat16, rounds=1, threads=torch.get_num_threads())
    workloads = [Workload(batch, context=1024, new_tokens=96) for batch in _BATCHES]
    return measure_shape(
        shape, workloads, usable_systems(["engine", "continuous-batching"]), machine, setting
    )


def _paged_inputs(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    block, width = 16, 64
    blocks = len(lengths) * width
    query = torch.randn(len(lengths), heads, head_dim, device=device).to(dtype)
    keys, values = (torch.randn(blocks, block, kv_heads, head_dim, device=device).to(dtype) for _ in range(2))
    tables = torch.randperm(blocks, device=device).view(len(lengths), width).to(torch.int32)
    return query, keys, values, tables, torch.tensor(lengths, dtype=torch.int32, device=device)


def _compare(found: Tensor, expected: Tensor, tolerance: float, case: str) -> None:
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        worst = float((found.float() - expected.float()).abs().max())
        raise WrongResultError(f"{case}: off by up to {worst:g}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

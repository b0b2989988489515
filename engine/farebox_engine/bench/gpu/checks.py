"""What a GPU computes beside plain torch and the CPU's path; each function runs in a process of its own."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn

from farebox_engine.bench.decoding.engine_contender import EngineContender
from farebox_engine.bench.decoding.shapes import SHAPES, build_model, move
from farebox_engine.bench.gpu.prefill import MIXED_SPANS, PrefillRow, measure_prefill
from farebox_engine.bench.limited_process import Say
from farebox_engine.config import EngineConfig
from farebox_engine.errors import LoadError
from farebox_engine.execution.decode_graph import DecodeKernels
from farebox_engine.kernels import plain
from farebox_engine.kernels.varlen import UnusableAttentionError, try_out
from farebox_engine.layers.attention import AttentionRule
from farebox_engine.quantization.narrow import EmulatedFp8Linear, Fp8Linear, NarrowKernels
from farebox_engine.quantization.prepare import check_quantization, emulate_fp8, narrow_linears, scales_inside

Case = tuple[str, Callable[[], None]]

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
_SHOWN = 5
# Small, and drawn wide: at the usual width of 0.02 a fault in attention hardly shows.
_SMALL = SHAPES["smollm-135m"] | {"num_hidden_layers": 4, "vocab_size": 2000}
_SMALL_DEVIATION = 0.1
_PROMPTS, _NEW_TOKENS = 24, 32
_PREFILL_SHAPE, _PREFILL_SECONDS = "qwen3-0.6b", 10.0


class WrongResultError(RuntimeError):
    """The GPU's results are not those of the reference."""


def measure_prefill_row(say: Say, device: torch.device) -> PrefillRow:
    """Time a step of mixed prompts in one attention call and one by one.

    Raises:
        WrongResultError: the two differ.
        UnusableAttentionError: there is no such call here.
    """
    loaded = build_model(SHAPES[_PREFILL_SHAPE], device, torch.bfloat16)
    packed = try_out(varlen_attn, loaded.config.head_dim, loaded.dtype, device)
    row = measure_prefill(_PREFILL_SHAPE, loaded, packed, MIXED_SPANS, _PREFILL_SECONDS)
    say(row.as_line())
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


def check_paged_kernels(say: Say, device: torch.device, kernels: DecodeKernels | None = None) -> None:
    """Compare the kernels of decoding with plain torch over shapes, rules, dtypes and splits.

    Those in triton are `kernels` unless others are given.

    Raises:
        WrongResultError: they differ, or fail; names a case.
    """
    tried = kernels or cast(DecodeKernels, importlib.import_module("farebox_engine.kernels.paged_decode"))
    # Each case is compiled for itself: all pairs with all would take longer than the measurements.
    variants = (
        ((8, 8), AttentionRule(), 16),
        ((8, 2), AttentionRule(window=100), 1),
        ((8, 1), AttentionRule(softcap=20.0, scale=0.1), 5),
    )

    def paged(
        dtype: torch.dtype, head_dim: int, heads: tuple[int, int], rule: AttentionRule, splits: int
    ) -> None:
        inputs = _paged_inputs([1, 15, 16, 17, 0, 64, 65, 1000, 1024], *heads, head_dim, dtype, device)
        found = tried.paged_decode(*inputs, rule, splits)
        _compare(found, plain.paged_decode(*inputs, rule), _TOLERANCE[dtype])

    def storing(dtype: torch.dtype) -> None:
        found, expected = (torch.zeros(8, 16, 4, 64, dtype=dtype, device=device) for _ in range(2))
        states = torch.randn(3, 12, 64, device=device).to(dtype)
        slots = torch.tensor([5, -1, 99], device=device)
        tried.store_kv(found, found.clone(), slots, states[:, 4:8], states[:, 8:])
        plain.store_kv(expected, expected.clone(), slots, states[:, 4:8], states[:, 8:])
        _compare(found, expected, 0.0)

    cases: list[Case] = []
    for dtype, head_dim, (heads, rule, splits) in itertools.product(_TOLERANCE, (64, 96, 128, 256), variants):
        name = f"paged_decode {dtype} {heads} heads of {head_dim}, {rule}, {splits} splits"
        cases.append((name, partial(paged, dtype, head_dim, heads, rule, splits)))
    cases.extend((f"store_kv {dtype}", partial(storing, dtype)) for dtype in _TOLERANCE)
    _run(say, "kernel cases of decoding", cases)


def check_narrow_kernels(say: Say, device: torch.device, kernels: NarrowKernels | None = None) -> None:
    """Compare products with weights of eight bits, and prompts computed together, with plain torch.

    Those in triton are `kernels` unless others are given.

    Raises:
        WrongResultError: they differ, or fail; names a case.
    """
    tried = kernels or cast(NarrowKernels, importlib.import_module("farebox_engine.kernels.narrow"))
    cuda = device.type == "cuda"
    processors = torch.cuda.get_device_properties(device).multi_processor_count if cuda else 1

    def int8(dtype: torch.dtype, count: int, columns: int, outputs: int) -> None:
        rows = torch.randn(count, columns, device=device).to(dtype)
        weight = torch.randint(-127, 128, (outputs, columns), dtype=torch.int8, device=device)
        scales = torch.rand(outputs, device=device) / columns**0.5 / 60
        bias = torch.randn(outputs, device=device).to(dtype)
        found = tried.int8_linear(rows, weight, scales, bias, processors)
        # In fp64: a GPU may round fp32 products itself.
        expected = (rows.double() @ weight.double().t()) * scales + bias
        _compare(found, expected.to(dtype), _TOLERANCE[dtype])

    def fp8(dtype: torch.dtype, count: int) -> None:
        linear = nn.Linear(1024, 3072, device=device, dtype=dtype).requires_grad_(False)
        rows = torch.randn(count, 1024, device=device).to(dtype)
        rows[-1] *= 50
        inside = scales_inside(device, dtype)
        found = Fp8Linear(linear, tried, scales_inside=inside)(rows).float()
        expected = EmulatedFp8Linear(linear, plain)(rows).float()
        error = float((found - expected).norm() / expected.norm())
        # A number on the border of two of e4m3 may fall to either side.
        if not error < 0.01:
            raise WrongResultError(f"off by {error:g} of the result")

    shapes = ((1, 1024, 3072), (2, 3072, 1024), (17, 1000, 130), (64, 1024, 3072), (200, 1024, 1000))
    cases: list[Case] = [
        (f"int8_linear {dtype} {shape}", partial(int8, dtype, *shape))
        for dtype, shape in itertools.product((torch.bfloat16, torch.float32), shapes)
    ]
    try:
        check_quantization("fp8", device)
        for dtype, count in itertools.product((torch.bfloat16, torch.float32), (1, 17, 300)):
            cases.append((f"fp8 {dtype} {count} rows", partial(fp8, dtype, count)))
    except LoadError as error:
        say(f"no fp8 here: {error}")
    cases += [(f"varlen_attn {head_dim}", partial(_varlen, say, device, head_dim)) for head_dim in (64, 128)]
    _run(say, "cases of narrow products and of prompts", cases)


def check_engine(say: Say, device: torch.device) -> None:
    """Compare graph-captured greedy answers with the same model's on the CPU's path, wide and narrow.

    Raises:
        WrongResultError: more answers differ than near ties explain; names a case.
    """
    cpu = torch.device("cpu")

    def exact(quantization: str | None) -> None:
        ours = _answers(device, torch.float32, quantization=quantization)
        theirs = _answers(cpu, torch.float32, _as_on_a_gpu(quantization))
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        first = sum(a[0] == b[0] for a, b in zip(ours, theirs, strict=True))
        name = quantization or "wide"
        say(f"{name} in fp32: {same} of {_PROMPTS} answers as on the CPU, {first} first tokens")
        # Inputs on the border of two fp8 numbers make answers part in time.
        enough = first >= _PROMPTS - 4 if quantization == "fp8" else same >= _PROMPTS - 1
        if not enough:
            raise WrongResultError(f"{same} of {_PROMPTS} answers are the CPU's")

    def chunked() -> None:
        whole, parts = (_answers(device, torch.bfloat16, step_tokens=size) for size in (None, 64))
        first = sum(a[0] == b[0] for a, b in zip(whole, parts, strict=True))
        say(f"bf16: {first} of {_PROMPTS} first tokens alike for prompts in one step and in several")
        if first < _PROMPTS - 4:
            raise WrongResultError(f"{first} of {_PROMPTS} first tokens are alike")

    cases: list[Case] = [("wide", partial(exact, None)), ("prompts in parts", chunked)]
    if device.type == "cuda":
        # A CPU's int8 is another: it rounds the inputs, too.
        cases.append(("int8", partial(exact, "int8")))
    try:
        check_quantization("fp8", device)
        cases.append(("fp8", partial(exact, "fp8")))
    except LoadError:
        say("the engine's fp8 is not checked here")
    _run(say, "cases of whole engines", cases)


def _varlen(say: Say, device: torch.device, head_dim: int) -> None:
    try:
        attention = try_out(varlen_attn, head_dim, torch.bfloat16, device)
    except UnusableAttentionError as error:
        say(f"heads of {head_dim}: prompts are computed one by one, for varlen_attn fails here: {error}")
        return
    queries, keys = (0, 700, 733, 735), (0, 700, 1033, 1100)
    starts = [torch.tensor(places, dtype=torch.int32, device=device) for places in (queries, keys)]
    query = torch.randn(queries[-1], 8, head_dim, device=device).bfloat16()
    key, value = (torch.randn(keys[-1], 2, head_dim, device=device).bfloat16() for _ in range(2))
    case = (query, key, value, starts[0], starts[1], 700, 700)
    scale = head_dim**-0.5
    expected = plain.varlen_attn(*case, scale=scale, window_size=(-1, 0), enable_gqa=True)
    _compare(attention(*case, scale=scale), expected, _TOLERANCE[torch.bfloat16])


def _answers(
    device: torch.device,
    dtype: torch.dtype,
    prepare: Callable[[nn.Module], None] | None = None,
    *,
    quantization: str | None = None,
    step_tokens: int | None = None,
) -> list[list[int]]:
    """Greedy tokens to each of 24 prompts of different lengths."""
    # Drawn on the CPU: a GPU draws other numbers from the same seed.
    loaded = build_model(_SMALL, torch.device("cpu"), dtype, deviation=_SMALL_DEVIATION)
    if prepare is not None:
        prepare(cast(nn.Module, loaded.model))
    config = EngineConfig(
        device=str(device),
        context_length=320,
        max_running=16,
        quantization=quantization,
        step_tokens=step_tokens,
    )
    prompts = [
        torch.randint(
            _SMALL["vocab_size"], (5 + 9 * row,), generator=torch.Generator().manual_seed(row)
        ).tolist()
        for row in range(_PROMPTS)
    ]
    contender = EngineContender("engine", move(loaded, device), config)
    try:
        return [answer.tokens for answer in contender.answer(prompts, _NEW_TOKENS)]
    finally:
        contender.close()


def _as_on_a_gpu(quantization: str | None) -> Callable[[nn.Module], None] | None:
    if quantization is None:
        return None
    if quantization == "fp8":
        return partial(emulate_fp8, kernels=plain)
    return partial(narrow_linears, quantization=quantization, kernels=plain)


def _run(say: Say, title: str, cases: Iterable[Case]) -> None:
    """Run all cases, whatever becomes of those before; then raise for those that were wrong."""
    count, wrong = 0, 0
    for name, case in cases:
        count += 1
        try:
            case()
        except Exception as error:
            wrong += 1
            if wrong <= _SHOWN:
                say(f"WRONG: {name}: {type(error).__name__}: {error}")
    if wrong:
        raise WrongResultError(f"{wrong} of {count} {title}")
    say(f"{count} {title} are right")


def _paged_inputs(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    block, width = 16, 64
    blocks = len(lengths) * width
    query = torch.randn(len(lengths), heads, head_dim, device=device).to(dtype)
    keys, values = (torch.randn(blocks, block, kv_heads, head_dim, device=device).to(dtype) for _ in range(2))
    tables = torch.randperm(blocks, device=device).view(len(lengths), width).to(torch.int32)
    return query, keys, values, tables, torch.tensor(lengths, dtype=torch.int32, device=device)


def _compare(found: Tensor, expected: Tensor, tolerance: float) -> None:
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        worst = float((found.float() - expected.float()).abs().max())
        raise WrongResultError(f"off by up to {worst:g}")

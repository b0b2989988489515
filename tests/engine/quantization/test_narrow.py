"""Weights of eight bits as a GPU computes with them: kernels in Triton's interpreter, engines on a CPU."""

import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from farebox_engine import Engine, EngineConfig, LoadError
from farebox_engine.cli import main
from farebox_engine.decoders.assembly import Layout
from farebox_engine.execution.decode_graph import run_eagerly
from farebox_engine.execution.device_runner import DeviceRunner
from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.kernels import plain
from farebox_engine.layers.experts import Experts, SparseMLP
from farebox_engine.models.registry import CausalLM
from farebox_engine.quantization import prepare
from farebox_engine.quantization.narrow import EmulatedFp8Linear, Fp8Linear, Int8WeightLinear
from farebox_engine.quantization.prepare import emulate_fp8, narrow_linears
from tests.engine.conftest import StartEngine
from tests.engine.generating import answers, greedy, random_prompts
from tests.engine.kernels.kernel_runs import checks_passed
from tests.engine.lora.adapters import build_adapter, merged

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


@needs_triton
@pytest.mark.parametrize("part", ["products", "quantizing"])
def test_kernels_equal_plain_torch(part: str) -> None:
    assert checks_passed("narrow_checks.py", part, interpret=True) >= 13


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="triton's assembler is for x86-64")
def test_kernels_compile_for_hopper(tmp_path: Path) -> None:
    assert checks_passed("narrow_checks.py", "compiling", interpret=False, cache=tmp_path) == 8


def _linear(inputs: int, outputs: int, bias: bool, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(inputs + outputs)
    return nn.Linear(inputs, outputs, bias=bias, dtype=dtype)


@torch.no_grad()
def _error(layer: nn.Module, linear: nn.Linear, rows: torch.Tensor) -> float:
    exact = linear(rows)
    return float((layer(rows) - exact).norm() / exact.norm())


@pytest.mark.parametrize("rows", [1, 64, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_weights_cost_their_rounding(rows: int, dtype: torch.dtype) -> None:
    """Few rows go to the kernel, many to a product with the widened weight."""
    linear = _linear(256, 48, True, dtype)
    layer = Int8WeightLinear(linear, plain)
    assert 1e-4 < _error(layer, linear, torch.randn(rows, 256).to(dtype)) < 0.01


def test_int8_weights_do_not_overflow_half_precision() -> None:
    linear = _linear(512, 16, False, torch.float16)
    nn.init.constant_(linear.weight, 0.5)
    rows = torch.full((300, 512), 20.0).half()
    with torch.no_grad():
        assert Int8WeightLinear(linear, plain)(rows).isfinite().all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("dtype", "inside"), [(torch.bfloat16, True), (torch.bfloat16, False), (torch.float32, False)]
)
@torch.no_grad()
def test_fp8_products_are_those_of_the_emulation(bias: bool, dtype: torch.dtype, inside: bool) -> None:
    linear = _linear(256, 48, bias, dtype)
    rows = torch.randn(5, 256).to(dtype)
    rows[2] *= 100
    found = Fp8Linear(linear, plain, scales_inside=inside)(rows)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1.6e-2
    torch.testing.assert_close(found, EmulatedFp8Linear(linear, plain)(rows), rtol=tolerance, atol=tolerance)
    # Three bits of mantissa: a relative error of up to 2 ** -4 in each weight and each input.
    assert 5e-3 < _error(EmulatedFp8Linear(linear, plain), linear, rows) < 0.06


@torch.no_grad()
def test_fp8_rows_do_not_feel_their_neighbours() -> None:
    layer = Fp8Linear(_linear(128, 48, False), plain, scales_inside=False)
    row = torch.randn(1, 128)
    neighbours = 1000 * torch.randn(7, 128)
    torch.testing.assert_close(layer(torch.cat((row, neighbours)))[:1], layer(row), rtol=1e-6, atol=1e-6)


def test_routers_experts_and_odd_shapes_stay_as_they_are() -> None:
    model = nn.Module()
    model.mlp = SparseMLP(Experts(4, 32, 16), 32, 2, renormalise=True)
    model.odd = nn.Linear(32, 50)
    model.even = nn.Linear(32, 48)
    narrow_linears(model, "fp8", plain)
    assert type(model.mlp.gate) is nn.Linear
    assert type(model.odd) is nn.Linear
    assert isinstance(model.even, Fp8Linear)
    narrow_linears(model, "int8", plain)
    assert isinstance(model.odd, Int8WeightLinear)


async def test_an_engine_with_int8_weights_mostly_agrees_with_a_wide_one(
    start_engine: StartEngine,
) -> None:
    prompts = random_prompts(5, [9, 33, 50, 17, 21, 40])
    expected = await answers(start_engine(), prompts, max_tokens=1)
    narrow = start_engine(layout=Layout(_narrowing("int8"), _device_runner))
    found = await answers(narrow, prompts, max_tokens=3)
    same = [ours.tokens[:1] == theirs.tokens for ours, theirs in zip(found, expected, strict=True)]
    assert sum(same) >= 4


async def test_an_fp8_engine_agrees_with_the_emulation(start_engine: StartEngine) -> None:
    """Decoding in captured steps, by the product that a GPU calls."""
    prompts = random_prompts(5, [9, 33, 50, 17, 21, 40])
    expected = await answers(start_engine(layout=Layout(_emulating)), prompts, max_tokens=3)
    narrow = start_engine(layout=Layout(_narrowing("fp8"), _device_runner))
    found = await answers(narrow, prompts, max_tokens=3)
    # A sum on the border between two fp8 numbers may fall to either side.
    assert sum(ours.tokens == theirs.tokens for ours, theirs in zip(found, expected, strict=True)) >= 5


def _narrowing(quantization: str) -> Callable[[nn.Module, str | None, torch.device], None]:
    """Instead of `prepare_linears`: as on a GPU."""
    return lambda model, _setting, _device: narrow_linears(model, quantization, plain)


def _emulating(model: nn.Module, _setting: str | None, _device: torch.device) -> None:
    emulate_fp8(model, plain)


def _device_runner(model: CausalLM, cache: KVCache, *, capacity: int, max_blocks: int) -> DeviceRunner:
    return DeviceRunner(
        model,
        cache,
        capacity=capacity,
        max_blocks=max_blocks,
        kernels=plain,
        splits=lambda bucket: 1,
        capture=run_eagerly,
    )


def test_fp8_is_refused_on_a_cpu_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="needs a GPU; use int8 on a CPU"):
        Engine.load(tmp_path / "absent", EngineConfig(device="cpu", quantization="fp8"))


def test_fp8_is_refused_on_an_older_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    with pytest.raises(LoadError, match=r"8\.9 .* NVIDIA A100 has 8\.0: use int8"):
        prepare.check_quantization("fp8", device)
    prepare.check_quantization("int8", device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    prepare.check_quantization("fp8", device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the command would take the GPU")
def test_the_command_says_that_fp8_needs_a_gpu(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    look = ["generate", "--model", str(checkpoint), "--prompt", "a", "--max-tokens", "2"]
    assert main([*look, "--quantization", "fp8"]) == 2
    assert "needs a GPU; use int8" in capsys.readouterr().err
    assert main([*look, "--quantization", "int8"]) == 0


@pytest.mark.parametrize("quantization", ["int8", "fp8"])
async def test_adapters_are_added_to_narrow_products(
    start_engine: StartEngine, checkpoint: Path, tmp_path: Path, quantization: str
) -> None:
    adapter = build_adapter(tmp_path / "adapter", checkpoint, ["q_proj", "down_proj"], seed=3)
    engine = start_engine(layout=Layout(_narrowing(quantization)))
    engine.load_adapter("a", adapter)
    prompts = random_prompts(7, [9, 33, 50, 17])
    found = await answers(engine, prompts, max_tokens=1, adapter="a")
    model = merged(checkpoint, adapter)
    same = [each.tokens == greedy(model, prompt, 1) for each, prompt in zip(found, prompts, strict=True)]
    # By chance one in four hundred would be.
    assert sum(same) >= 2


@pytest.mark.parametrize("rows", [1, 300])
def test_nothing_depends_on_what_the_numbers_are(rows: int) -> None:
    """As a captured graph requires: numbers that cannot be read go through every layer."""
    linear = _linear(64, 48, True, torch.bfloat16)
    layers = [
        Int8WeightLinear(linear, plain),
        *(Fp8Linear(linear, plain, scales_inside=inside) for inside in (True, False)),
    ]
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for layer in layers:
            output = layer(torch.empty(rows, 64, dtype=torch.bfloat16))
            assert (output.shape, output.dtype) == ((rows, 48), torch.bfloat16)

"""Linear layers laid out for a CPU: the same products, and int8's cost."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from farebox_engine import Engine, EngineConfig, LoadError
from farebox_engine.layers.experts import Experts, SeparateExperts
from farebox_engine.quantization.packed import Int8Linear, PackedLinear, pack_linears
from tests.engine.checkpoints import FAMILIES, build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.generating import answer, answers, greedy, random_prompts
from tests.engine.lora.adapters import build_adapter, merged

onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
needs_onednn = pytest.mark.skipif(not onednn, reason="torch without oneDNN")


def _linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    torch.manual_seed(inputs + outputs)
    return nn.Linear(inputs, outputs, bias=bias)


@needs_onednn
@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_packed_products_are_those_of_the_linear_layer(rows: int, bias: bool) -> None:
    linear = _linear(70, 33, bias)
    inputs = torch.randn(rows, 70)
    torch.testing.assert_close(PackedLinear(linear)(inputs), linear(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_int8_is_within_its_rounding(rows: int, bias: bool) -> None:
    linear = _linear(256, 65, bias)
    inputs = torch.randn(rows, 256)
    exact = linear(inputs)
    error = (Int8Linear(linear)(inputs) - exact).norm() / exact.norm()
    # A peak of about 3 deviations over 127 steps, uniform rounding, for weights and inputs each.
    assert 1e-4 < error < 0.02


def test_int8_rows_do_not_feel_their_neighbours() -> None:
    layer = Int8Linear(_linear(128, 48, False))
    row = torch.randn(1, 128)
    neighbours = 1000 * torch.randn(7, 128)
    torch.testing.assert_close(layer(torch.cat((row, neighbours)))[:1], layer(row), rtol=1e-6, atol=1e-6)


def test_int8_takes_a_row_of_zeros() -> None:
    layer = Int8Linear(_linear(16, 8, False))
    assert layer(torch.zeros(2, 16)).eq(0).all()


def test_a_tied_embedding_survives_packing() -> None:
    model = nn.Module()
    model.embed = nn.Embedding(20, 8)
    model.head = nn.Linear(8, 20, bias=False)
    model.head.weight = model.embed.weight
    pack_linears(model, "int8")
    assert isinstance(model.head, Int8Linear)
    assert model.embed(torch.tensor([3])).shape == (1, 8)


async def test_an_int8_engine_mostly_agrees_with_fp32(
    start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    engine = start_engine(quantization="int8")
    prompts = random_prompts(5, [9, 33, 50, 17])
    found = await answers(engine, prompts, max_tokens=4)
    expected = [greedy(reference, prompt, 4) for prompt in prompts]
    firsts = [got.tokens[0] == tokens[0] for got, tokens in zip(found, expected, strict=True)]
    assert sum(firsts) >= 3


async def test_an_int8_answer_is_the_same_alone_and_in_a_batch(start_engine: StartEngine) -> None:
    engine = start_engine(quantization="int8")
    prompts = random_prompts(6, [12, 40, 25])
    together = await answers(engine, prompts)
    alone = [await answer(engine, prompt, salt=b"alone") for prompt in prompts]
    assert [found.tokens for found in together] == [found.tokens for found in alone]


async def test_int8_takes_adapters(start_engine: StartEngine, checkpoint: Path, tmp_path: Path) -> None:
    adapter = build_adapter(tmp_path / "adapter", checkpoint, ["q_proj", "down_proj"], seed=3)
    engine = start_engine(quantization="int8")
    engine.load_adapter("a", adapter)
    prompts = random_prompts(7, [9, 33, 50, 17])
    found = await answers(engine, prompts, max_tokens=4, adapter="a")
    model = merged(checkpoint, adapter)
    firsts = [
        got.tokens[0] == greedy(model, prompt, 1)[0] for got, prompt in zip(found, prompts, strict=True)
    ]
    assert sum(firsts) >= 3


def _experts() -> Experts:
    torch.manual_seed(5)
    experts = Experts(4, 32, 48)
    for parameter in experts.parameters():
        nn.init.normal_(parameter, std=0.2)
    return experts


@pytest.mark.parametrize("ends", [[2, 2, 5, 9], [0, 0, 0, 1]])
def test_separate_experts_compute_what_stacked_ones_do(ends: list[int]) -> None:
    experts = _experts()
    rows, bounds = torch.randn(ends[-1], 32), torch.tensor(ends, dtype=torch.int32)
    exact = experts(rows, bounds)
    same = SeparateExperts(experts, lambda linear: linear)(rows, bounds)
    torch.testing.assert_close(same, exact, rtol=1e-5, atol=1e-5)
    narrow = SeparateExperts(experts, Int8Linear)(rows, bounds)
    assert 1e-4 < (narrow - exact).norm() / exact.norm() < 0.03


@pytest.mark.parametrize("family", ["mixtral", "qwen3-moe"])
async def test_an_int8_mixture_of_experts_mostly_agrees_with_fp32(
    start_engine: StartEngine, tmp_path: Path, family: str
) -> None:
    folder = build_checkpoint(tmp_path, **FAMILIES[family])
    exact, narrow = start_engine(folder), start_engine(folder, quantization="int8")
    prompts = random_prompts(8, [9, 33, 50, 17, 21, 40])
    expected = await answers(exact, prompts, max_tokens=8)
    found = await answers(narrow, prompts, max_tokens=8)
    firsts = [got.tokens[0] == told.tokens[0] for got, told in zip(found, expected, strict=True)]
    assert sum(firsts) >= 4
    alone = [await answer(narrow, prompt, salt=b"alone", max_tokens=8) for prompt in prompts]
    assert [each.tokens for each in alone] == [each.tokens for each in found]


def test_an_unknown_quantization_is_refused(checkpoint: Path) -> None:
    with pytest.raises(LoadError, match="quantization is 'int3'"):
        Engine.load(checkpoint, EngineConfig(device="cpu", quantization="int3"))

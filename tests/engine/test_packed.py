"""Linear layers laid out for a CPU: the same products, and int8's cost."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from farebox_engine import Engine, EngineConfig, LoadError
from farebox_engine.layers.packed import Int8Linear, PackedLinear, pack_linears
from tests.engine.adapters import build_adapter, merged
from tests.engine.conftest import StartEngine
from tests.engine.generating import answer, answers, greedy, random_prompts

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


def test_an_unknown_quantization_is_refused(checkpoint: Path) -> None:
    with pytest.raises(LoadError, match="quantization is 'int3'"):
        Engine.load(checkpoint, EngineConfig(device="cpu", quantization="int3"))

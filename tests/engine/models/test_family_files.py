"""What the families' folders may hold: older and newer spellings, and what is refused by name."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from farebox_engine import LoadError, load_model
from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.decoders.accounting import DecoderCost
from farebox_engine.models.gemma3 import read_gemma3
from farebox_engine.models.loader import LoadedModel, allocate
from farebox_engine.models.mistral import read_mistral
from farebox_engine.models.qwen2 import read_qwen2
from farebox_engine.models.registry import FAMILIES as REGISTRY
from farebox_engine.scheduling.sequence import Span
from tests.engine.checkpoints import EXPERTS, FAMILIES, SHAPE, build_checkpoint
from tests.engine.sequences import make_sequence

WEIGHTS = "model.safetensors"


def load(folder: Path) -> LoadedModel:
    return load_model(folder, device=torch.device("cpu"), dtype=torch.float32)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model = load(folder).model
    assert isinstance(model, torch.nn.Module)
    return model.state_dict()


def assert_same_weights(one: Path, other: Path) -> None:
    expected, found = weights(one), weights(other)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
def test_experts_are_read_one_by_one_and_stacked(name: str, tmp_path: Path) -> None:
    one_by_one = build_checkpoint(tmp_path / "one-by-one", **FAMILIES[name])
    stacked = Path(shutil.copytree(one_by_one, tmp_path / "stacked"))
    AutoModelForCausalLM.from_pretrained(one_by_one).save_pretrained(stacked, save_original_format=False)
    assert "model.layers.1.mlp.experts.gate_up_proj" in load_file(stacked / WEIGHTS)
    assert "model.layers.1.mlp.experts.gate_up_proj" not in load_file(one_by_one / WEIGHTS)
    assert_same_weights(one_by_one, stacked)


def test_a_gpt2_of_the_first_hour_has_no_prefix_but_masks(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path / "new", **FAMILIES["gpt2"])
    old = Path(shutil.copytree(folder, tmp_path / "old"))
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(old / WEIGHTS).items()}
    mask = {"h.0.attn.bias": torch.ones(1, 1, 8, 8).tril(), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(tensors | mask, old / WEIGHTS)
    assert_same_weights(folder, old)


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    folder = build_checkpoint(tmp_path, **FAMILIES["mixtral"])
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.block_sparse_moe.experts.3.w2.weight"]
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(LoadError, match=r"lacks the tensor .*experts\.3\.w2\.weight"):
        load(folder)


def test_gemma_3_in_the_words_of_transformers_4() -> None:
    shape = SHAPE | {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 16}
    older = shape | {
        "rope_theta": 2e6,
        "rope_local_base_freq": 5e3,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 2,
    }
    newer = shape | {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
        },
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    }
    assert read_gemma3(older) == read_gemma3(newer)
    assert read_gemma3(newer).windows == (16, None, 16, None)


def test_a_local_rope_that_looks_at_lengths_is_noticed() -> None:
    ropes = {"full_attention": {}, "sliding_attention": {"rope_type": "dynamic", "factor": 2.0}}
    family = REGISTRY.known["gemma3_text"]
    config = family.read_config(SHAPE | {"model_type": "gemma3_text", "rope_parameters": ropes})
    model = allocate(family, config, torch.device("meta"), torch.float32)
    assert model.lengths_matter


def test_no_window_is_not_the_same_as_none_named() -> None:
    assert read_mistral(SHAPE).windows == (4096,) * 4
    assert read_mistral(SHAPE | {"sliding_window": None}).windows == ()
    assert read_qwen2(SHAPE | {"sliding_window": 8, "max_window_layers": 2}).windows == ()
    windowed = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}
    assert read_qwen2(SHAPE | windowed).windows == (None, None, 8, 8)


@pytest.mark.parametrize("model_type", REGISTRY.known)
def test_a_configuration_that_fits_is_read(model_type: str) -> None:
    config = SHAPE | EXPERTS | {"model_type": model_type, "n_embd": 32, "n_layer": 4, "n_head": 4}
    read = REGISTRY.known[model_type].read_config(config)
    assert (read.vocab_size, read.num_layers, read.num_heads) == (100, 4, 4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_can_be_checked_without_computing(name: str, tmp_path: Path) -> None:
    """On the device "meta", as it is done before a model is offered for sale."""
    folder = build_checkpoint(tmp_path, **FAMILIES[name])
    checked = load_model(folder, device=torch.device("meta"), dtype=torch.float32)
    assert checked.parameters == AutoModelForCausalLM.from_pretrained(folder).num_parameters()


def test_learned_positions_end(tmp_path: Path) -> None:
    assert not load(build_checkpoint(tmp_path, **FAMILIES["gpt2"])).config.extensible


def test_a_token_is_not_charged_for_what_it_does_not_meet() -> None:
    shape = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
    }

    def cost(length: int, **changes: Any) -> float:
        model = DecoderCost.of(
            DecoderConfig(**(shape | changes)),
            weight_bytes=40_000,
            parameters=10_000,
            item_bytes=4,
            on_gpu=False,
        )
        sequence = make_sequence([1] * length)
        return model.cost(Span(sequence, length - 1, 1), 1)

    assert cost(8, windows=(8, 8)) == cost(8)
    assert cost(100, windows=(8, 8)) == cost(8)
    assert cost(8) < cost(100, windows=(8, None)) < cost(100)
    assert cost(8, idle_parameters=5_000) < cost(8)

"""The decoder computes what `transformers` computes, and reads and writes the same files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig as ReferenceConfig
from transformers import LlamaForCausalLM as ReferenceModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from farebox_engine.checkpoint.config import ConfigError
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.layers.rotary import rope_frequencies
from farebox_engine.models.llama import LlamaConfig, LlamaForCausalLM
from farebox_engine.models.weights import load_weights, named_weights

SCALINGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn-mscale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "mscale": 0.7,
        "mscale_all_dim": 0.4,
        "beta_fast": 8.0,
        "truncate": False,
    },
    "longrope": {
        "rope_type": "longrope",
        "original_max_position_embeddings": 16,
        "short_factor": [1.0, 1.1, 1.3, 1.7],
        "long_factor": [1.5, 2.0, 3.0, 5.0],
        "factor": 4.0,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "original_max_position_embeddings": 16,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}


def reference(scaling: dict[str, Any] | None = None, **fields: Any) -> ReferenceModel:
    """A random model wide enough (0.3) that a wrong rotation or head shows in the logits."""
    torch.manual_seed(7)
    shape: dict[str, Any] = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "rope_parameters": {"rope_theta": 500.0, "rope_type": "default", **(scaling or {})},
    }
    model = ReferenceModel(ReferenceConfig(**(shape | fields)))
    model.train(False)
    return model


def twin(model: ReferenceModel) -> LlamaForCausalLM:
    ours = LlamaForCausalLM(LlamaConfig.from_dict(model.config.to_dict()))
    load_weights(ours, model.state_dict())
    return ours


@torch.no_grad()
def logits(model: LlamaForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """Logits [batch, length, vocab] of whole sequences ``tokens`` [batch, length]."""
    batch, length = tokens.shape
    hidden = model(
        tokens.flatten(),
        torch.arange(length).repeat(batch),
        CausalAttention(length),
        torch.full((batch * length,), length),
    )
    return model.logits(hidden).view(batch, length, -1)


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("length", [12, 40, 100])
def test_logits_match_for_every_rope_scaling(name: str, length: int) -> None:
    theirs = reference(SCALINGS[name])
    tokens = torch.randint(0, 97, (2, length), generator=torch.Generator().manual_seed(length))
    expected = theirs(tokens).logits
    torch.testing.assert_close(logits(twin(theirs), tokens), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, scaling in SCALINGS.items() if scaling])
@pytest.mark.parametrize("length", [8, 30, 200])
def test_rotary_frequencies_match_to_a_millionth(name: str, length: int) -> None:
    scaling = SCALINGS[name]
    assert scaling is not None
    config = reference(scaling).config
    compute = ROPE_INIT_FUNCTIONS[scaling["rope_type"]]
    expected, amplitude = compute(config, torch.device("cpu"), seq_len=length)
    ours, our_amplitude = rope_frequencies(LlamaConfig.from_dict(config.to_dict()).rope, length)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
    assert our_amplitude == pytest.approx(amplitude, rel=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"attention_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 1},
        {"head_dim": 16, "num_key_value_heads": 4},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_logits_match_for_every_shape(fields: dict[str, Any]) -> None:
    theirs = reference(**fields)
    for name, weight in theirs.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(weight, std=0.3)
    tokens = torch.randint(0, 97, (3, 20), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(logits(twin(theirs), tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SCALINGS)
def test_a_saved_config_means_the_same_to_both(name: str) -> None:
    ours = LlamaConfig.from_dict(reference(SCALINGS[name]).config.to_dict())
    assert LlamaConfig.from_dict(ours.to_dict()) == ours
    theirs = ReferenceConfig.from_dict(ours.to_dict())
    assert LlamaConfig.from_dict(theirs.to_dict()) == ours


def test_weights_are_named_and_shaped_as_hugging_face_does() -> None:
    theirs = reference(attention_bias=True)
    weights = dict(named_weights(twin(theirs)))
    assert weights.keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weights[name], weight), name


def test_a_checkpoint_that_does_not_fit_names_the_tensor() -> None:
    theirs = reference()
    ours = twin(theirs)
    weights = theirs.state_dict()
    name = "model.layers.1.self_attn.k_proj.weight"
    with pytest.raises(ConfigError, match=name):
        load_weights(ours, {key: value for key, value in weights.items() if key != name})
    with pytest.raises(ConfigError, match=r"shape \[4, 32\].*implies \[16, 32\]"):
        load_weights(ours, {**weights, name: torch.zeros(4, 32)})
    with pytest.raises(ConfigError, match=r"no place for: model\.vision\.weight"):
        load_weights(ours, {**weights, "model.vision.weight": torch.zeros(1)})

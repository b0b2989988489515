"""The decoder computes what `transformers` computes, and reads and writes the same files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig as ReferenceConfig
from transformers import LlamaForCausalLM as ReferenceModel

from farebox_engine.config import DecoderConfig
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.layers.rotary import rope_frequencies
from farebox_engine.models.llama import LlamaForCausalLM
from farebox_engine.models.weights import load_weights

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
    return ReferenceModel(ReferenceConfig(**(shape | fields))).eval()


def twin(model: ReferenceModel) -> LlamaForCausalLM:
    ours = LlamaForCausalLM(DecoderConfig.from_dict(model.config.to_dict())).eval()
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
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: PLC0415

    config = reference(SCALINGS[name]).config
    compute = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]]
    expected, amplitude = compute(config, torch.device("cpu"), seq_len=length)
    ours, our_amplitude = rope_frequencies(DecoderConfig.from_dict(config.to_dict()), length)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
    assert our_amplitude == pytest.approx(amplitude, rel=1e-6)

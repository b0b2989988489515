"""A config.json that cannot be used is refused in one sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from farebox_engine.checkpoint.config import ConfigError
from farebox_engine.models.llama import LlamaConfig

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"vocab_size": "100"}, "vocab_size must be an integer"),
        ({"vocab_size": True}, "vocab_size must be an integer"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must lie between 1"),
        ({"hidden_size": 10**12}, "hidden_size must lie between"),
        ({"hidden_size": 30}, "multiple of num_attention_heads"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a finite number"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps must be a number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false"),
        ({"eos_token_id": [2, "3"]}, "eos_token_id must be a token id"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"rope_scaling": "yarn"}, "rope_scaling must be an object"),
        ({"rope_scaling": {"rope_type": "spiral"}}, "rope type 'spiral'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "factor must be a finite number above 0"),
        ({"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}}, "list of 4 numbers"),
        ({"rope_parameters": {"rope_theta": 0}}, "rope_theta must be a finite number above 0"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        LlamaConfig.from_dict(LLAMA | change)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_both_spellings_of_the_rotary_settings_mean_the_same() -> None:
    older = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    newer = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}}
    assert LlamaConfig.from_dict(LLAMA | older) == LlamaConfig.from_dict(LLAMA | newer)
    plain = LlamaConfig.from_dict(LLAMA | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}})
    assert plain.rope.scaling is None
    assert plain.rope.theta == 5e5


def test_several_end_tokens_keep_their_order() -> None:
    config = LlamaConfig.from_dict(LLAMA | {"eos_token_id": [7, 3, 7]})
    assert config.eos_token_ids == (7, 3)
    assert config.to_dict()["eos_token_id"] == [7, 3]

"""Configurations of any family: read, or refused in a sentence that names the field."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from farebox_engine import LoadError, load_model
from farebox_engine.checkpoint.config import ConfigError
from farebox_engine.checkpoint.rope_scaling import RopeKind
from farebox_engine.models.loader import allocate
from farebox_engine.models.registry import FAMILIES as REGISTRY
from tests.engine.checkpoints import EXPERTS, SHAPE

CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"
ROPE_KINDS = get_args(RopeKind)
OTHER_FIELDS = [
    *("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "layer_types", "head_dim"),
    *("sliding_window", "use_sliding_window", "sliding_window_pattern", "mlp_only_layers", "architectures"),
    *("query_pre_attn_scalar", "final_logit_softcapping", "n_embd", "n_head", "n_inner", "eos_token_id"),
]
FACTORS = {"short_factor": [1e-300] * 4, "long_factor": [1.0] * 4}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "activation": ({"model_type": "mistral", "hidden_act": "relu"}, "hidden_act 'relu'"),
    "gemma activation": ({"model_type": "gemma2", "hidden_activation": "gelu"}, "hidden_activation 'gelu'"),
    "gpt2 activation": ({"model_type": "gpt2", "activation_function": "relu"}, "activation_function 'relu'"),
    "quantized": ({"model_type": "qwen3", "quantization_config": {"bits": 4}}, "quantized"),
    "no language model": ({"model_type": "qwen2", "architectures": ["Qwen2ForReward"]}, "Qwen2ForReward"),
    "own layer types": ({"model_type": "mistral", "layer_types": ["full_attention"] * 4}, "layer_types"),
    "other layer types": ({"model_type": "qwen3", "layer_types": ["chunked_attention"] * 4}, "chunked"),
    "too few layer types": ({"model_type": "qwen3", "layer_types": ["full_attention"]}, "list of 4"),
    "no window to slide": (
        {"model_type": "gemma2", "layer_types": ["sliding_attention"] * 4, "sliding_window": None},
        "sliding_window is not set",
    ),
    "bias": ({"model_type": "mistral", "attention_bias": True}, "attention_bias True"),
    "chunks": ({"model_type": "qwen2", "dual_chunk_attention_config": {}}, "dual_chunk_attention_config"),
    "both ways": ({"model_type": "gemma2", "use_bidirectional_attention": True}, "use_bidirectional"),
    "unheard soft cap": ({"model_type": "gemma3_text", "attn_logit_softcapping": 50.0}, "attn_logit_soft"),
    "cross-attention": ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention"),
    "phi3 yarn": ({"model_type": "phi3", "rope_scaling": {"type": "yarn", "factor": 2.0}}, "'yarn'"),
    "partly rotated": ({"model_type": "qwen2", "partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    "rope by layer": (
        {"model_type": "mistral", "rope_parameters": {"full_attention": {"rope_type": "default"}}},
        "by layer type",
    ),
    "rope not by layer": (
        {"model_type": "gemma3_text", "rope_parameters": {"rope_type": "default"}},
        "one object per layer type",
    ),
    "unknown rope setting": (
        {
            "model_type": "llama",
            "rope_scaling": {"type": "linear", "factor": 2.0, "llama_4_scaling_beta": 0.1},
        },
        "llama_4_scaling_beta",
    ),
    "no frequencies": (
        {"model_type": "llama", "rope_scaling": {"type": "longrope", **FACTORS}, "rope_theta": 1e-300},
        "no finite frequencies",
    ),
    "yarn without a base": (
        {"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 2.0}, "rope_theta": 1.0},
        "no finite frequencies",
    ),
    "bands that meet": (
        {
            "model_type": "llama",
            "rope_scaling": {"type": "llama3", "factor": 2.0, "low_freq_factor": 4, "high_freq_factor": 4},
        },
        "high_freq_factor \\(4\\) must be above",
    ),
    "endless layers": ({"model_type": "gemma2", "num_hidden_layers": 10**9}, "num_hidden_layers must lie"),
    "too few experts": ({"model_type": "mixtral", "num_local_experts": 1}, "there are only 1 experts"),
    "window": ({"model_type": "mistral", "sliding_window": 0}, "sliding_window must lie between"),
    "soft cap": (
        {"model_type": "gemma2", "final_logit_softcapping": -1.0},
        "final_logit_softcapping must be",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_compute_something_else_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    config = SHAPE | EXPERTS | {"head_dim": 8} | change
    if change["model_type"] == "qwen2":
        del config["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    # As many tensors as layers, none of them a weight.
    ignored = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.zeros(1) for layer in range(4)}
    save_file(ignored, tmp_path / WEIGHTS)
    with pytest.raises(LoadError, match=message) as failure:
        load_model(tmp_path, device=CPU, dtype=torch.float32)
    assert str(failure.value).endswith(".")
    # Without the change the configuration is read, and only the weights are missing.
    plain = config | dict.fromkeys(change) | {"model_type": "llama", "num_hidden_layers": 4}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(LoadError, match="lacks the tensor"):
        load_model(tmp_path, device=CPU, dtype=torch.float32)


VALUES = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        3,
        16,
        1e-300,
        1e300,
        10**12,
        "x",
        [],
        ["sliding_attention"] * 4,
        {},
        {"type": "dynamic"},
    ]
) | st.sampled_from(
    [
        {"rope_type": kind, "factor": 2.0, "short_factor": [1.0] * 4, "long_factor": [1.0] * 4}
        for kind in ROPE_KINDS
    ]
)


@settings(max_examples=60, deadline=None)
@given(model_type=st.sampled_from(sorted(REGISTRY.known)), data=st.data())
def test_any_configuration_is_read_or_refused_in_a_sentence(model_type: str, data: st.DataObject) -> None:
    names = st.sampled_from([*SHAPE, *EXPERTS, *OTHER_FIELDS])
    changes = data.draw(st.dictionaries(names, VALUES, max_size=3))
    family = REGISTRY.known[model_type]
    problem = None
    try:
        config = family.read_config(SHAPE | EXPERTS | changes | {"model_type": model_type})
        allocate(family, config, torch.device("meta"), torch.float32)
    except ConfigError as refusal:
        problem = str(refusal)
    assert problem is None or problem.endswith(".")

"""Checkpoints that cannot be served are refused, in a sentence; no code and no pickle is opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farebox_engine import LoadError
from farebox_engine.checkpoint.fields import Fields
from farebox_engine.encoders import EncoderEngine, Task, is_encoder
from farebox_engine.encoders.models.modernbert import read_config
from tests.engine.encoders.checkpoints import FAMILIES, build_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_encoder(tmp_path, "Bert", num_hidden_layers=1)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "mamba", "auto_map": {"AutoModel": "code.Model"}}, "Code .* is never run"),
        ({"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering' is not supported"),
        ({"hidden_act": "quick_gelu"}, "'quick_gelu' is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type must be 'absolute'"),
        ({"is_decoder": True}, "only encoders"),
        ({"num_attention_heads": 5}, "must be a multiple of the number of attention heads"),
        ({"hidden_size": "48"}, "hidden_size must be an integer"),
        ({"vocab_size": 50}, "implies"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must name every label"),
        ({"problem_type": "ranking"}, "problem_type must be one of"),
        ({"num_hidden_layers": 2}, "lacks the tensor encoder.layer.1"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    edit(folder, **changes)
    with pytest.raises(LoadError, match=sentence):
        EncoderEngine.load(folder)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"0": 0, "1": 1}, ("0", "1")),
        ({"1": "good", "0": "bad"}, ("bad", "good")),
        ({"0": 1.5, "1": "more"}, ("1.5", "more")),
    ],
)
def test_labels_may_be_named_by_numbers(
    names: dict[str, Any], labels: tuple[str, ...], tmp_path: Path
) -> None:
    folder = build_encoder(tmp_path, "Bert", "ForSequenceClassification", num_hidden_layers=1)
    edit(folder, id2label=names, label2id=None)
    assert EncoderEngine.load(folder).labels == labels


def test_missing_unknown_and_misshapen_tensors_are_refused(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({"encoder.layer.7.what.weight": torch.zeros(1)}))
    with pytest.raises(LoadError, match="no place for: encoder.layer.7.what.weight"):
        EncoderEngine.load(folder)
    edit_tensors(folder, lambda tensors: tensors.pop("encoder.layer.7.what.weight"))
    EncoderEngine.load(folder)
    edit_tensors(folder, lambda tensors: tensors.pop("encoder.layer.0.attention.self.key.bias"))
    with pytest.raises(LoadError, match="lacks the tensor encoder.layer.0.attention.self.key.bias"):
        EncoderEngine.load(folder)
    edit_tensors(
        folder,
        lambda tensors: tensors.update({"encoder.layer.0.attention.self.key.bias": torch.zeros(49)}),
    )
    with pytest.raises(LoadError, match=r"key.bias has shape \[49\], but config.json implies \[48\]"):
        EncoderEngine.load(folder)


def test_a_pickle_is_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(LoadError, match="pickle"):
        EncoderEngine.load(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    description = json.loads(path.read_text())
    description["model"]["vocab"]["ferryboat"] = 400
    path.write_text(json.dumps(description))
    with pytest.raises(LoadError, match="401 tokens, but the model knows only 400"):
        EncoderEngine.load(folder)


def test_names_of_old_exports_are_understood(folder: Path) -> None:
    before = EncoderEngine.load(folder).model_hash

    def age(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            tensors["bert." + old] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(140)[None]

    edit_tensors(folder, age)
    assert EncoderEngine.load(folder).model_hash != before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_for_masked_words_is_left_aside(tmp_path: Path, family: str) -> None:
    engine = EncoderEngine.load(build_encoder(tmp_path, family, "ForMaskedLM"))
    assert engine.task is Task.EMBED
    assert engine.max_length == 140


def test_modernberts_older_spelling_means_the_same(tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, "ModernBert", global_attn_every_n_layers=2)
    description = json.loads((folder / "config.json").read_text())
    thetas = description.pop("rope_parameters")
    layers = description.pop("layer_types")
    older = description | {
        "global_attn_every_n_layers": 2,
        "global_rope_theta": thetas["full_attention"]["rope_theta"] + 1,
        "local_rope_theta": thetas["sliding_attention"]["rope_theta"] + 2,
    }
    config = read_config(Fields(older, "config.json"))
    assert (config.global_theta, config.local_theta) == (160_001, 10_002)
    assert [("full", "sliding")[local] + "_attention" for local in config.is_local] == layers


def test_encoders_are_told_from_decoders(folder: Path) -> None:
    assert is_encoder(json.loads((folder / "config.json").read_text()))
    assert not is_encoder({"model_type": "llama"})

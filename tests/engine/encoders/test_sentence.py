"""The files of sentence-transformers, and the real all-MiniLM-L6-v2."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertModel

from farebox_engine import LoadError
from farebox_engine.encoders import EncoderEngine
from tests.engine.encoders.conftest import StartEncoder
from tests.engine.encoders.reference import Reference, random_tokens, relative_error

LENGTHS = (3, 50, 17, 17, 18, 1)


def describe(folder: Path, pooling: dict[str, Any], *more: str) -> None:
    """Write modules.json with an encoder, a pooling and `more` modules, and the pooling's settings."""
    names = ["Transformer", "Pooling", *more]
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{name}" if place else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for place, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 48} | pooling))


@pytest.fixture
def folder(embedder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedder, tmp_path / "model"))


Vectors = NDArray[np.float32]


def weighted(hidden: Vectors) -> Vectors:
    weights = np.arange(1, len(hidden) + 1, dtype=np.float32)[:, None]
    mean: Vectors = (hidden * weights).sum(axis=0) / weights.sum()
    return mean


POOLINGS: dict[str, tuple[dict[str, Any], Any]] = {
    "mean": ({"pooling_mode_mean_tokens": True}, lambda hidden: hidden.mean(axis=0)),
    "cls": ({"pooling_mode_cls_token": True}, lambda hidden: hidden[0]),
    "max": ({"pooling_mode_max_tokens": True}, lambda hidden: hidden.max(axis=0)),
    "last": ({"pooling_mode": "lasttoken"}, lambda hidden: hidden[-1]),
    "weighted": ({"pooling_mode": "weightedmean"}, weighted),
    "root": (
        {"pooling_mode_mean_sqrt_len_tokens": True},
        lambda hidden: hidden.sum(axis=0) / len(hidden) ** 0.5,
    ),
    "both": (
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        lambda hidden: np.concatenate([hidden[0], hidden.mean(axis=0)]),
    ),
}


@pytest.mark.parametrize("name", POOLINGS)
async def test_poolings(start_encoder: StartEncoder, folder: Path, name: str) -> None:
    settings, pool = POOLINGS[name]
    describe(folder, settings)
    engine = start_encoder(folder)
    inputs = random_tokens(1, LENGTHS, types=False)
    reference = Reference(folder, "Bert")
    expected = np.stack([pool(reference.outputs(tokens)) for tokens in inputs])
    found = await engine.embed([tokens.ids.tolist() for tokens in inputs])
    assert engine.dimensions == expected.shape[1]
    assert relative_error(found.vectors, expected) < 1e-4


async def test_a_dense_layer_and_a_normalisation_follow(start_encoder: StartEncoder, folder: Path) -> None:
    describe(folder, {"pooling_mode_mean_tokens": True}, "Dense", "Normalize")
    dense = folder / "2_Dense"
    dense.mkdir()
    settings = {
        "in_features": 48,
        "out_features": 20,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (dense / "config.json").write_text(json.dumps(settings))
    weight, bias = torch.randn(20, 48), torch.randn(20)
    save_file({"linear.weight": weight, "linear.bias": bias}, dense / "model.safetensors")
    engine = start_encoder(folder)
    (tokens,) = random_tokens(2, (30,), types=False)
    pooled = torch.from_numpy(Reference(folder, "Bert").outputs(tokens)).mean(dim=0)
    expected = torch.nn.functional.normalize(torch.tanh(weight @ pooled + bias), dim=0)
    found = await engine.embed([tokens.ids.tolist()])
    assert engine.dimensions == 20
    assert relative_error(found.vectors[0], expected.numpy()) < 1e-4


async def test_prompts_come_from_the_files(start_encoder: StartEncoder, folder: Path) -> None:
    settings = {
        "prompts": {"query": "the ferry: ", "document": ""},
        "default_prompt_name": "query",
        "similarity_fn_name": "dot",
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    engine = start_encoder(folder)
    assert (engine.similarity, dict(engine.prompts)) == ("dot", settings["prompts"])
    plain = await engine.embed(["the ferry: nine", "nine"], prompt="document")
    asked = await engine.embed(["nine"], prompt="query")
    default = await engine.embed(["nine"])
    assert relative_error(asked.vectors[0], plain.vectors[0]) < 1e-5
    assert relative_error(default.vectors[0], plain.vectors[0]) < 1e-5
    assert relative_error(plain.vectors[1], plain.vectors[0]) > 1e-2


async def test_the_shortest_limit_and_the_case_apply(start_encoder: StartEncoder, folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": true}')
    assert start_encoder(folder).max_length == 20
    assert start_encoder(folder, context_length=11).max_length == 11


@pytest.mark.parametrize(
    ("pooling", "more", "sentence"),
    [
        ({"pooling_mode": "attention"}, (), "pooling_mode 'attention' is not supported"),
        ({"include_prompt": False}, (), "include_prompt"),
        ({}, ("LSTM",), "LSTM module at place 2"),
        ({}, ("Dense",), "in_features is missing"),
    ],
)
def test_modules_that_would_compute_something_else_are_refused(
    folder: Path, pooling: dict[str, Any], more: tuple[str, ...], sentence: str
) -> None:
    describe(folder, pooling, *more)
    with pytest.raises(LoadError, match=sentence):
        EncoderEngine.load(folder)


def test_code_and_folders_elsewhere_are_refused(folder: Path) -> None:
    describe(folder, {})
    text = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(
        text.replace("sentence_transformers.models.Pooling", "custom.Pooling")
    )
    with pytest.raises(LoadError, match="custom.Pooling is code of its own, which is never run"):
        EncoderEngine.load(folder)
    (folder / "modules.json").write_text(text.replace("1_Pooling", "../elsewhere"))
    with pytest.raises(LoadError, match="no folder beside it"):
        EncoderEngine.load(folder)


SENTENCES = [
    "The ferry leaves the harbour at nine.",
    "A boat departs in the morning.",
    "Stock prices fell sharply on Tuesday.",
    "¿Dónde está la biblioteca? 図書館はどこですか",
    "Transformers map a sequence of tokens to a sequence of vectors. " * 12,
    "",
]


async def test_minilm_gives_the_vectors_of_its_authors(start_encoder: StartEncoder, minilm: Path) -> None:
    engine = start_encoder(minilm)
    assert (engine.dimensions, engine.max_length, engine.similarity) == (384, 256, "cosine")
    tokenizer: Any = AutoTokenizer.from_pretrained(minilm)
    model = BertModel.from_pretrained(minilm, dtype=torch.float32)
    inputs = tokenizer(SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)
    found = await engine.embed(SENTENCES)
    cosines = (torch.from_numpy(found.vectors) * expected).sum(dim=1)
    assert cosines.min() > 0.9999
    assert found.usage.tokens == int(mask.sum())
    # Published with the model: near in meaning is near in space.
    assert found.vectors[0] @ found.vectors[1] > 0.4 > 0.1 > found.vectors[0] @ found.vectors[2]

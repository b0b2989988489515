"""Names that a checkpoint's tensors may have: whatever `transformers` makes of them."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from farebox_engine import Engine, EngineConfig, LoadError
from farebox_engine.encoders.loader import load_encoder
from tests.engine.checkpoint.bad_folders import CPU, load
from tests.engine.checkpoints import build_checkpoint
from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.generating import answer, greedy, load_reference
from tests.engine.seq2seq.checkpoints import build_seq2seq

WEIGHTS = "model.safetensors"
Weights = dict[str, torch.Tensor]
PROMPT = [7, 20, 33, 41, 5]
ROOTS = {
    "llama": "model.",
    "qwen2": "model.",
    "gemma3_text": "model.",
    "mixtral": "model.",
    "gpt2": "transformer.",
}
EMBEDDING = {"gpt2": "transformer.wte.weight"}


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file(change(dict(tensors)), folder / WEIGHTS, metadata={"format": "pt"})


def renamed(**names: str) -> Callable[[Weights], Weights]:
    return lambda tensors: {names.get(name, name): tensor for name, tensor in tensors.items()}


def build(folder: Path, model_type: str, **overrides: Any) -> Path:
    experts = {"num_local_experts": 3} if model_type == "mixtral" else {}
    return build_checkpoint(folder, model_type=model_type, **(experts | overrides))


async def assert_same_tokens(folder: Path) -> None:
    """The engine and `transformers` write the same from one folder."""
    engine = Engine.load(folder, EngineConfig(device="cpu", threads=1))
    try:
        engine.start(asyncio.get_running_loop())
        found = await answer(engine, PROMPT, max_tokens=12)
    finally:
        engine.close()
    assert found.tokens == greedy(load_reference(folder), PROMPT, 12)


@pytest.mark.parametrize("model_type", ROOTS)
async def test_a_tied_embedding_may_be_saved_as_the_head_alone(model_type: str, tmp_path: Path) -> None:
    folder = build(tmp_path, model_type, tie_word_embeddings=True)
    embedding = EMBEDDING.get(model_type, "model.embed_tokens.weight")
    rewrite(folder, renamed(**{embedding: "lm_head.weight"}))
    await assert_same_tokens(folder)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
async def test_a_head_that_differs_is_not_tied_whatever_the_config_says(
    model_type: str, tmp_path: Path
) -> None:
    folder = build(tmp_path, model_type, tie_word_embeddings=True)
    embedding = EMBEDDING.get(model_type, "model.embed_tokens.weight")
    rewrite(folder, lambda each: each | {"lm_head.weight": torch.randn_like(each[embedding])})
    await assert_same_tokens(folder)


@pytest.mark.parametrize("tie", [True, False])
async def test_a_head_that_is_the_embedding_once_more(tie: bool, tmp_path: Path) -> None:
    folder = build(tmp_path, "llama", tie_word_embeddings=tie)
    rewrite(folder, lambda each: each | {"lm_head.weight": each["model.embed_tokens.weight"].clone()})
    await assert_same_tokens(folder)


def test_one_that_is_not_tied_needs_both(tmp_path: Path) -> None:
    whole = build(tmp_path / "whole", "llama", tie_word_embeddings=False)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        folder = Path(shutil.copytree(whole, tmp_path / name))
        rewrite(folder, lambda each, name=name: {key: each[key] for key in each if key != name})  # type: ignore[misc]
        with pytest.raises(LoadError, match=f"lacks the tensor {name}"):
            load("decoder", folder, {})


@pytest.mark.parametrize("model_type", ROOTS)
async def test_the_prefix_may_be_missing(model_type: str, tmp_path: Path) -> None:
    folder = build(tmp_path, model_type)
    root = ROOTS[model_type]
    rewrite(folder, lambda each: {name.removeprefix(root): tensor for name, tensor in each.items()})
    await assert_same_tokens(folder)


async def test_the_prefix_may_stand_there_twice(tmp_path: Path) -> None:
    folder = build(tmp_path, "llama")
    rewrite(folder, lambda each: {f"model.{name}": tensor for name, tensor in each.items()})
    await assert_same_tokens(folder)


def test_one_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    folder = build(tmp_path, "llama")
    rewrite(folder, lambda each: each | {"norm.weight": each["model.norm.weight"].clone()})
    with pytest.raises(LoadError, match="holds a tensor twice, as .*norm.weight and as .*norm.weight"):
        load("decoder", folder, {})


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("bert.pooler.dense.bias", "pooler.dense.bias"),
        (
            "bert.encoder.layer.0.output.LayerNorm.weight",
            "bert.encoder.layer.0.output.LayerNorm.gamma",
        ),
    ],
)
def test_one_tensor_of_an_encoder_under_two_names_is_refused(name: str, again: str, tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, "Bert")
    rewrite(folder, lambda each: {f"bert.{key.removeprefix('bert.')}": each[key] for key in each})
    rewrite(folder, lambda each: each | {again: torch.randn_like(each[name])})
    with pytest.raises(LoadError, match="holds a tensor twice, as .* and as "):
        load("encoder", folder, {})


def test_one_tensor_of_an_encoder_decoder_under_two_names_is_refused(tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, "bart")
    rewrite(folder, lambda each: each | {"shared.weight": torch.randn_like(each["model.shared.weight"])})
    with pytest.raises(LoadError, match="holds a tensor twice, as .*shared.weight and as .*shared.weight"):
        load("seq2seq", folder, {})


async def test_buffers_of_old_exports_are_no_weights(tmp_path: Path) -> None:
    folder = build(tmp_path, "llama")
    buffers = {
        "model.rotary_emb.inv_freq": torch.ones(8),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        "model.layers.0.self_attn.masked_bias": torch.tensor(-1e4),
        "model.position_ids": torch.arange(4),
    }
    rewrite(folder, lambda each: each | buffers)
    await assert_same_tokens(folder)


@pytest.mark.parametrize(
    ("family", "embedding", "head"),
    [
        ("Bert", "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("Roberta", "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"),
        ("DistilBert", "distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"),
        ("ModernBert", "model.embeddings.tok_embeddings.weight", "decoder.weight"),
    ],
)
def test_an_encoders_embedding_may_be_saved_as_its_head(
    family: str, embedding: str, head: str, tmp_path: Path
) -> None:
    folder = build_encoder(tmp_path, family, "ForMaskedLM", tie_word_embeddings=True)
    rewrite(folder, renamed(**{embedding: head}))
    loaded = load_encoder(folder, device=CPU, dtype=torch.float32).model
    reference = getattr(transformers, f"{family}ForMaskedLM").from_pretrained(folder)
    weights = {
        tuple(each.shape): each
        for name, each in loaded.named_parameters()
        if "word_emb" in name or "tok_emb" in name
    }
    expected = reference.get_input_embeddings().weight
    assert torch.equal(weights[tuple(expected.shape)], expected)
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(description | {"architectures": [f"{family}Model"]}))
    with pytest.raises(LoadError, match="lacks the tensor embeddings"):
        load_encoder(folder, device=CPU, dtype=torch.float32)


SHARED = {"t5": "shared.weight", "marian": "model.shared.weight", "bart": "model.shared.weight"}
OTHERS = ("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def shared_weight(family: str, folder: Path) -> torch.Tensor:
    module: Any = load("seq2seq", folder, {}).model  # type: ignore[attr-defined]
    served: torch.Tensor = module.get_parameter(SHARED[family])
    return served


@pytest.mark.parametrize("family", SHARED)
@pytest.mark.parametrize("other", OTHERS)
def test_a_shared_embedding_may_be_saved_under_any_of_its_names(
    family: str, other: str, tmp_path: Path
) -> None:
    folder = build_seq2seq(tmp_path, family)
    expected = load_file(folder / WEIGHTS)[SHARED[family]]
    root = "" if family == "t5" or other == "lm_head.weight" else "model."
    rewrite(folder, renamed(**{SHARED[family]: root + other}))
    assert torch.equal(shared_weight(family, folder), expected)


@pytest.mark.parametrize("family", SHARED)
def test_embeddings_that_differ_are_not_taken_for_one(family: str, tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, family)
    other = "encoder.embed_tokens.weight" if family == "t5" else "lm_head.weight"
    rewrite(folder, lambda each: each | {other: torch.randn_like(each[SHARED[family]])})
    with pytest.raises(LoadError, match="differ, but are one in this family"):
        load("seq2seq", folder, {})


@pytest.mark.parametrize("family", SHARED)
def test_an_encoder_decoders_prefix_may_be_there_or_not(family: str, tmp_path: Path) -> None:
    folder = build_seq2seq(tmp_path, family)
    expected = load_file(folder / WEIGHTS)[SHARED[family]]
    if family == "t5":
        rewrite(folder, lambda each: {f"transformer.{name}": tensor for name, tensor in each.items()})
    else:
        rewrite(folder, lambda each: {name.removeprefix("model."): each[name] for name in each})
    assert torch.equal(shared_weight(family, folder), expected)

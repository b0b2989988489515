"""Encoders against `transformers`: hidden states and logits, alone and in mixed batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farebox_engine.encoders import load_encoder
from farebox_engine.encoders.loader import LoadedEncoder
from farebox_engine.encoders.runner import EncoderRunner, make_batch
from farebox_engine.encoders.tokenizer import Tokens
from tests.engine.encoders.checkpoints import FAMILIES, build_encoder
from tests.engine.encoders.reference import Reference, Vectors, random_tokens, relative_error

# Equal ones, near ones, and on both sides of ModernBERT's window and block sizes in the tests.
LENGTHS = (1, 2, 5, 5, 6, 8, 9, 16, 17, 30, 33, 33, 40, 71, 72, 120, 140)
HEADS = ("ForSequenceClassification", "ForTokenClassification")
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "Bert-relu": ("Bert", {"hidden_act": "relu", "layer_norm_eps": 0.1}),
    "Bert-tanh-gelu": ("Bert", {"hidden_act": "gelu_new"}),
    "ModernBert-mean": ("ModernBert", {"classifier_pooling": "mean", "classifier_bias": True}),
    "ModernBert-plain": ("ModernBert", {"norm_bias": False, "attention_bias": False, "mlp_bias": True}),
    "ModernBert-far": ("ModernBert", {"global_attn_every_n_layers": 2, "local_attention": 64}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return VARIANTS[request.param]


@pytest.fixture(scope="module")
def build(
    variant: tuple[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[LoadedEncoder, Reference]]:
    family, overrides = variant

    def build(head: str) -> tuple[LoadedEncoder, Reference]:
        folder = tmp_path_factory.mktemp(f"{family}{head}")
        own = overrides if head == "Model" else overrides | {"num_labels": 3}
        path = build_encoder(folder, family, head, seed=len(family), **own)
        return load(path), Reference(path, family, head)

    return build


def load(path: Path) -> LoadedEncoder:
    return load_encoder(path, device=torch.device("cpu"), dtype=torch.float32)


def hidden_states(loaded: LoadedEncoder, inputs: list[Tokens]) -> list[Vectors]:
    """Of each input, computed in one batch; `inputs` in order of falling length."""
    batch = make_batch(inputs, loaded.device, loaded.dtype, getattr(loaded.config, "window", None))
    with torch.inference_mode():
        hidden: Vectors = loaded.model(batch).numpy()
    return np.split(hidden, np.cumsum([len(tokens) for tokens in inputs])[:-1])


def test_hidden_states_agree_with_transformers_alone_and_in_a_batch(
    build: Callable[[str], tuple[LoadedEncoder, Reference]], variant: tuple[str, dict[str, Any]]
) -> None:
    loaded, reference = build("Model")
    inputs = random_tokens(1, sorted(LENGTHS, reverse=True), types=variant[0] == "Bert")
    together = hidden_states(loaded, inputs)
    for tokens, found in zip(inputs, together, strict=True):
        (alone,) = hidden_states(loaded, [tokens])
        expected = reference.outputs(tokens)
        assert relative_error(alone, expected) < 1e-4, f"{len(tokens)} tokens"
        assert relative_error(found, expected) < 1e-4, f"{len(tokens)} tokens"
        assert relative_error(found, alone) < 1e-5, f"{len(tokens)} tokens"


@pytest.mark.parametrize("head", HEADS)
def test_logits_agree_with_transformers_alone_and_in_a_batch(
    build: Callable[[str], tuple[LoadedEncoder, Reference]], head: str, variant: tuple[str, dict[str, Any]]
) -> None:
    loaded, reference = build(head)
    runner = EncoderRunner(loaded)
    inputs = random_tokens(2, LENGTHS, types=variant[0] == "Bert")
    for tokens, found in zip(inputs, runner.run(inputs).outputs, strict=True):
        (alone,) = runner.run([tokens]).outputs
        expected = reference.outputs(tokens)
        assert relative_error(alone, expected) < 1e-4, f"{len(tokens)} tokens"
        assert relative_error(found, expected) < 1e-4, f"{len(tokens)} tokens"
        assert relative_error(found, alone) < 1e-5, f"{len(tokens)} tokens"

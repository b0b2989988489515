"""A tiny encoder-decoder of each family, what `transformers` makes of it, and engines that serve it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from farebox_engine import EngineConfig
from farebox_engine.engine import Engine
from tests.engine.seq2seq.checkpoints import FAMILIES, build_seq2seq, load_reference
from tests.engine.started import started

StartSeq2Seq = Callable[..., Engine]


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_seq2seq(tmp_path_factory.mktemp(family), family)


@pytest.fixture(scope="session")
def reference(folder: Path) -> PreTrainedModel:
    return load_reference(folder)


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what does not depend on the family."""
    return build_seq2seq(tmp_path_factory.mktemp("marian"), "marian")


@pytest.fixture
async def start_seq2seq() -> AsyncIterator[StartSeq2Seq]:
    """Starts engines with given settings; closed afterwards, when none may hold a block."""

    def load(path: Path, **settings: object) -> Engine:
        return Engine.load(path, EngineConfig(device="cpu", threads=1, **settings))  # type: ignore[arg-type]

    with started(load) as start:
        yield start

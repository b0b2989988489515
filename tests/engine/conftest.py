"""A tiny random Llama, and engines that serve it."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from farebox_engine import Engine, EngineConfig
from farebox_engine.decoders.assembly import Layout
from tests.engine.checkpoint.bad_folders import build_folders
from tests.engine.checkpoints import build_checkpoint
from tests.engine.generating import load_reference
from tests.engine.saboteur import Hang
from tests.engine.started import started

StartEngine = Callable[..., Engine]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices gain nothing from threads, and lose much to a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> PreTrainedModel:
    return load_reference(checkpoint)


@pytest.fixture
async def start_engine(checkpoint: Path) -> AsyncIterator[StartEngine]:
    """Starts engines with given settings; closed afterwards, when none may hold a block."""

    def load(path: Path = checkpoint, layout: Layout | None = None, **settings: object) -> Engine:
        config = EngineConfig(device="cpu", threads=1, **settings)  # type: ignore[arg-type]
        return Engine.load(path, config, layout)

    with started(load) as start:
        yield start


@pytest.fixture
def hang() -> Iterator[Hang]:
    hang = Hang()
    yield hang
    hang.release()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sound folder of each kind of model, not to be changed."""
    return build_folders(tmp_path_factory.mktemp("sound"))

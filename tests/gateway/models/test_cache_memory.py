"""The caches of all models share one memory; what does not fit is refused with the sum."""

import gc
import re
from pathlib import Path

import pytest

from farebox.billing.models import ModelOffer
from farebox.core.settings import Settings
from farebox.gateway.models.cache_memory import CacheMemory
from farebox.gateway.models.catalog import Backend, BackendFactory
from farebox.gateway.models.local import local_backends
from farebox_engine import Engine, EngineConfig, LoadError
from farebox_engine.config import CacheRoom
from tests.engine.checkpoints import build_checkpoint
from tests.engine.seq2seq.checkpoints import build_seq2seq

TOTAL = 2 << 20
CONTEXT = 256 * 768  # bytes of one context of the tests' decoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "decoder")


def factory() -> BackendFactory:
    return local_backends(Settings(engine_device="cpu", engine_threads=1, engine_cache_bytes=TOTAL))


def load(load_backend: BackendFactory, folder: Path) -> Backend:
    return load_backend(ModelOffer(id="mine", path=str(folder)))


async def fill(load_backend: BackendFactory, folder: Path) -> tuple[list[Backend], str]:
    """Load one model again and again until it is refused: what was loaded, and what was said."""
    backends: list[Backend] = []
    while len(backends) < 20:
        try:
            backends.append(load(load_backend, folder))
        except LoadError as error:
            return backends, str(error)
    pytest.fail("nothing is ever refused")


async def test_what_does_not_fit_is_refused_with_the_sum(folder: Path) -> None:
    backends, refusal = await fill(factory(), folder)
    assert len(backends) > 3
    found = re.match(
        r"The model's cache needs (\d+) bytes for one context, but of the (\d+) bytes that all caches "
        r"may hold, (\d+) other models hold (\d+); remove a model, .* or raise FAREBOX_ENGINE_CACHE_BYTES\.$",
        refusal,
    )
    assert found is not None
    needed, total, count, held = map(int, found.groups())
    assert (needed, total, count) == (CONTEXT, TOTAL, len(backends))
    assert TOTAL - CONTEXT < held <= TOTAL
    for backend in backends:
        await backend.close()


async def test_a_model_that_is_closed_gives_its_part_back(folder: Path) -> None:
    load_backend = factory()
    backends, _ = await fill(load_backend, folder)
    await backends.pop().close()
    backends.append(load(load_backend, folder))
    with pytest.raises(LoadError, match="other models hold"):
        load(load_backend, folder)
    for backend in backends:
        await backend.close()
    again, _ = await fill(load_backend, folder)
    assert len(again) == len(backends)


async def test_an_encoder_decoder_takes_its_part_too(folder: Path, tmp_path: Path) -> None:
    load_backend = factory()
    backends, _ = await fill(load_backend, folder)
    with pytest.raises(LoadError, match=f"{len(backends)} other models hold"):
        load(load_backend, build_seq2seq(tmp_path / "t5", "t5"))
    for backend in backends:
        await backend.close()


def test_the_first_model_is_sized_as_if_it_were_alone(folder: Path) -> None:
    memory = CacheMemory()
    assert memory.total >= 2 << 30
    assert memory.room() is None
    engine = Engine.load(folder, EngineConfig(device="cpu", threads=1))
    assert engine.cache_bytes == 64 * CONTEXT, "all requests at full length"
    memory.take(engine)
    left = memory.total - engine.cache_bytes
    assert memory.room() == CacheRoom(left // 4, left)
    engine.close()
    del engine
    gc.collect()
    assert memory.held == 0, "a model that was lost holds nothing"

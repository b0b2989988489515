"""The encoder engine survives its models: failures, shortage of memory, NaN, steps that hang."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from farebox_engine import ClosedError, ComputeError
from farebox_engine.encoders import Embeddings, EncoderEngine, EncoderStats
from tests.engine.encoders.conftest import load_engine
from tests.engine.encoders.reference import random_tokens, relative_error
from tests.engine.saboteur import BAD, POISON, Hang, Mischief, failing, leaving
from tests.engine.started import started
from tests.waiting import WAIT_SECONDS

FAILED = "The model failed while computing this request."
HUNG = "The model took too long over this request."
Sabotage = Callable[..., EncoderEngine]


class Saboteur(nn.Module):
    """An encoder up to `Mischief`."""

    def __init__(self, model: Any, mischief: Mischief) -> None:
        super().__init__()
        self.model = model
        self.encoder = model.encoder
        self.mischief = mischief

    def forward(self, batch: Any) -> Tensor:
        self.mischief.before(batch.tokens)
        return self.mischief.poison(batch.tokens, self.model(batch))


def sabotaged(path: Path, mischief: Mischief, **settings: Any) -> EncoderEngine:
    return load_engine(path, lambda model: Saboteur(model, mischief), **settings)


@pytest.fixture
async def sabotage(embedder: Path) -> AsyncIterator[Sabotage]:
    """Starts engines with misbehaving models; when they are closed, none may hold a request."""

    def build(act: Callable[[], None] | None = None, limit: int = 10**6, **settings: Any) -> EncoderEngine:
        return sabotaged(embedder, Mischief(act, limit), **settings)

    with started(build) as start:
        yield start


def inputs(seed: int, *lengths: int) -> list[list[int]]:
    return [tokens.ids.tolist() for tokens in random_tokens(seed, lengths, types=False)]


GOOD = [inputs(1, 30, 31, 32), inputs(2, 40)]


@pytest.fixture
async def expected(sabotage: Sabotage) -> list[Any]:
    engine = sabotage()
    return [(await engine.embed(each)).vectors for each in GOOD]


async def beside(
    engine: EncoderEngine, bad: list[list[int]]
) -> tuple[BaseException, list[Embeddings], EncoderStats]:
    """What became of a bad request and of good ones submitted at once with it, and the statistics after."""
    requests = [await asyncio.to_thread(engine.prepare.embedding, each) for each in (bad, *GOOD)]
    async with asyncio.timeout(WAIT_SECONDS):
        failed, *good = await asyncio.gather(
            *[engine.compute(each, tenant=str(number)) for number, each in enumerate(requests)],
            return_exceptions=True,
        )
    assert isinstance(failed, BaseException)
    sound = [each for each in good if isinstance(each, Embeddings)]
    stats = engine.stats()
    charged = sum(each.usage.device_seconds for each in sound) + stats.operator_seconds
    assert charged == pytest.approx(stats.busy_seconds, rel=1e-9)
    return failed, sound, stats


def agree(found: list[Embeddings], expected: list[Any]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(relative_error(each.vectors, vectors) < 1e-5 for each, vectors in pairs)


async def test_an_input_that_breaks_the_model_fails_its_request_alone(
    sabotage: Sabotage, expected: list[Any]
) -> None:
    failed, good, stats = await beside(sabotage(failing), [[5, 6], [7, BAD], [8]])
    assert isinstance(failed, ComputeError)
    assert str(failed) == FAILED
    assert agree(good, expected)
    assert (stats.failed_steps, stats.restarts) == (1, 0)
    assert stats.operator_seconds > 0


async def test_without_memory_for_all_a_step_is_computed_in_parts_and_the_next_are_smaller(
    sabotage: Sabotage, expected: list[Any]
) -> None:
    engine = sabotage(None, 70)
    found = await asyncio.gather(*[engine.embed(each) for each in GOOD])
    assert agree(found, expected)
    failures = engine.stats().failed_steps
    assert failures > 0
    long = inputs(3, *[30] * 12)
    crowd = (await engine.embed(long)).vectors
    assert np.isfinite(crowd).all()
    assert engine.stats().failed_steps - failures < 6, "not every step is tried at full size first"


async def test_an_input_too_long_for_the_memory_fails_alone(sabotage: Sabotage, expected: list[Any]) -> None:
    failed, good, _ = await beside(sabotage(None, 50), inputs(4, 60))
    assert str(failed) == FAILED
    assert agree(good, expected)


async def test_not_a_number_ends_only_its_request(sabotage: Sabotage, expected: list[Any]) -> None:
    failed, good, stats = await beside(sabotage(), [[5], [6, POISON]])
    assert str(failed) == "The model's output was not a number."
    assert agree(good, expected)
    assert stats.failed_steps == 0


async def test_a_step_that_hangs_ends_its_requests_and_the_others_go_on(
    sabotage: Sabotage, hang: Hang, expected: list[Any]
) -> None:
    # The bad input and two good ones fit into the first step, but there is memory for one at a time: the
    # first part is computed, the second hangs, and the third and all others are computed again.
    engine = sabotage(hang, 45, step_timeout=1.0)
    failed, good, stats = await beside(engine, inputs(5, 20) + [[BAD] * 40])
    assert isinstance(failed, ComputeError)
    assert str(failed) == HUNG
    assert agree(good, expected)
    assert (stats.restarts, stats.failed) == (1, False)
    assert stats.operator_seconds >= 0.9


async def test_a_cancelled_request_need_not_wait_for_a_hanging_step(sabotage: Sabotage, hang: Hang) -> None:
    engine = sabotage(hang, step_timeout=1.0)
    doomed = asyncio.ensure_future(engine.embed([[BAD]]))
    await asyncio.to_thread(hang.entered.wait)
    queued = asyncio.ensure_future(engine.embed(GOOD[0]))
    queued.cancel()
    await asyncio.gather(queued, return_exceptions=True)
    assert queued.cancelled()
    with pytest.raises(ComputeError, match=HUNG):
        await doomed
    hang.release()
    assert (await engine.embed([[BAD]])).vectors.shape == (1, 48)


async def test_a_thread_that_breaks_is_replaced(sabotage: Sabotage, expected: list[Any]) -> None:
    engine = sabotage(leaving, step_tokens=40)
    failed, good, stats = await beside(engine, [[BAD] * 40])
    assert str(failed) == "The engine failed while computing this request."
    assert agree(good, expected)
    assert (stats.restarts, stats.failed) == (1, False)


async def test_too_many_hanging_threads_fail_the_engine(sabotage: Sabotage, hang: Hang) -> None:
    engine = sabotage(hang, step_tokens=40, step_timeout=0.5, abandoned_threads=1)
    request = engine.prepare.embedding([[BAD] * 40])
    found = await asyncio.gather(*[engine.compute(request) for _ in range(2)], return_exceptions=True)
    assert [str(each) for each in found] == ["The engine has failed: 1 steps hang. Restart the process."] * 2
    with pytest.raises(ClosedError, match="1 steps hang"):
        await engine.embed(GOOD[0])
    assert engine.stats().failed


async def test_closing_does_not_wait_for_a_hanging_step_for_ever(embedder: Path, hang: Hang) -> None:
    engine = sabotaged(embedder, Mischief(hang), step_tokens=40, step_timeout=0.5)
    engine.start(asyncio.get_running_loop())
    request = engine.prepare.embedding([[BAD] * 40])
    doomed = [asyncio.ensure_future(engine.compute(request)) for _ in range(2)]
    await asyncio.to_thread(hang.entered.wait)
    await asyncio.to_thread(engine.close)
    for each in doomed:
        with pytest.raises(ClosedError, match="closed"):
            await each

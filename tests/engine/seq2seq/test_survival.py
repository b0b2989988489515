"""The encoder-decoder engine survives its models: failures, shortage of memory, steps that hang."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from farebox_engine import ClosedError, EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.seq2seq.loader import load_seq2seq
from tests.engine.generating import Answer, collect, random_prompts
from tests.engine.saboteur import BAD, POISON, Hang, Mischief, failing, leaving
from tests.engine.seq2seq.checkpoints import load_reference
from tests.engine.seq2seq.generating import expected, target, targets, translate
from tests.engine.started import started
from tests.waiting import WAIT_SECONDS

SOURCES = random_prompts(40, (25, 9, 14))
FAILED = "The model failed while computing this request."
HUNG = "The model took too long over this request."
Sabotage = Callable[..., Engine]


class Saboteur:
    """An encoder-decoder up to mischief on either side."""

    def __init__(self, model: Any, encoding: Mischief, decoding: Mischief) -> None:
        self._model = model
        self._encoding = encoding
        self._decoding = decoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, tokens: Tensor, *others: Any) -> Tensor:
        self._encoding.before(tokens)
        return self._encoding.poison(tokens, self._model.encode(tokens, *others))

    def decode(self, tokens: Tensor, *others: Any) -> Tensor:
        self._decoding.before(tokens)
        states: Tensor = self._model.decode(tokens, *others)
        return states


def sabotaged(path: Path, encoding: Mischief, decoding: Mischief, **settings: Any) -> Engine:
    loaded = load_seq2seq(path, device=torch.device("cpu"), dtype=torch.float32)
    saboteur: Any = Saboteur(loaded.model, encoding, decoding)
    return Engine(replace(loaded, model=saboteur), EngineConfig(device="cpu", threads=1, **settings))


@pytest.fixture
async def sabotage(marian: Path) -> AsyncIterator[Sabotage]:
    """Starts engines with misbehaving models; when they are closed, none may hold a request or a block."""

    def build(encoding: Mischief | None = None, decoding: Mischief | None = None, **settings: Any) -> Engine:
        return sabotaged(marian, encoding or Mischief(), decoding or Mischief(), **settings)

    with started(build) as start:
        yield start


@pytest.fixture(scope="module")
def reference(marian: Path) -> PreTrainedModel:
    return load_reference(marian)


@pytest.fixture(scope="module")
def wanted(reference: PreTrainedModel) -> list[list[int]]:
    found = [expected(reference, source) for source in SOURCES]
    assert not {BAD, POISON} & {token for tokens in (*SOURCES, *found) for token in tokens}
    return found


def charged(engine: Engine, *answers: Answer) -> bool:
    """Whether the shares of the requests and the operator's are all that the engine was busy."""
    stats = engine.stats()
    shares = sum(each.usage.device_seconds for each in answers)
    return shares + stats.operator_seconds == pytest.approx(stats.busy_seconds, abs=1e-8)


@pytest.mark.parametrize("num_beams", [1, 3])
async def test_a_source_that_breaks_the_model_fails_alone(
    num_beams: int, sabotage: Sabotage, reference: PreTrainedModel
) -> None:
    engine = sabotage(Mischief(failing))
    failed, *good = await targets(engine, [[5, BAD, 7], *SOURCES], num_beams=num_beams)
    assert (failed.finish_reason, failed.chunks[-1].error, failed.tokens) == ("error", FAILED, [])
    assert failed.usage.device_seconds == 0
    for source, answer in zip(SOURCES, good, strict=True):
        assert answer.tokens == expected(reference, source, num_beams=num_beams)
    stats = engine.stats()
    assert (stats.failed_steps, stats.restarts) == (1, 0)
    assert stats.operator_seconds > 0
    assert charged(engine, *good)


async def test_a_target_that_breaks_the_model_keeps_what_it_got(
    sabotage: Sabotage, wanted: list[list[int]]
) -> None:
    def break_later() -> None:
        if engine.stats().completion_tokens >= 10:
            failing()

    engine = sabotage(decoding=Mischief(break_later))
    doomed = translate(engine, [5, 6], logit_bias={BAD: 100.0}, ignore_eos=True, max_tokens=60)
    good = await targets(engine, SOURCES)
    failed = await collect(doomed)
    assert (failed.finish_reason, failed.chunks[-1].error) == ("error", FAILED)
    assert 0 < len(failed.tokens) == failed.usage.completion_tokens < 60
    assert [each.tokens for each in good] == wanted
    assert charged(engine, failed, *good)


async def test_without_memory_for_all_a_step_is_computed_in_parts(
    sabotage: Sabotage, wanted: list[list[int]]
) -> None:
    engine = sabotage(Mischief(limit=30), Mischief(limit=2))
    good = await targets(engine, SOURCES)
    assert [each.tokens for each in good] == wanted
    assert engine.stats().failed_steps > 0
    assert charged(engine, *good)


async def test_without_memory_even_for_one_the_requests_end(sabotage: Sabotage) -> None:
    engine = sabotage(decoding=Mischief(limit=0))
    found = await targets(engine, SOURCES)
    assert {(each.finish_reason, each.chunks[-1].error) for each in found} == {("error", FAILED)}


@pytest.mark.parametrize("num_beams", [1, 3])
async def test_not_a_number_ends_one_request_and_leaves_no_trace(
    num_beams: int, sabotage: Sabotage, reference: PreTrainedModel
) -> None:
    engine = sabotage(kv_cache_bytes=24 * 16 * 2 * 2 * 32 * 4)
    crowd = [SOURCES[0], [3] * 60]
    sick, *healthy = await targets(engine, [[5, POISON, 7], *crowd], num_beams=num_beams, max_tokens=20)
    assert sick.finish_reason == "error"
    assert sick.chunks[-1].error == "The model's output was not a number."
    # All blocks are used again, those of the sick request too.
    later = [*crowd, SOURCES[0][::-1], [9]]
    again = await targets(engine, later, num_beams=num_beams, max_tokens=20)
    for source, found in zip([*crowd, *later], [*healthy, *again], strict=True):
        assert found.tokens == expected(reference, source, 20, num_beams=num_beams)


@pytest.mark.parametrize("num_beams", [1, 3])
async def test_what_ran_and_what_waited_goes_on_after_a_source_that_hangs(
    num_beams: int, sabotage: Sabotage, hang: Hang, reference: PreTrainedModel
) -> None:
    stepped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang_beside() -> None:
        hang()

    def tell() -> None:
        loop.call_soon_threadsafe(stepped.set)

    # The token that every target begins with is the sign that decoding has begun.
    engine = sabotage(Mischief(hang_beside), Watch(tell), step_timeout=1.0)
    settings: dict[str, Any] = {"num_beams": num_beams, "max_tokens": 80, "ignore_eos": True}
    running = translate(engine, SOURCES[0], **settings)
    await stepped.wait()
    doomed = translate(engine, [5, BAD])
    await asyncio.to_thread(hang.entered.wait)
    waiting = [translate(engine, source, num_beams=num_beams) for source in SOURCES[1:]]
    failed = await collect(doomed)
    assert (failed.finish_reason, failed.chunks[-1].error, failed.tokens) == ("error", HUNG, [])
    async with asyncio.timeout(WAIT_SECONDS):
        first, *rest = await asyncio.gather(*map(collect, [running, *waiting]))
    assert first.tokens == expected(
        reference, SOURCES[0], 80, num_beams=num_beams, eos_token_id=None, forced_eos_token_id=None
    )
    for source, answer in zip(SOURCES[1:], rest, strict=True):
        assert answer.tokens == expected(reference, source, num_beams=num_beams)
    stats = engine.stats()
    assert (stats.restarts, stats.failed, stats.failed_steps) == (1, False, 1)
    assert stats.operator_seconds >= 0.9
    assert charged(engine, failed, first, *rest)


class Watch(Mischief):
    """Tells of the tenth call."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell
        self._calls = 0

    def before(self, tokens: Tensor) -> None:
        del tokens
        self._calls += 1
        if self._calls == 10:
            self._tell()


async def test_a_target_that_hangs_ends_and_who_waited_goes_on(
    sabotage: Sabotage, hang: Hang, wanted: list[list[int]]
) -> None:
    engine = sabotage(decoding=Mischief(hang), max_running=1, step_timeout=1.0)
    doomed = translate(engine, [5], logit_bias={BAD: 100.0}, ignore_eos=True)
    waiting = [translate(engine, source) for source in SOURCES]
    failed = await collect(doomed)
    assert failed.chunks[-1].error == HUNG
    assert failed.tokens == [BAD]
    async with asyncio.timeout(WAIT_SECONDS):
        good = [await collect(each) for each in waiting]
    assert [each.tokens for each in good] == wanted
    assert engine.stats().restarts == 1


async def test_a_thread_that_breaks_is_replaced(sabotage: Sabotage, wanted: list[list[int]]) -> None:
    engine = sabotage(Mischief(leaving), max_running=1)
    failed, *good = await targets(engine, [[5, BAD], *SOURCES])
    assert failed.chunks[-1].error == "The engine failed while computing this request."
    assert [each.tokens for each in good] == wanted
    assert (engine.stats().restarts, engine.stats().failed) == (1, False)


async def test_too_many_hanging_threads_fail_the_engine(sabotage: Sabotage, hang: Hang) -> None:
    engine = sabotage(Mischief(hang), max_running=1, step_timeout=0.5, abandoned_threads=1)
    doomed, queued = translate(engine, [BAD]), translate(engine, SOURCES[0])
    reason = "The engine has failed: 1 steps hang. Restart the process."
    for generation in (doomed, queued):
        assert (await collect(generation)).chunks[-1].error == reason
    with pytest.raises(ClosedError, match="1 steps hang"):
        translate(engine, SOURCES[0])
    assert engine.stats().failed


async def test_closing_does_not_wait_for_a_hanging_step_for_ever(marian: Path, hang: Hang) -> None:
    engine = sabotaged(marian, Mischief(hang), Mischief(), step_timeout=0.5)
    engine.start(asyncio.get_running_loop())
    doomed, queued = translate(engine, [BAD]), translate(engine, SOURCES[0])
    await asyncio.to_thread(hang.entered.wait)
    await asyncio.to_thread(engine.close)
    for generation in (doomed, queued):
        assert (await collect(generation)).chunks[-1].error == "The engine was closed."


async def test_an_engine_that_hung_answers_as_before(
    sabotage: Sabotage, hang: Hang, wanted: list[list[int]]
) -> None:
    engine = sabotage(Mischief(hang), step_timeout=0.5)
    assert (await target(engine, [BAD])).chunks[-1].error == HUNG
    hang.release()
    assert [each.tokens for each in await targets(engine, SOURCES)] == wanted

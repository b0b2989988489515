"""The engine survives its models: failures, shortage of memory, NaN, steps that hang."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from transformers import LlamaForCausalLM

from farebox_engine import ClosedError, Engine, EngineStats
from farebox_engine.serving.fence import Fence
from farebox_engine.serving.watchdog import Watchdog
from tests.engine.generating import answer, answers, begin, collect, greedy, random_prompts
from tests.engine.saboteur import BAD, POISON, Hang, failing, leaving, sabotaged_engine
from tests.engine.started import started
from tests.waiting import WAIT_SECONDS

PROMPTS = random_prompts(30, (25, 9, 14))
FAILED = "The model failed while computing this request."
HUNG = "The model took too long over this request."
Sabotage = Callable[..., Engine]


@pytest.fixture
async def sabotage(checkpoint: Path) -> AsyncIterator[Sabotage]:
    """Starts engines with misbehaving models; when they are closed, none may hold a request or a block."""
    with started(partial(sabotaged_engine, checkpoint)) as start:
        yield start


@pytest.fixture(scope="module")
def expected(reference: LlamaForCausalLM) -> list[list[int]]:
    expected = [greedy(reference, prompt) for prompt in PROMPTS]
    assert not {BAD, POISON} & {token for tokens in (*PROMPTS, *expected) for token in tokens}
    return expected


async def beside(engine: Engine, bad: list[int], **params: Any) -> tuple[Any, list[list[int]], EngineStats]:
    """A bad request begun just before the good ones, what these got, and the statistics after."""
    doomed = begin(engine, bad, **params)
    good = await answers(engine, PROMPTS)
    return await collect(doomed), [each.tokens for each in good], engine.stats()


async def test_a_request_that_breaks_the_model_fails_alone(
    sabotage: Sabotage, expected: list[list[int]]
) -> None:
    failed, tokens, stats = await beside(sabotage(failing), [5, BAD, 7])
    assert (failed.finish_reason, failed.chunks[-1].error, failed.tokens) == ("error", FAILED, [])
    assert tokens == expected
    assert failed.usage.device_seconds == 0
    assert stats.operator_seconds > 0
    assert stats.failed_steps == 1
    assert stats.restarts == 0


async def test_a_failing_step_ends_its_requests_and_nothing_else(
    sabotage: Sabotage, expected: list[list[int]]
) -> None:
    engine = sabotage(failing, max_running=2)
    doomed = [begin(engine, [BAD, number]) for number in (1, 2)]
    for generation in doomed:
        failed = await collect(generation)
        assert (failed.finish_reason, failed.chunks[-1].error, failed.tokens) == ("error", FAILED, [])
    assert (await answer(engine, PROMPTS[0])).tokens == expected[0]
    stats = engine.stats()
    assert stats.failed_steps in (1, 2), "both fell into one step, or each into its own"
    assert stats.operator_seconds > 0


async def test_a_request_that_breaks_the_model_later_keeps_what_it_got(
    sabotage: Sabotage, reference: LlamaForCausalLM
) -> None:
    def break_later() -> None:
        if engine.stats().completion_tokens >= 5:
            failing()

    # Without guesses, so that each step yields one token.
    engine = sabotage(break_later, speculative_tokens=0)
    # Kept in sight of every step: a token that it never leaves behind.
    failed = await answer(engine, [5, BAD, 7], logit_bias={BAD: 100.0})
    assert failed.finish_reason == "error"
    assert failed.tokens == [BAD] * 5
    assert failed.usage.completion_tokens == 5
    assert failed.usage.device_seconds > 0


async def test_without_memory_for_all_a_step_is_computed_in_parts(
    sabotage: Sabotage, expected: list[list[int]]
) -> None:
    engine = sabotage(None, 8)
    found = await answers(engine, PROMPTS)
    assert [each.tokens for each in found] == expected
    assert engine.stats().failed_steps > 0
    assert engine.stats().operator_seconds > 0


async def test_without_memory_even_for_one_token_the_request_ends(sabotage: Sabotage) -> None:
    engine = sabotage(None, 0)
    found = await answers(engine, PROMPTS)
    assert {(each.finish_reason, each.chunks[-1].error) for each in found} == {("error", FAILED)}


async def test_steps_grow_again_after_a_shortage(sabotage: Sabotage, expected: list[list[int]]) -> None:
    def shortage_once() -> None:
        if not shortages:
            shortages.append(1)
            raise torch.OutOfMemoryError("just now")

    shortages: list[int] = []
    engine = sabotage(shortage_once, step_tokens=32)
    await answer(engine, [BAD, 1, 2], max_tokens=60)
    assert engine.stats().failed_steps == 1
    steps = engine.stats().steps
    assert (await answer(engine, PROMPTS[0])).tokens == expected[0]
    assert engine.stats().steps - steps == 16, "the prompt of 25 tokens took one step"


async def test_not_a_number_ends_only_its_request(sabotage: Sabotage, expected: list[list[int]]) -> None:
    failed, tokens, stats = await beside(sabotage(), [5, 6, POISON])
    assert failed.chunks[-1].error == "The model's output was not a number."
    assert failed.tokens == []
    assert tokens == expected
    assert failed.usage.device_seconds == 0
    assert stats.discarded_tokens == 3


async def test_a_step_that_hangs_ends_its_requests_and_the_others_go_on(
    sabotage: Sabotage, hang: Hang, expected: list[list[int]]
) -> None:
    engine = sabotage(hang, max_running=1, step_timeout=1.0)
    doomed = begin(engine, [5, BAD, 7])
    waiting = [begin(engine, prompt) for prompt in PROMPTS]
    failed = await collect(doomed)
    assert (failed.finish_reason, failed.chunks[-1].error, failed.tokens) == ("error", HUNG, [])
    assert failed.usage.device_seconds == 0
    async with asyncio.timeout(WAIT_SECONDS):
        good = [await collect(generation) for generation in waiting]
    assert [each.tokens for each in good] == expected
    stats = engine.stats()
    assert (stats.restarts, stats.failed) == (1, False)
    assert stats.operator_seconds >= 0.9


async def test_what_ran_beside_a_hanging_part_goes_on_where_it_was(
    sabotage: Sabotage, hang: Hang, reference: LlamaForCausalLM
) -> None:
    # No memory for both in one step: so one is computed, and then the other hangs.
    engine = sabotage(hang, 20, step_timeout=1.0)
    prompt = PROMPTS[1]
    running = begin(engine, prompt, max_tokens=200)
    first = await anext(running)
    assert first.token_ids or first.text == ""
    failed = await collect(begin(engine, [BAD] * 20))
    assert failed.chunks[-1].error == HUNG
    rest = await collect(running)
    assert [*first.token_ids, *rest.tokens] == greedy(reference, prompt, 200)
    assert rest.finish_reason == "length"
    assert engine.stats().restarts == 1


async def test_a_cancelled_request_need_not_wait_for_a_hanging_step(sabotage: Sabotage, hang: Hang) -> None:
    engine = sabotage(hang, max_running=1, step_timeout=1.0)
    doomed = begin(engine, [BAD])
    queued = begin(engine, PROMPTS[0])
    await asyncio.to_thread(hang.entered.wait)
    queued.cancel()
    ended = await collect(queued)
    assert (ended.finish_reason, ended.usage.device_seconds) == ("cancelled", 0)
    assert (await collect(doomed)).finish_reason == "error"


async def test_a_hanging_threads_cache_is_freed_when_it_comes_back(sabotage: Sabotage, hang: Hang) -> None:
    def living() -> list[Any]:
        return [each for each in gc.get_objects() if type(each).__name__ == "KVCache"]

    others = {id(each) for each in living()}  # of engines that earlier tests left behind
    caches: list[weakref.ref[Any]] = []

    def remember_and_hang() -> None:
        caches.extend(weakref.ref(each) for each in living() if id(each) not in others)
        hang()

    engine = sabotage(remember_and_hang, step_timeout=1.0)
    assert (await answer(engine, [BAD])).chunks[-1].error == HUNG
    assert (await answer(engine, PROMPTS[0])).finish_reason == "length"
    gc.collect()
    (cache,) = [ref for ref in caches if ref() is not None]
    hang.release()
    for thread in threading.enumerate():
        if thread.name == "farebox-engine" and cache() is not None:
            thread.join(1)
    gc.collect()
    assert cache() is None
    assert (await answer(engine, PROMPTS[0])).finish_reason == "length"


async def test_what_a_given_up_thread_brings_back_is_dropped(
    sabotage: Sabotage, hang: Hang, expected: list[list[int]]
) -> None:
    def hang_and_fail() -> NoReturn:
        hang()
        raise RuntimeError("too late to matter")

    before = set(threading.enumerate())
    engine = sabotage(hang_and_fail, step_timeout=1.0)
    (thread,) = set(threading.enumerate()) - before
    assert (await answer(engine, [BAD])).chunks[-1].error == HUNG
    stats = engine.stats()
    hang.release()
    await asyncio.to_thread(thread.join)
    assert engine.stats() == stats
    assert [each.tokens for each in await answers(engine, PROMPTS)] == expected


async def test_too_many_hanging_threads_fail_the_engine(sabotage: Sabotage, hang: Hang) -> None:
    engine = sabotage(hang, max_running=1, step_timeout=0.5, abandoned_threads=2)
    doomed = [begin(engine, [BAD, number]) for number in range(2)]
    queued = begin(engine, PROMPTS[0])
    for generation in doomed:
        assert (await collect(generation)).finish_reason == "error"
    ended = await collect(queued)
    reason = "The engine has failed: 2 steps hang. Restart the process."
    assert (ended.finish_reason, ended.chunks[-1].error) == ("error", reason)
    with pytest.raises(ClosedError, match="2 steps hang"):
        begin(engine, PROMPTS[0])
    stats = engine.stats()
    assert (stats.failed, stats.restarts) == (True, 1)


async def test_closing_does_not_wait_for_a_hanging_step_for_ever(checkpoint: Path, hang: Hang) -> None:
    engine = sabotaged_engine(checkpoint, hang, step_timeout=0.5)
    engine.start(asyncio.get_running_loop())
    doomed, queued = begin(engine, [BAD]), begin(engine, PROMPTS[0])
    await asyncio.to_thread(hang.entered.wait)
    await asyncio.to_thread(engine.close)
    for generation in (doomed, queued):
        assert (await collect(generation)).chunks[-1].error == "The engine was closed."


async def test_a_thread_that_breaks_is_replaced(sabotage: Sabotage, expected: list[list[int]]) -> None:
    engine = sabotage(leaving, max_running=1)
    failed, tokens, stats = await beside(engine, [5, BAD])
    assert failed.chunks[-1].error == "The engine failed while computing this request."
    assert tokens == expected
    assert (stats.restarts, stats.failed) == (1, False)


async def test_a_loop_that_was_busy_makes_no_step_look_hung() -> None:
    loop = asyncio.get_running_loop()
    fence: Fence[object] = Fence()
    given_up, leave = asyncio.Event(), threading.Event()
    entered = threading.Event()

    def compute() -> None:
        with fence.guard():
            entered.set()
            leave.wait()

    watchdog = Watchdog(loop, 0.8, lambda: fence, given_up.set)
    watchdog.start()
    computing = loop.run_in_executor(None, compute)
    await asyncio.to_thread(entered.wait)
    # The loop stands still for longer than the limit.
    threading.Event().wait(1.2)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not given_up.is_set()
    leave.set()
    await computing
    watchdog.stop()

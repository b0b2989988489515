"""Threads that tenants share: nobody's flood goes ahead of somebody who just came."""

import asyncio
import threading
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from farebox.core.fair_threads import KEPT, FairThreads
from tests.waiting import WAIT_SECONDS

ATTACKER, OTHER, VICTIM = uuid4(), uuid4(), uuid4()


class Held:
    """Work that runs until it is let go, and notes that it began."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.go.wait(10)


async def begun(work: Held) -> bool:
    return await asyncio.to_thread(work.begun.wait, 10)


def noting(order: list[UUID], tenant: UUID) -> Callable[[], None]:
    return lambda: order.append(tenant)


async def test_one_tenant_has_one_thread_however_many_are_idle() -> None:
    threads = FairThreads("test", threads=2)
    first, second = Held(), Held()
    flood = [asyncio.create_task(threads.run(ATTACKER, work)) for work in (first, second)]
    assert await begun(first)
    assert await asyncio.wait_for(threads.run(VICTIM, lambda: 7), 10) == 7
    assert not second.begun.is_set()
    first.go.set()
    second.go.set()
    await asyncio.gather(*flood)


async def test_who_had_least_goes_first() -> None:
    threads = FairThreads("test", threads=1)
    order: list[UUID] = []
    held = Held()
    tasks = [asyncio.create_task(threads.run(OTHER, held))]
    assert await begun(held)
    tasks += [asyncio.create_task(threads.run(ATTACKER, noting(order, ATTACKER))) for _ in range(20)]
    tasks += [asyncio.create_task(threads.run(VICTIM, noting(order, VICTIM)))]
    await asyncio.sleep(0)
    held.go.set()
    await asyncio.gather(*tasks)
    assert order.index(VICTIM) <= 1
    assert len(order) == 21


async def test_what_work_raises_reaches_who_asked_and_the_next_one_runs() -> None:
    threads = FairThreads("test", threads=1)

    def fail() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await threads.run(ATTACKER, fail)
    assert await threads.run(ATTACKER, lambda: 1) == 1


async def test_who_gives_up_waiting_is_skipped() -> None:
    threads = FairThreads("test", threads=1)
    held, dropped = Held(), Held()
    running = asyncio.create_task(threads.run(OTHER, held))
    assert await begun(held)
    waiting = asyncio.create_task(threads.run(VICTIM, dropped))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    held.go.set()
    await running
    assert await threads.run(VICTIM, lambda: 2) == 2
    assert not dropped.begun.is_set()


async def test_what_speaks_against_a_piece_is_asked_when_its_turn_comes() -> None:
    threads = FairThreads("test", threads=1)
    held, stopped, objections = Held(), Held(), list[Exception]()

    def check() -> None:
        if objections:
            raise objections.pop()

    running = asyncio.create_task(threads.run(OTHER, held))
    assert await begun(held)
    waiting = asyncio.create_task(threads.run(ATTACKER, stopped, check=check))
    await asyncio.sleep(0)
    objections.append(PermissionError("not now"))
    held.go.set()
    await running
    with pytest.raises(PermissionError, match="not now"):
        await waiting
    assert not stopped.begun.is_set()
    # The thread is free for the next one.
    assert await threads.run(ATTACKER, lambda: 3, check=check) == 3


class Clock:
    """Seconds that pass when work says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


async def test_seconds_are_told_before_the_result_whatever_that_is() -> None:
    clock, told = Clock(), list[float]()
    threads = FairThreads("test", clock=clock)
    await threads.run(OTHER, lambda: clock.spend(3), spent=told.append)
    assert told == [3]

    def fail() -> None:
        clock.spend(2)
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        await threads.run(OTHER, fail, spent=told.append)
    assert told == [3, 2]


async def test_who_has_had_a_thread_rests_while_others_go_on() -> None:
    clock, order = Clock(), list[UUID]()
    threads = FairThreads("test", threads=1, rest=10, clock=clock)
    await threads.run(ATTACKER, lambda: clock.spend(WAIT_SECONDS))
    # Nobody else waits, and yet it does not begin.
    resting = asyncio.create_task(threads.run(ATTACKER, noting(order, ATTACKER)))
    await asyncio.sleep(0)
    for _ in range(3):
        await threads.run(VICTIM, noting(order, VICTIM))
    assert order == [VICTIM] * 3
    resting.cancel()
    await asyncio.gather(resting, return_exceptions=True)


async def test_who_has_rested_goes_on() -> None:
    clock = Clock()
    threads = FairThreads("test", threads=1, rest=3, clock=clock)
    for _ in range(3):
        await asyncio.wait_for(threads.run(OTHER, lambda: clock.spend(0.001)), WAIT_SECONDS)
    assert clock.now == pytest.approx(0.003)


async def test_what_is_known_of_tenants_has_a_bound() -> None:
    clock = Clock()
    threads = FairThreads("test", threads=2, clock=clock)
    first, second = Held(), Held()
    # It is never idle, when all would be forgotten.
    running = [asyncio.create_task(threads.run(OTHER, first))]
    assert await begun(first)
    await threads.run(ATTACKER, lambda: clock.spend(10))
    for _ in range(2 * KEPT):
        await threads.run(uuid4(), lambda: clock.spend(1))
    assert threads.remembered <= 2 * KEPT
    # Who had most is still known, and waits for whoever comes.
    running += [asyncio.create_task(threads.run(VICTIM, second))]
    assert await begun(second)
    order: list[UUID] = []
    newcomer = uuid4()
    waiting = [asyncio.create_task(threads.run(who, noting(order, who))) for who in (ATTACKER, newcomer)]
    await asyncio.sleep(0)
    second.go.set()
    await asyncio.gather(*waiting)
    first.go.set()
    await asyncio.gather(*running)
    assert order == [newcomer, ATTACKER]

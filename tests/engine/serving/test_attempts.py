"""Attempts at a step: culprits are found by halving, and what fails is on the operator's account."""

import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine.scheduling.step_limit import StepLimit
from farebox_engine.serving.attempts import Attempts
from farebox_engine.serving.device_ledger import DeviceLedger
from farebox_engine.serving.fence import Abandoned


def failing_for(bad: set[int]) -> Callable[[list[int]], list[int]]:
    def run(parts: list[int]) -> list[int]:
        if bad & set(parts):
            raise RuntimeError("a kernel that fails")
        return [2 * part for part in parts]

    return run


@settings(deadline=None)
@given(count=st.integers(1, 40), bad=st.sets(st.integers(0, 39)))
def test_only_the_culprits_fail_and_the_operator_pays_for_the_search(count: int, bad: set[int]) -> None:
    ledger, limit = DeviceLedger(), StepLimit(64)
    attempts: Attempts[int] = Attempts(ledger, limit)
    computed = attempts.run(failing_for(bad), range(count), tokens=lambda _: 1)
    culprits = bad & set(range(count))
    assert computed.failed == sorted(culprits)
    assert [each for result in computed.results for each in result] == [
        2 * part for part in range(count) if part not in bad
    ]
    assert [part for batch, _ in computed.batches for part in batch] == [
        part for part in range(count) if part not in bad
    ]
    assert attempts.failed_steps == bool(culprits)
    assert ledger.operator_ns == ledger.busy_ns == computed.wasted_ns
    assert (computed.wasted_ns > 0) == bool(culprits)
    assert limit.next() == 64, "memory was not short"


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=20), memory=st.integers(1, 60))
def test_when_memory_is_short_the_next_step_is_as_small_as_what_fitted(sizes: list[int], memory: int) -> None:
    def run(parts: list[int]) -> int:
        if sum(parts) > memory:
            raise torch.OutOfMemoryError(f"no memory for {sum(parts)}")
        return sum(parts)

    limit = StepLimit(1000)
    attempts: Attempts[int] = Attempts(DeviceLedger(), limit)
    computed = attempts.run(run, sizes, tokens=lambda part: part)
    fitted = max(computed.results, default=1)
    assert limit.next() == (1000 if sum(sizes) <= memory else fitted)
    assert computed.failed == [size for size in sizes if size > memory]


def test_a_part_that_fails_alone_may_be_tried_smaller() -> None:
    def run(parts: list[int]) -> int:
        if sum(parts) > 3:
            raise MemoryError
        return sum(parts)

    asked: list[bool] = []

    def halve(part: int, short_of_memory: bool) -> int | None:
        asked.append(short_of_memory)
        return part // 2 or None

    attempts: Attempts[int] = Attempts(DeviceLedger(), StepLimit(1000))
    computed = attempts.run(run, [8, 1], shorten=halve)
    assert computed.results == [2, 1]
    assert asked == [True, True]


def test_a_lost_thread_is_turned_away_and_what_it_was_at_has_to_end() -> None:
    ledger = DeviceLedger()
    attempts: Attempts[int] = Attempts(ledger, StepLimit(64))
    entered, leave = threading.Event(), threading.Event()
    turned_away: list[bool] = []

    def hang(parts: list[int]) -> list[int]:
        if 3 in parts and len(parts) > 1:
            raise RuntimeError("so that the thread hangs in a half")
        if 3 in parts:
            entered.set()
            leave.wait()
        return parts

    def compute() -> None:
        try:
            attempts.run(hang, [1, 2, 3, 4])
        except Abandoned:
            turned_away.append(True)

    thread = threading.Thread(target=compute)
    thread.start()
    entered.wait()
    lost = attempts.fence
    turn = lost.turn
    assert turn is not None
    assert lost.give_up(turn)
    assert attempts.take_over(item=str, present=lambda _: True, running=["1", "2", "3"]) == ["3"]
    assert attempts.fence is not lost
    assert attempts.fence.turn is None
    assert attempts.failed_steps == 1
    assert ledger.operator_ns == ledger.busy_ns > 0
    booked = ledger.busy_ns
    leave.set()
    thread.join()
    assert turned_away == [True]
    assert ledger.busy_ns == booked, "whoever is turned away books nothing"


@pytest.mark.parametrize("present", [True, False])
def test_something_has_to_end_when_a_thread_is_lost(present: bool) -> None:
    attempts: Attempts[int] = Attempts(DeviceLedger(), StepLimit(64))
    attempts.run(lambda parts: parts, [1, 2])
    ending = attempts.take_over(item=str, present=lambda _: present, running=["5", "6"])
    assert ending == (["1", "2"] if present else ["5", "6"])

"""Attempts at a step: what a core does about those that fail, and about a thread that is lost in one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from collections.abc import Sequence as Seq
from typing import Generic, TypeVar

from farebox_engine.scheduling.step_limit import StepLimit
from farebox_engine.serving.bisection import Computed, Result, compute, fail_alone
from farebox_engine.serving.device_ledger import DeviceLedger
from farebox_engine.serving.fence import Fence, Part

FAILED = "The model failed while computing this request."
NOT_A_NUMBER = "The model's output was not a number."

Item = TypeVar("Item")


class Attempts(Generic[Part]):
    """Runs the steps of one core behind a fence. Nobody but the operator pays for what fails.

    A part is what a step computes of one item of work. `failed_steps` counts the steps in which an
    attempt failed, and those whose thread was lost.
    """

    def __init__(self, ledger: DeviceLedger, limit: StepLimit) -> None:
        self.fence: Fence[Part] = Fence()
        self.failed_steps = 0
        self._ledger = ledger
        self._limit = limit

    def run(
        self,
        run: Callable[[list[Part]], Result],
        parts: Seq[Part],
        *,
        tokens: Callable[[Part], int] | None = None,
        shorten: Callable[[Part, bool], Part | None] = fail_alone,
    ) -> Computed[Part, Result]:
        """Compute a step; see `bisection.compute`.

        `tokens` says how many a part takes of the step limit: when memory ran out, the next steps are
        as small as the largest batch that fitted.

        Raises:
            Abandoned: this thread was given up meanwhile and must leave the core alone.
        """
        computed = compute(run, parts, self.fence, shorten)
        if computed.attempts_failed:
            self.failed_steps += 1
            self._ledger.write_off(computed.wasted_ns)
        if computed.short_of_memory and tokens is not None:
            self._limit.lower(max((sum(map(tokens, batch)) for batch, _ in computed.batches), default=1))
        return computed

    def take_over(
        self, *, item: Callable[[Part], Item], present: Callable[[Item], bool], running: Collection[Item]
    ) -> list[Item]:
        """Leave the lost thread behind its fence and go on with another; which items must end.

        Those of the parts that it was at, as far as `present`, or else all that run: something has
        to end, or the same would happen again and again.
        """
        lost, self.fence = self.fence, Fence()
        self.failed_steps += 1
        self._ledger.write_off(lost.ns_inside)
        return [each for part in lost.parts if present(each := item(part))] or list(running)

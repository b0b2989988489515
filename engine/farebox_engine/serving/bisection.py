"""Computing a step although something in it fails: the culprits are found by halving."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

from farebox_engine.machine import is_shortage
from farebox_engine.serving.fence import Fence, Part

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(slots=True)
class Computed(Generic[Part, Result]):
    """A step after bisection: `batches` that succeeded with their results, `failed` parts, and the time lost.

    `short_of_memory` is set when memory ran out on the way.
    """

    batches: list[tuple[list[Part], Result]] = field(default_factory=list)
    failed: list[Part] = field(default_factory=list)
    wasted_ns: int = 0
    attempts_failed: int = 0
    short_of_memory: bool = False

    @property
    def results(self) -> list[Result]:
        return [result for _, result in self.batches]


def fail_alone(part: Part, short_of_memory: bool) -> Part | None:
    """There is nothing smaller to try instead of a part that failed by itself."""
    del part, short_of_memory
    return None


def compute(
    run: Callable[[list[Part]], Result],
    parts: Seq[Part],
    fence: Fence[Part],
    shorten: Callable[[Part, bool], Part | None] = fail_alone,
) -> Computed[Part, Result]:
    """Have `parts` `run`; where that fails, each half on its own, down to the single ones that fail.

    A part is computed again for that, so it must be safe to, as it is where the same is
    written to the same place. `shorten` may find something smaller to try instead of a
    single part that failed, and is told whether memory was short.

    Raises:
        Abandoned: this thread was given up meanwhile.
    """
    computed: Computed[Part, Result] = Computed()
    pending = [list(parts)]
    while pending:
        batch = pending.pop()
        started = time.perf_counter_ns()
        try:
            with fence.guard(batch):
                computed.batches.append((batch, run(batch)))
            continue
        except Exception as error:
            _log.exception("engine.step_failed")
            short_of_memory = is_shortage(error)
        # Outside of the handler: the exception's frames hold the very tensors that must go.
        computed.wasted_ns += time.perf_counter_ns() - started
        computed.attempts_failed += 1
        if short_of_memory:
            computed.short_of_memory = True
            torch.cuda.empty_cache()
        middle = len(batch) // 2
        if middle:
            pending += [batch[middle:], batch[:middle]]
        elif (shorter := shorten(batch[0], short_of_memory)) is not None:
            pending.append([shorter])
        else:
            computed.failed += batch
    return computed

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
class Outcome(Generic[Part, Result]):
    """What became of a step: `results` of what succeeded, `failed` parts, and the time lost.

    `short_of_memory` is set when memory ran out on the way.
    """

    results: list[Result] = field(default_factory=list)
    failed: list[Part] = field(default_factory=list)
    wasted_seconds: float = 0.0
    attempts_failed: int = 0
    short_of_memory: bool = False


def compute(
    run: Callable[[list[Part]], Result],
    parts: Seq[Part],
    fence: Fence[Part],
    shorten: Callable[[Part, bool], Part | None] = lambda _part, _short_of_memory: None,
) -> Outcome[Part, Result]:
    """Have `parts` `run`; where that fails, each half on its own, down to the single ones that fail.

    A part is computed again for that, so it must be safe to, as it is where the same is
    written to the same place. `shorten` may find something smaller to try instead of a
    single part that failed, and is told whether memory was short.

    Raises:
        Abandoned: this thread was given up meanwhile.
    """
    outcome: Outcome[Part, Result] = Outcome()
    batches = [list(parts)]
    while batches:
        batch = batches.pop()
        started = time.perf_counter()
        try:
            with fence.guard(batch):
                outcome.results.append(run(batch))
            continue
        except Exception as error:
            _log.exception("engine.step_failed")
            short_of_memory = is_shortage(error)
        # Outside of the handler: the exception's frames hold the very tensors that must go.
        outcome.wasted_seconds += time.perf_counter() - started
        outcome.attempts_failed += 1
        if short_of_memory:
            outcome.short_of_memory = True
            torch.cuda.empty_cache()
        middle = len(batch) // 2
        if middle:
            batches += [batch[middle:], batch[:middle]]
        elif (shorter := shorten(batch[0], short_of_memory)) is not None:
            batches.append([shorter])
        else:
            outcome.failed += batch
    return outcome

"""Computing a step although something in it fails: the culprits are found by halving."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

import torch

from farebox_engine.fence import Fence
from farebox_engine.runner import Runner, StepResult
from farebox_engine.sequence import Span

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of a step: `results` of the parts that succeeded, `failed` spans, and the time lost.

    `fitting` is set when memory ran out: the tokens of the largest part that fitted.
    """

    results: list[StepResult] = field(default_factory=list)
    failed: list[Span] = field(default_factory=list)
    wasted_seconds: float = 0.0
    attempts_failed: int = 0
    fitting: int | None = None


def compute(runner: Runner, spans: Seq[Span], fence: Fence) -> Outcome:
    """Compute `spans`; where that fails, each half on its own, down to the single ones that fail.

    To compute a span again is safe: it writes the same keys and values to the same slots,
    and the choice of a token depends on its index, not on how often it was made.
    """
    outcome = Outcome()
    parts = [list(spans)]
    while parts:
        part = parts.pop()
        started = time.perf_counter()
        try:
            with fence.guard(part):
                outcome.results.append(runner.run(part))
            continue
        except Exception as error:
            _log.exception("engine.step_failed")
            short_of_memory = _is_shortage(error)
        # Outside of the handler: the exception's frames hold the very tensors that must go.
        outcome.wasted_seconds += time.perf_counter() - started
        outcome.attempts_failed += 1
        if short_of_memory:
            outcome.fitting = 0
            torch.cuda.empty_cache()
        smaller = _divide(part, short_of_memory)
        if not smaller:
            outcome.failed.extend(part)
        parts.extend(reversed(smaller))
    if outcome.fitting is not None:
        sizes = [sum(span.length for span, _ in result.sampled) for result in outcome.results]
        outcome.fitting = max(sizes, default=1)
    return outcome


def _divide(part: list[Span], short_of_memory: bool) -> list[list[Span]]:
    middle = len(part) // 2
    if middle:
        return [part[:middle], part[middle:]]
    (span,) = part
    if span.drafts:
        # A failure over what was only guessed is not the request's.
        return [[span.settled]]
    if short_of_memory and span.length > 1:
        # The rest of the prompt is left to later steps.
        return [[replace(span, length=span.length // 2)]]
    return []


def _is_shortage(error: Exception) -> bool:
    # torch's allocator for CPU memory has no exception type of its own.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)

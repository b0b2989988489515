"""Timing contenders against each other, in rounds that alternate between them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from farebox_engine.bench.workload import Contender, Workload


@dataclass(frozen=True, slots=True)
class Reading:
    """One contender's times, in seconds, one entry per round.

    `first` is until every prompt has its first token, `step` one token of all after that.
    """

    name: str
    first: tuple[float, ...]
    step: tuple[float, ...]

    @property
    def step_median(self) -> float:
        return statistics.median(self.step)

    @property
    def first_median(self) -> float:
        return statistics.median(self.first)


def compare(
    contenders: Sequence[Contender], workload: Workload, vocab_size: int, rounds: int
) -> list[Reading]:
    """Let the contenders take turns, so that what else the machine does meets them all alike.

    Each round times an answer of one token and one of `workload.new_tokens`; what the second
    takes longer is steps. A first, unmeasured turn warms up.
    """
    prompts = workload.prompts(vocab_size)
    for contender in contenders:
        contender.answer(prompts, workload.new_tokens)
        contender.answer(prompts, 1)
    times: list[list[tuple[float, float]]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, taken in zip(contenders, times, strict=True):
            first = _seconds(contender, prompts, 1)
            whole = _seconds(contender, prompts, workload.new_tokens)
            taken.append((first, max(whole - first, 1e-9) / (workload.new_tokens - 1)))
    return [
        Reading(contender.name, *(tuple(column) for column in zip(*taken, strict=True)))
        for contender, taken in zip(contenders, times, strict=True)
    ]


def _seconds(contender: Contender, prompts: list[list[int]], new_tokens: int) -> float:
    started = time.perf_counter()
    contender.answer(prompts, new_tokens)
    return time.perf_counter() - started

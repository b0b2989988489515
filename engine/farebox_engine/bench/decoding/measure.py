"""Timing contenders against each other, in rounds that alternate between them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from farebox_engine.bench.decoding.workload import Answer, Contender, Workload


@dataclass(frozen=True, slots=True)
class Reading:
    """One contender's times, in seconds, one entry per round.

    `first` is until every prompt has its first token, `step` one token of all of them after that.
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

    A first, unmeasured turn warms up.
    """
    prompts = workload.prompts(vocab_size)
    for contender in contenders:
        contender.answer(prompts, workload.new_tokens)
    times: list[list[tuple[float, float]]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, taken in zip(contenders, times, strict=True):
            started = time.perf_counter()
            answers = contender.answer(prompts, workload.new_tokens)
            taken.append((max(answer.times[0] for answer in answers) - started, seconds_per_step(answers)))
    return [
        Reading(contender.name, *(tuple(column) for column in zip(*taken, strict=True)))
        for contender, taken in zip(contenders, times, strict=True)
    ]


def seconds_per_step(answers: Sequence[Answer]) -> float:
    """What one token of every answer takes while all of them are being generated.

    Counted from when the last answer has its first token to when the first has its last: outside,
    prompts are computed too, or the batch is smaller.

    Raises:
        ValueError: there is no such time; the answers are too short for the prompts.
    """
    begin, end = (
        max(answer.times[0] for answer in answers),
        min(answer.times[-1] for answer in answers),
    )
    tokens = sum(begin < moment <= end for answer in answers for moment in answer.times)
    if end <= begin:
        raise ValueError("The first answer was done before the last had begun: ask for more new tokens.")
    return len(answers) * (end - begin) / tokens

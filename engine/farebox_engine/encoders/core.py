"""The encoder engine's step, free of threads and event loops."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farebox_engine.encoders.job import Item, Job, JobQueue
from farebox_engine.encoders.loader import LoadedEncoder
from farebox_engine.encoders.outputs import EncoderStats, EncoderUsage
from farebox_engine.encoders.runner import EncoderRunner, EncoderStep
from farebox_engine.scheduling.step_limit import StepLimit
from farebox_engine.serving.bisection import compute
from farebox_engine.serving.fence import Fence
from farebox_engine.serving.token_rate import TokenRate

_FAILED = "The model failed while computing this request."
_NOT_A_NUMBER = "The model's output was not a number."


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with its usage, or with an error."""

    job: Job
    usage: EncoderUsage | None = None
    error: str | None = None


class EncoderCore:
    """Takes, computes and charges inputs, one `step` at a time: a `supervised.Core`.

    It keeps nothing on the device from step to step, so that there is nothing to rebuild.
    """

    ready = True

    def __init__(self, loaded: LoadedEncoder, step_tokens: int) -> None:
        self.fence: Fence[Item] = Fence()
        self._runner = EncoderRunner(loaded)
        self._queue = JobQueue()
        # A dict, for its order: by arrival.
        self._jobs: dict[Job, None] = {}
        self._limit = StepLimit(step_tokens)
        self._outcomes: list[Outcome] = []
        layers = loaded.model.encoder.get_submodule("layers")
        self._layer_parameters = sum(parameter.numel() for parameter in layers.parameters())
        self._attention_width = loaded.config.num_layers * loaded.config.hidden_size
        self._rate = TokenRate()
        self._steps = 0
        self._failed_steps = 0
        self._tokens = 0
        self._busy_seconds = 0.0
        self._operator_seconds = 0.0

    @property
    def idle(self) -> bool:
        return not self._jobs

    def add(self, job: Job) -> None:
        self._jobs[job] = None
        self._queue.push(job)

    def cancel(self, job: Job) -> None:
        """Forget a job. What it has cost is the operator's, even if it ended: nobody has read how."""
        self._forget(job)

    def step(self) -> None:
        """See `supervised.Core`. An input that fails alone ends its request; the others go on."""
        items = self._queue.take(self._limit.next())
        if not items:
            return
        started = time.perf_counter()
        for item in items:
            if item.job.started_at is None:
                item.job.started_at = started
        outcome = compute(self._run, items, self.fence)
        self._steps += 1
        self._write_off(outcome.wasted_seconds)
        if outcome.attempts_failed:
            self._failed_steps += 1
        if outcome.short_of_memory:
            sizes = [sum(len(item.tokens) for item in part) for part, _ in outcome.results]
            self._limit.lower(max(sizes, default=1))
        for item in outcome.failed:
            self._end(item.job, _FAILED)
        for part, result in outcome.results:
            self._take_up(part, result)

    def collect(self) -> list[Outcome]:
        """The jobs that have ended since the last call."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def recover(self, error: str) -> None:
        """See `supervised.Core`."""
        self._write_off(self.fence.seconds_inside)
        self._failed_steps += 1
        last = [item.job for item in self.fence.parts if item.job in self._jobs]
        self.fence = Fence()
        # Something has to end, or the same would happen again and again.
        for job in last or list(self._jobs):
            self._end(job, error)
        for job in reversed(self._jobs):
            if job.taken > len(job.outputs):
                self._queue.put_back(job)

    def rebuild(self) -> None:
        """See `supervised.Core`."""

    def end_all(self, error: str) -> None:
        """End every job."""
        for job in list(self._jobs):
            self._end(job, error)

    def stats(self) -> EncoderStats:
        """A snapshot; safe to take from another thread."""
        return EncoderStats(
            waiting_requests=len(self._jobs),
            steps=self._steps,
            tokens=self._tokens,
            failed_steps=self._failed_steps,
            busy_seconds=self._busy_seconds,
            operator_seconds=self._operator_seconds,
            tokens_per_second=self._rate.per_second(time.perf_counter()),
        )

    def _run(self, items: list[Item]) -> tuple[list[Item], EncoderStep]:
        return items, self._runner.run([item.tokens for item in items])

    def _take_up(self, items: Sequence[Item], result: EncoderStep) -> None:
        """Charge for what was computed and give it to its jobs; those that have all of it end."""
        self._charge(items, result.busy_seconds)
        now = time.perf_counter()
        self._rate.add(now, sum(len(item.tokens) for item in items))
        for item, output in zip(items, result.outputs, strict=True):
            job = item.job
            if job not in self._jobs:
                # Another of its inputs has failed: nobody will pay for this one either.
                self._forget(job)
            elif not np.isfinite(output).all():
                self._end(job, _NOT_A_NUMBER)
            else:
                # A job's inputs are taken in order, and all that a step takes are done with it.
                job.outputs.append(output)
                if len(job.outputs) == len(job.inputs):
                    del self._jobs[job]
                    self._outcomes.append(Outcome(job, usage=job.usage(now)))

    def _charge(self, items: Sequence[Item], busy_seconds: float) -> None:
        """Split a step's time by the operations of each input: the shares sum to the step."""
        self._busy_seconds += busy_seconds
        lengths = np.array([len(item.tokens) for item in items], dtype=np.float64)
        self._tokens += int(lengths.sum())
        # Two operations per weight and token; four per unit of width and pair of positions.
        costs = 2.0 * self._layer_parameters * lengths + 4.0 * self._attention_width * lengths**2
        for item, share in zip(items, (busy_seconds * costs / costs.sum()).tolist(), strict=True):
            item.job.device_seconds += share

    def _end(self, job: Job, error: str) -> None:
        """End a job that nobody will pay for, if it has not ended."""
        if job in self._jobs:
            self._forget(job)
            self._outcomes.append(Outcome(job, error=error))

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job, None)
        self._queue.remove(job)
        self._operator_seconds += job.device_seconds
        job.device_seconds = 0.0

    def _write_off(self, busy_seconds: float) -> None:
        """The time of a failed attempt is the operator's."""
        self._busy_seconds += busy_seconds
        self._operator_seconds += busy_seconds

"""The encoder engine's step, free of threads and event loops."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farebox_engine.encoders.accounting import EncoderAccounting, EncoderCost
from farebox_engine.encoders.job import Job, JobInput, JobQueue
from farebox_engine.encoders.loader import LoadedEncoder
from farebox_engine.encoders.outputs import EncoderStats, EncoderUsage
from farebox_engine.encoders.runner import EncoderRunner, EncoderStep
from farebox_engine.scheduling.step_limit import StepLimit
from farebox_engine.serving.attempts import FAILED, NOT_A_NUMBER, Attempts
from farebox_engine.serving.bisection import Computed
from farebox_engine.serving.device_ledger import DeviceLedger
from farebox_engine.serving.fence import Fence
from farebox_engine.serving.token_rate import TokenRate


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended: with its usage, or with an error."""

    job: Job
    usage: EncoderUsage | None = None
    error: str | None = None


class EncoderCore:
    """Schedules, runs and settles inputs, one `step` at a time: a `core_protocol.Core`.

    It keeps nothing on the device from step to step, so that there is nothing to rebuild.
    """

    ready = True

    def __init__(self, loaded: LoadedEncoder, step_tokens: int) -> None:
        self._runner = EncoderRunner(loaded)
        self._queue = JobQueue()
        # A dict, for its order: by arrival.
        self._jobs: dict[Job, None] = {}
        self._limit = StepLimit(step_tokens)
        self._ledger = DeviceLedger()
        self._accounting = EncoderAccounting(EncoderCost.of(loaded), self._ledger)
        self._attempts: Attempts[JobInput] = Attempts(self._ledger, self._limit)
        self._ended: list[EndedJob] = []
        self._rate = TokenRate()
        self._steps = 0

    @property
    def fence(self) -> Fence[JobInput]:
        return self._attempts.fence

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
        """See `core_protocol.Core`. An input that fails alone ends its request; the others go on."""
        if inputs := self._schedule():
            computed = self._attempts.run(self._run, inputs, tokens=_length)
            self._settle(computed)

    def collect(self) -> list[EndedJob]:
        """The jobs that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def recover(self, error: str) -> None:
        """See `core_protocol.Core`."""
        for job in self._attempts.take_over(
            item=lambda each: each.job, present=self._jobs.__contains__, running=self._jobs
        ):
            self._end(job, error)
        for job in reversed(self._jobs):
            if job.taken > len(job.outputs):
                self._queue.put_back(job)

    def rebuild(self) -> None:
        """See `core_protocol.Core`."""

    def end_all(self, error: str) -> None:
        """End every job."""
        for job in list(self._jobs):
            self._end(job, error)

    def stats(self) -> EncoderStats:
        """A snapshot; safe to take from another thread."""
        return EncoderStats(
            waiting_requests=len(self._jobs),
            steps=self._steps,
            tokens=self._accounting.tokens,
            failed_steps=self._attempts.failed_steps,
            busy_seconds=self._ledger.busy_ns / 1e9,
            operator_seconds=self._ledger.operator_ns / 1e9,
            tokens_per_second=self._rate.per_second(time.perf_counter()),
        )

    def _schedule(self) -> list[JobInput]:
        inputs = self._queue.take(self._limit.next())
        now = time.perf_counter()
        for each in inputs:
            if each.job.started_at is None:
                each.job.started_at = now
        return inputs

    def _run(self, inputs: list[JobInput]) -> EncoderStep:
        return self._runner.run([each.tokens for each in inputs])

    def _settle(self, computed: Computed[JobInput, EncoderStep]) -> None:
        self._steps += 1
        for failed in computed.failed:
            self._end(failed.job, FAILED)
        for inputs, result in computed.batches:
            self._accounting.charge(inputs, result.busy_ns)
            self._hand_out(inputs, result)

    def _hand_out(self, inputs: Sequence[JobInput], result: EncoderStep) -> None:
        """Give what was computed to its jobs; those that have all of it end."""
        now = time.perf_counter()
        self._rate.add(now, sum(map(_length, inputs)))
        for each, output in zip(inputs, result.outputs, strict=True):
            job = each.job
            if job not in self._jobs:
                # Another of its inputs has failed: nobody will pay for this one either.
                self._forget(job)
            elif not np.isfinite(output).all():
                self._end(job, NOT_A_NUMBER)
            else:
                # A job's inputs are taken in order, and all that a step takes are done with it.
                job.outputs.append(output)
                if len(job.outputs) == len(job.inputs):
                    del self._jobs[job]
                    self._ended.append(EndedJob(job, usage=job.usage(now)))

    def _end(self, job: Job, error: str) -> None:
        """End a job that nobody will pay for, if it has not ended."""
        if job in self._jobs:
            self._forget(job)
            self._ended.append(EndedJob(job, error=error))

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job, None)
        self._queue.remove(job)
        self._ledger.forgive(job)


def _length(item: JobInput) -> int:
    return len(item.tokens)

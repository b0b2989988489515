"""One request on its way through an encoder engine, and the queue where it waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from farebox_engine.encoders.outputs import EncoderUsage
from farebox_engine.encoders.tokenizer import Tokens
from farebox_engine.scheduling.fair_shares import FairShares

Output = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Job:
    """A request's inputs, how far it has come and what it has cost.

    The first ``taken`` inputs have been given to a step, and the first ``charged`` were counted as service
    to the tenant. ``outputs`` holds those that are done, in the order of the inputs. Times are
    `time.perf_counter` readings in seconds.
    """

    inputs: Sequence[Tokens]
    tenant: str
    submitted_at: float
    started_at: float | None = None
    taken: int = 0
    charged: int = 0
    outputs: list[Output] = field(default_factory=list)
    device_ns: int = 0

    def usage(self, now: float) -> EncoderUsage:
        started = now if self.started_at is None else self.started_at
        return EncoderUsage(
            tokens=sum(map(len, self.inputs)),
            queue_seconds=started - self.submitted_at,
            compute_seconds=now - started,
            device_seconds=self.device_ns / 1e9,
        )


@dataclass(frozen=True, slots=True)
class JobInput:
    """One input of a job, in a step."""

    job: Job
    tokens: Tokens


class JobQueue:
    """Jobs with inputs to compute, by the tenants' fair shares of tokens; each one's in order of arrival.

    So a request of thousands of inputs, or of long ones, holds nobody up but those behind it of the
    same tenant. An input is charged for when a step takes it, and not again if it is computed once more.
    """

    def __init__(self) -> None:
        self._shares: FairShares[Job] = FairShares()

    def push(self, job: Job) -> None:
        self._shares.push(job.tenant, job)

    def remove(self, job: Job) -> None:
        """Take a job out, if some of its inputs still wait."""
        if self._shares.holds(job.tenant, job):
            self._shares.remove(job.tenant, job)

    def put_back(self, job: Job) -> None:
        """Have what a job's steps were given and did not bring back computed once more."""
        job.taken = len(job.outputs)
        if not self._shares.holds(job.tenant, job):
            # It was before whatever waits now.
            self._shares.push_first(job.tenant, job)

    def take(self, budget: int) -> list[JobInput]:
        """The next step's inputs: at most ``budget`` tokens, or one input if it alone is longer."""
        inputs: list[JobInput] = []
        while (job := self._shares.peek()) is not None:
            tokens = job.inputs[job.taken]
            if inputs and len(tokens) > budget:
                break
            inputs.append(JobInput(job, tokens))
            budget -= len(tokens)
            job.taken += 1
            if job.taken > job.charged:
                job.charged = job.taken
                self._shares.charge(job.tenant, len(tokens))
            if job.taken == len(job.inputs):
                self.remove(job)
        return inputs

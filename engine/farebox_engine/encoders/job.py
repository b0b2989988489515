"""One request on its way through an encoder engine, and the queue where it waits."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from farebox_engine.encoders.outputs import EncoderUsage
from farebox_engine.encoders.tokenizer import Tokens

Output = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Job:
    """A request's inputs, how far it has come and what it has cost.

    The first ``taken`` inputs have been given to a step. ``outputs`` holds those that are done, in the
    order of the inputs. Times are `time.perf_counter` readings in seconds.
    """

    inputs: Sequence[Tokens]
    tenant: str
    submitted_at: float
    started_at: float | None = None
    taken: int = 0
    outputs: list[Output] = field(default_factory=list)
    device_seconds: float = 0.0

    def usage(self, now: float) -> EncoderUsage:
        started = now if self.started_at is None else self.started_at
        return EncoderUsage(
            tokens=sum(map(len, self.inputs)),
            queue_seconds=started - self.submitted_at,
            compute_seconds=now - started,
            device_seconds=self.device_seconds,
        )


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a job, in a step."""

    job: Job
    tokens: Tokens


class JobQueue:
    """Jobs with inputs to compute: tenants take turns, input by input; each one's jobs in order of arrival.

    So a request of thousands of inputs holds nobody up but those behind it of the same tenant.
    """

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[Job]] = OrderedDict()

    def push(self, job: Job) -> None:
        self._tenants.setdefault(job.tenant, deque()).append(job)

    def remove(self, job: Job) -> None:
        """Take a job out, if some of its inputs still wait."""
        jobs = self._tenants.get(job.tenant)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._tenants[job.tenant]

    def put_back(self, job: Job) -> None:
        """Have what a job's steps were given and did not bring back computed once more."""
        job.taken = len(job.outputs)
        jobs = self._tenants.setdefault(job.tenant, deque())
        if job not in jobs:
            # It was before whatever waits now.
            jobs.appendleft(job)

    def take(self, budget: int) -> list[Item]:
        """The next step's inputs: at most ``budget`` tokens, or one input if it alone is longer."""
        items: list[Item] = []
        while self._tenants:
            tenant, jobs = next(iter(self._tenants.items()))
            job = jobs[0]
            tokens = job.inputs[job.taken]
            if items and len(tokens) > budget:
                break
            items.append(Item(job, tokens))
            budget -= len(tokens)
            job.taken += 1
            self._tenants.move_to_end(tenant)
            if job.taken == len(job.inputs):
                self.remove(job)
        return items

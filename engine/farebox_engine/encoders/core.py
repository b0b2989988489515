"""The encoder engine's step, free of threads and event loops."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from farebox_engine.accounting import TokenRate
from farebox_engine.encoders.job import Item, Job, JobQueue
from farebox_engine.encoders.loading import LoadedEncoder
from farebox_engine.encoders.outputs import EncoderStats, EncoderUsage
from farebox_engine.encoders.runner import EncoderRunner

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with its usage, or with an error."""

    job: Job
    usage: EncoderUsage | None = None
    error: str | None = None


class EncoderCore:
    """Takes, computes and charges inputs, one `step` at a time; single-threaded."""

    def __init__(self, loaded: LoadedEncoder, step_tokens: int) -> None:
        self._runner = EncoderRunner(loaded)
        self._queue = JobQueue()
        self._jobs: set[Job] = set()
        self._step_tokens = step_tokens
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
        self._jobs.add(job)
        self._queue.push(job)

    def cancel(self, job: Job) -> None:
        """Forget a job. What it has cost is the operator's, even if it ended: nobody has read how."""
        if job in self._jobs:
            self._drop(job)
        else:
            self._write_off(job)

    def step(self) -> list[Outcome]:
        """Compute one batch; returns the jobs that ended."""
        items = self._queue.take(self._step_tokens)
        started = time.perf_counter()
        for item in items:
            if item.job.started_at is None:
                item.job.started_at = started
        try:
            result = self._runner.run([item.tokens for item in items])
        except Exception:
            _log.exception("encoder.step_failed")
            return self._fail(items, time.perf_counter() - started)
        self._steps += 1
        self._charge(items, result.busy_seconds)
        now = time.perf_counter()
        self._rate.add(now, sum(len(item.tokens) for item in items))
        broken = set()
        for item, output in zip(items, result.outputs, strict=True):
            # A job's inputs are taken in order, and all that a step takes are done with it.
            item.job.outputs.append(output)
            if not np.isfinite(output).all():
                broken.add(item.job)
        return self._ended(dict.fromkeys(item.job for item in items), broken, now)

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

    def _ended(self, jobs: Iterable[Job], broken: set[Job], now: float) -> list[Outcome]:
        outcomes = []
        for job in jobs:
            if job in broken:
                self._drop(job)
                outcomes.append(Outcome(job, error="The model's output was not a number."))
            elif len(job.outputs) == len(job.inputs):
                self._jobs.remove(job)
                outcomes.append(Outcome(job, usage=job.usage(now)))
        return outcomes

    def _charge(self, items: Sequence[Item], busy_seconds: float) -> None:
        """Split a step's time by the operations of each input: the shares sum to the step."""
        self._busy_seconds += busy_seconds
        lengths = np.array([len(item.tokens) for item in items], dtype=np.float64)
        self._tokens += int(lengths.sum())
        # Two operations per weight and token; four per unit of width and pair of positions.
        costs = 2.0 * self._layer_parameters * lengths + 4.0 * self._attention_width * lengths**2
        for item, share in zip(items, (busy_seconds * costs / costs.sum()).tolist(), strict=True):
            item.job.device_seconds += share

    def _fail(self, items: Sequence[Item], busy_seconds: float) -> list[Outcome]:
        """End the requests of a step that raised; the others never notice."""
        self._failed_steps += 1
        self._busy_seconds += busy_seconds
        self._operator_seconds += busy_seconds
        jobs = dict.fromkeys(item.job for item in items)
        for job in jobs:
            self._drop(job)
        return [Outcome(job, error="The model failed while computing this request.") for job in jobs]

    def _drop(self, job: Job) -> None:
        """Forget a job that nobody will pay for."""
        self._jobs.remove(job)
        self._queue.remove(job)
        self._write_off(job)

    def _write_off(self, job: Job) -> None:
        self._operator_seconds += job.device_seconds
        job.device_seconds = 0.0

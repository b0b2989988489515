"""One line that says how training goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """A bar on a terminal; elsewhere, a line now and then, so that a log file stays readable."""

    _LINE_INTERVAL = 30.0
    _BAR_INTERVAL = 0.2
    _BAR_WIDTH = 24

    def __init__(
        self,
        steps: int,
        size: int,
        output: TextIO,
        clock: Callable[[], float] = time.monotonic,
        *,
        unit: str = "tokens",
    ) -> None:
        """A step computes ``size`` of ``unit``."""
        self._steps, self._size, self._output, self._clock = steps, size, output, clock
        self._unit = unit
        self._live = output.isatty()
        self._started = self._shown = clock()
        self._first: int | None = None
        self._loss: float | None = None

    def update(self, step: int, loss: float) -> None:
        """Tell that ``step`` steps are done and the last one's loss in nats."""
        now = self._clock()
        if self._first is None:
            self._first, self._started = step, now
        # A single batch's loss jumps about; the eye wants the trend.
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        interval = self._BAR_INTERVAL if self._live else self._LINE_INTERVAL
        if now - self._shown >= interval or step == self._steps:
            self._shown = now
            self._show(self._line(step, now))

    def note(self, text: str) -> None:
        """Print a line of its own."""
        self._output.write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")
        self._output.flush()

    def close(self) -> None:
        if self._live:
            self._output.write("\n")
            self._output.flush()

    def _show(self, line: str) -> None:
        self._output.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._output.flush()

    def _line(self, step: int, now: float) -> str:
        done = step - (self._first or 0)
        steps_per_second = done / (now - self._started) if done and now > self._started else 0.0
        filled = int(self._BAR_WIDTH * step / self._steps)
        bar = "#" * filled + "." * (self._BAR_WIDTH - filled)
        left = duration((self._steps - step) / steps_per_second) if steps_per_second else "?"
        speed = steps_per_second * self._size
        return (
            f"[{bar}] {step}/{self._steps}  loss {self._loss:.3f}  {speed:,.0f} {self._unit}/s  {left} left"
        )


def duration(seconds: float) -> str:
    """`12:05` minutes, or `1:02:03` hours."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

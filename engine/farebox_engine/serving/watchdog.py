"""Noticing from the event loop that a step does not come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from farebox_engine.serving.fence import Fence

_POLLS = 8  # per time limit
_LONGEST_PAUSE = 1.0


class Watchdog:
    """Polls a fence; when one call stays inside for `limit` seconds, gives it up.

    Only time in which the loop itself ran counts: a process that was stopped, or a loop
    that was busy, must not make a sound step look hung.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: float,
        fence: Callable[[], Fence[Any]],
        given_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._pause = min(limit / _POLLS, _LONGEST_PAUSE)
        self._fence = fence
        self._given_up = given_up
        self._watched: tuple[Fence[Any], int | None] | None = None
        self._inside = 0.0
        self._polled_at = time.perf_counter()
        self._stopped = False

    def start(self) -> None:
        """Begin to watch; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._poll)

    def stop(self) -> None:
        """Watch no more after the poll that may be due."""
        self._stopped = True

    def _poll(self) -> None:
        if self._stopped:
            return
        fence = self._fence()
        call = (fence, fence.turn)
        now = time.perf_counter()
        if call != self._watched:
            self._watched, self._inside = call, 0.0
        else:
            self._inside += min(now - self._polled_at, 2 * self._pause)
        self._polled_at = now
        if call[1] is not None and self._inside >= self._limit and fence.give_up(call[1]):
            self._given_up()
        self._loop.call_later(self._pause, self._poll)

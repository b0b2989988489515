"""Keeping a thread that was given up from touching what others have taken over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

Part = TypeVar("Part")


class Abandoned(BaseException):
    """This thread was given up while it computed: whatever it holds is no longer wanted.

    Not an `Exception`, so that nothing on the way out takes it for a failure to be dealt with.
    """


class Fence(Generic[Part]):
    """Encloses the calls into a model, which may never return.

    Python cannot end a thread. So the thread that comes out of the model has to pass the
    fence: either it is through before it is given up, or it is told so and leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up = False
        self._entered_at: int | None = None
        self._turn = 0
        self.parts: Sequence[Part] = ()

    @contextmanager
    def guard(self, parts: Sequence[Part] = ()) -> Iterator[None]:
        """Call into the model on behalf of `parts`, the work of a step or some of it.

        Raises:
            Abandoned: the thread was given up meanwhile; instead of what the call raised.
        """
        with self._lock:
            self.parts = parts
            self._turn += 1
            self._entered_at = time.perf_counter_ns()
        try:
            yield
        finally:
            with self._lock:
                self._entered_at = None
                given_up = self._given_up
            if given_up:
                raise Abandoned

    @property
    def turn(self) -> int | None:
        """The number of the call under way, None outside."""
        return None if self._entered_at is None else self._turn

    @property
    def ns_inside(self) -> int:
        """How long the call under way has taken so far, in nanoseconds."""
        entered_at = self._entered_at
        return 0 if entered_at is None else time.perf_counter_ns() - entered_at

    def give_up(self, turn: int) -> bool:
        """Give up the thread in call number `turn`; False if it has come out."""
        with self._lock:
            self._given_up = self._entered_at is not None and self._turn == turn
            return self._given_up

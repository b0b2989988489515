"""A process that dies between two statements of a transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Engine, event

_left: ContextVar[list[int] | None] = ContextVar("statements left", default=None)


class Crash(BaseException):
    """Not to be caught by what dies of it."""


@contextmanager
def crashing_after(statements: int) -> Iterator[None]:
    """What is done within dies before its `statements`-th next statement, if it comes so far."""
    token = _left.set([statements])
    try:
        yield
    finally:
        _left.reset(token)


def _count(*_: Any) -> None:
    left = _left.get()
    if left is None:
        return
    left[0] -= 1
    if left[0] < 0:
        raise Crash


event.listen(Engine, "before_cursor_execute", _count)

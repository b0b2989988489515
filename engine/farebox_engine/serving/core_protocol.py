"""What a supervisor and its workers ask of an engine's core, whatever the model's kind."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from farebox_engine.serving.fence import Fence

Item = TypeVar("Item", contravariant=True)
CoreOutput = TypeVar("CoreOutput")


class Core(Protocol[Item, CoreOutput]):
    """Takes items of work, computes them a `step` at a time, and collects what that yields.

    It belongs to one thread at a time. `fence` encloses the calls into the model; when the
    thread inside is given up, the core passes to whoever calls `recover`.
    """

    @property
    def fence(self) -> Fence[Any]: ...

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute until something is added."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it can compute; not while it is being rebuilt, nor after that failed."""
        ...

    def add(self, item: Item) -> None: ...

    def cancel(self, item: Item) -> None:
        """End an item, wherever it is; it may have ended."""
        ...

    def step(self) -> None:
        """Compute one batch, if there is any.

        Raises:
            Abandoned: this thread was given up meanwhile and must leave the core alone.
        """
        ...

    def collect(self) -> list[CoreOutput]:
        """What the steps since the last call yielded, and which items have ended."""
        ...

    def recover(self, error: str) -> None:
        """Take over from a thread that hung or broke: end the items it was at, go on with the others.

        To be followed by `rebuild` before the next step.
        """
        ...

    def rebuild(self) -> None:
        """Make anew what the lost thread may still write to."""
        ...

    def end_all(self, error: str) -> None:
        """End every item, running or waiting."""
        ...

"""What the event loop has for an engine's thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from farebox_engine.errors import ClosedError

Item = TypeVar("Item")


@dataclass(slots=True)
class Messages(Generic[Item]):
    """New items of work, items to cancel, and whether to close."""

    submitted: list[Item] = field(default_factory=list)
    cancelled: list[Item] = field(default_factory=list)
    closed: bool = False


class Mailbox(Generic[Item]):
    """Collects messages under a lock that is never held for longer than a list operation."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._messages: Messages[Item] = Messages()
        self._reason = ""

    def submit(self, item: Item) -> None:
        """Hand over a new item of work.

        Raises:
            ClosedError: nobody will read it; checked under the lock, so that none is lost.
        """
        with self._condition:
            if self._messages.closed:
                raise ClosedError(self._reason)
            self._messages.submitted.append(item)
            self._condition.notify()

    def cancel(self, item: Item) -> None:
        with self._condition:
            self._messages.cancelled.append(item)
            self._condition.notify()

    def close(self, reason: str = "The engine has been closed.") -> None:
        """Take nothing more; whoever tries is told the `reason` given first."""
        with self._condition:
            self._reason = self._reason or reason
            self._messages.closed = True
            self._condition.notify()

    def take(self, *, wait: bool) -> Messages[Item]:
        """Everything that has come; with `wait`, not before something has."""
        with self._condition:
            if wait:
                self._condition.wait_for(
                    lambda: self._messages.submitted or self._messages.cancelled or self._messages.closed
                )
            messages, self._messages = self._messages, Messages(closed=self._messages.closed)
            return messages

"""What the event loop has for an engine's thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from farebox_engine.errors import ClosedError

Item = TypeVar("Item")


@dataclass(slots=True)
class Mail(Generic[Item]):
    """New items of work, items to cancel, and whether to close."""

    submitted: list[Item] = field(default_factory=list)
    cancelled: list[Item] = field(default_factory=list)
    closed: bool = False


class Mailbox(Generic[Item]):
    """Collects mail under a lock that is never held for longer than a list operation."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._mail: Mail[Item] = Mail()
        self._reason = ""

    def submit(self, item: Item) -> None:
        """Hand over a new item of work.

        Raises:
            ClosedError: nobody will read it; checked under the lock, so that none is lost.
        """
        with self._condition:
            if self._mail.closed:
                raise ClosedError(self._reason)
            self._mail.submitted.append(item)
            self._condition.notify()

    def cancel(self, item: Item) -> None:
        with self._condition:
            self._mail.cancelled.append(item)
            self._condition.notify()

    def close(self, reason: str = "The engine has been closed.") -> None:
        """Take nothing more; whoever tries is told the `reason` given first."""
        with self._condition:
            self._reason = self._reason or reason
            self._mail.closed = True
            self._condition.notify()

    def take(self, *, wait: bool) -> Mail[Item]:
        """Everything that has come; with `wait`, not before something has."""
        with self._condition:
            if wait:
                self._condition.wait_for(
                    lambda: self._mail.submitted or self._mail.cancelled or self._mail.closed
                )
            mail, self._mail = self._mail, Mail(closed=self._mail.closed)
            return mail

"""The thread in which an engine computes."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch

from farebox_engine.errors import ClosedError
from farebox_engine.mailbox import Item, Mail, Mailbox

_log = logging.getLogger(__name__)

News = TypeVar("News")


class Work(Protocol[Item, News]):
    """What an engine does; `deliver` and `end` run on the event loop, the rest in the thread."""

    def idle(self) -> bool:
        """Whether there is nothing to compute until mail comes."""
        ...

    def turn(self, mail: Mail[Item]) -> list[News]:
        """Take the mail up and compute one step."""
        ...

    def deliver(self, news: list[News]) -> None:
        """Pass on what a turn brought."""
        ...

    def end(self) -> None:
        """End whatever is still waiting: the thread has ended, whatever the reason."""
        ...


class EngineThread(Generic[Item, News]):
    """Waits while there is nothing to do; hands over to the event loop once per step."""

    def __init__(self, work: Work[Item, News], threads: int) -> None:
        """`threads` is the number of CPU threads that compute a step."""
        self._work = work
        self._threads = threads
        self._mailbox: Mailbox[Item] = Mailbox()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start; news are delivered on `loop`."""
        if self._thread is not None:
            raise ClosedError("The engine has been started before; load another.")
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="farebox-engine", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Hand over new work.

        Raises:
            ClosedError: the thread is not running.
        """
        if self._thread is None:
            raise ClosedError("The engine is not running; start it first.")
        self._mailbox.submit(item)

    def cancel(self, item: Item) -> None:
        self._mailbox.cancel(item)

    def close(self) -> None:
        """End what is under way and wait for the thread; further calls do nothing."""
        self._mailbox.close()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        try:
            while not (mail := self._mailbox.take(wait=self._work.idle())).closed:
                if news := self._work.turn(mail):
                    self._on_loop(self._work.deliver, news)
        finally:
            self._mailbox.close()
            self._on_loop(self._work.end)

    def _on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop is gone, and with it everyone who could read.
            _log.warning("engine.loop_closed")
            self._mailbox.close()

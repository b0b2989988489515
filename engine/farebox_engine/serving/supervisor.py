"""Keeping an engine computing: one worker at a time, another when it hangs or breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic

from farebox_engine.config import EngineConfig
from farebox_engine.errors import ClosedError
from farebox_engine.serving.core_protocol import Core, CoreOutput, Item
from farebox_engine.serving.mailbox import Mailbox
from farebox_engine.serving.watchdog import Watchdog
from farebox_engine.serving.worker import Worker

_log = logging.getLogger(__name__)

_HUNG = "The model took too long over this request."
_BROKE = "The engine failed while computing this request."
_CLOSED = "The engine was closed."


class Supervisor(Generic[Item, CoreOutput]):
    """Starts workers, watches them and replaces them; on the event loop's thread, but for `close`.

    The weights stay; a successor gets a new KV cache, if there is one, as the old one belongs to
    the thread that may still write to it, and is freed when that thread comes back.
    """

    def __init__(
        self,
        core: Core[Item, CoreOutput],
        config: EngineConfig,
        *,
        deliver: Callable[[list[CoreOutput]], None],
        end_all: Callable[[str], None],
    ) -> None:
        """`deliver` and `end_all` are called on the event loop; the latter ends whatever has not ended."""
        self.restarts = 0
        self.failed = False
        self._core = core
        self._config = config
        self._deliver = deliver
        self._end_all = end_all
        self._mailbox: Mailbox[Item] = Mailbox()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchdog: Watchdog | None = None
        self._worker: Worker[Item, CoreOutput] | None = None
        self._abandoned: list[Worker[Item, CoreOutput]] = []
        self._closing = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to compute, and to deliver on `loop`.

        Raises:
            ClosedError: it has been started before.
        """
        if self._worker is not None:
            raise ClosedError("The engine has been started before; load another.")
        self._loop = loop
        self._spawn(rebuild=False)
        if self._config.step_timeout:
            self._watchdog = Watchdog(
                loop, self._config.step_timeout, lambda: self._core.fence, self._on_hung
            )
            self._watchdog.start()

    def submit(self, item: Item) -> None:
        """Hand over new work.

        Raises:
            ClosedError: nobody will compute it.
        """
        if self._worker is None:
            raise ClosedError("The engine is not running; start it first.")
        self._mailbox.submit(item)

    def cancel(self, item: Item) -> None:
        """Take an item out before the next step."""
        self._mailbox.cancel(item)

    def close(self) -> None:
        """Wait for the worker to end, or for as long as a step may take if it is stuck."""
        self._closing = True
        self._mailbox.close()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._worker is None:
            return
        # Read anew each time: the loop may have replaced it meanwhile.
        while (worker := self._worker).alive:
            worker.join(self._config.step_timeout or None)
            turn = self._core.fence.turn
            if worker.alive and turn is not None and self._core.fence.give_up(turn):
                self._on_loop(self._end_all, _CLOSED)
                return

    def _spawn(self, *, rebuild: bool) -> None:
        self._worker = worker = Worker(
            self._core,
            self._mailbox,
            torch_threads=self._config.cpu_threads(),
            rebuild=rebuild,
            deliver=lambda outputs: self._on_loop(self._deliver, outputs),
            ended=lambda broke: self._on_loop(self._on_ended, worker, broke),
        )
        worker.start()

    def _on_hung(self) -> None:
        """Called when the watchdog has given the worker up."""
        _log.error("engine.step_hung")
        self._abandoned = [worker for worker in self._abandoned if worker.alive]
        if self._worker is not None:
            self._abandoned.append(self._worker)
        self._replace(_HUNG)

    def _on_ended(self, worker: Worker[Item, CoreOutput], broke: bool) -> None:
        if worker is not self._worker:
            return
        if broke and not self._closing:
            self._replace(_BROKE)
        else:
            self._end_all(_CLOSED)

    def _replace(self, error: str) -> None:
        if self._closing:
            return
        if not self._core.ready:
            self._fail("The engine has failed: its cache could not be built again. Restart the process.")
        elif len(self._abandoned) >= self._config.abandoned_threads:
            self._fail(f"The engine has failed: {len(self._abandoned)} steps hang. Restart the process.")
        else:
            self._core.recover(error)
            self._deliver(self._core.collect())
            self.restarts += 1
            self._spawn(rebuild=True)

    def _fail(self, reason: str) -> None:
        _log.critical("engine.failed")
        self.failed = True
        if self._watchdog is not None:
            self._watchdog.stop()
        self._mailbox.close(reason)
        self._core.recover(reason)
        self._core.end_all(reason)
        self._deliver(self._core.collect())
        self._end_all(reason)

    def _on_loop(self, callback: Callable[..., None], *arguments: object) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop is gone, and with it everyone who could read.
            _log.warning("engine.loop_closed")
            self._mailbox.close()

"""The thread that computes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic

import torch

from farebox_engine.serving.core_protocol import Core, CoreOutput, Item
from farebox_engine.serving.fence import Abandoned
from farebox_engine.serving.mailbox import Mailbox, Messages

_log = logging.getLogger(__name__)


class Worker(Generic[Item, CoreOutput]):
    """Takes the messages, computes a step, hands over, until the mailbox closes.

    With `rebuild`, the core is rebuilt first.

    `deliver` and `ended` are called in this thread; `ended` with whether it broke. A
    worker that was given up calls neither, as everything has passed to its successor.
    """

    def __init__(
        self,
        core: Core[Item, CoreOutput],
        mailbox: Mailbox[Item],
        *,
        torch_threads: int,
        rebuild: bool,
        deliver: Callable[[list[CoreOutput]], None],
        ended: Callable[[bool], None],
    ) -> None:
        self._core = core
        self._mailbox = mailbox
        self._torch_threads = torch_threads
        self._rebuild = rebuild
        self._deliver = deliver
        self._ended = ended
        self._thread = threading.Thread(target=self._run, name="farebox-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the thread to end, for at most `seconds`."""
        self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        torch.set_num_threads(self._torch_threads)
        try:
            if self._rebuild:
                self._core.rebuild()
            while not (messages := self._mailbox.take(wait=self._core.idle)).closed:
                self._turn(messages)
        except Abandoned:
            _log.warning("engine.abandoned_thread_returned")
        except BaseException:
            # Whatever it is, it ends this thread only, and nobody may wait for it for ever.
            _log.exception("engine.thread_broke")
            self._ended(True)
        else:
            self._ended(False)

    def _turn(self, messages: Messages[Item]) -> None:
        for item in messages.submitted:
            self._core.add(item)
        # An item may have ended while its cancellation was under way.
        for item in messages.cancelled:
            self._core.cancel(item)
        if messages.cancelled:
            # Their readers need not wait for the step.
            self._hand_over()
        self._core.step()
        self._hand_over()

    def _hand_over(self) -> None:
        outputs = self._core.collect()
        if outputs:
            self._deliver(outputs)

"""Work in a process of its own, with a time limit: what it breaks, or hangs in, concerns it alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Say = Callable[[str], None]

_GRACE = 5.0


class LimitedProcess:
    """`work(say, *arguments)` in a child process, begun at once; lines it says arrive in `finish`."""

    def __init__(self, name: str, work: Callable[..., object], *arguments: object) -> None:
        self.name = name
        self.result: Any = None
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(theirs, work, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def finish(self, deadline: float, say: Say) -> str | None:
        """Pass on what the child says until it is done, then return None, or how it failed.

        `deadline` is by `time.perf_counter`; a child that is not done by then is killed. What its work
        returns is in `result`.
        """
        try:
            while self._connection.poll(max(0.0, deadline - time.perf_counter())):
                kind, content = self._connection.recv()
                if kind == "line":
                    say(content)
                    continue
                self.result = content if kind == "result" else None
                return None if kind == "result" else str(content)
            self._process.kill()
        except EOFError:
            return "its process died"
        finally:
            end_process(self._process)
            self._connection.close()
        return "it took too long and was stopped"


def end_process(process: multiprocessing.process.BaseProcess) -> None:
    """Wait for a process that should be ending, and kill it if it does not."""
    process.join(_GRACE)
    if process.is_alive():
        process.kill()
        process.join()


def _serve(connection: Connection, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    def say(line: str) -> None:
        connection.send(("line", line))

    try:
        connection.send(("result", work(say, *arguments)))
    except Exception as error:
        connection.send(("failure", f"{type(error).__name__}: {error}"))

"""The server as a process of its own, which notes when its event loop stands still.

Its settings come from the environment; the argument is the file for the stalls: a line for each, with the
moment of its end in Unix seconds and its length in seconds. It ends when its parent does.
"""

import asyncio
import os
import resource
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import uvicorn

from farebox.app import create_app
from farebox.core.logs import configure_logs
from farebox.core.settings import load_settings
from farebox.gateway.transport.server import DrainingServer, server_config
from tests.abuse.figures import stall_seconds
from tests.abuse.parent import end_with_parent

TICK_SECONDS = 0.005
NOTED_SECONDS = 0.005


@dataclass(frozen=True)
class Clocks:
    """The wall's clock and the process's in seconds; of the running thread, what it waited for a processor
    in seconds, and how often it lost one and gave one up."""

    wall: float
    computed: float
    waited: float
    forced: int
    voluntary: int


class LoopWatch:
    """A timer on a running loop that notes by how much it is late. Made on the loop's thread (Linux)."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes.open("a", buffering=1)
        task = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._schedule = os.open(task, os.O_RDONLY)

    async def run(self) -> None:
        """Until cancelled."""
        now = self._read()
        while True:
            before = now
            await asyncio.sleep(TICK_SECONDS)
            now = self._read()
            stall = stall_seconds(
                late=now.wall - before.wall - TICK_SECONDS,
                waited=now.waited - before.waited,
                forced=now.forced - before.forced,
                voluntary=now.voluntary - before.voluntary,
                computed=now.computed - before.computed,
            )
            if stall > NOTED_SECONDS:
                self._notes.write(f"{time.time():.3f} {stall:.4f}\n")

    def _read(self) -> Clocks:
        used = resource.getrusage(resource.RUSAGE_THREAD)
        # The second number of schedstat: nanoseconds that the thread was ready, and no processor was free.
        waited = int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9
        return Clocks(time.perf_counter(), time.process_time(), waited, used.ru_nivcsw, used.ru_nvcsw)


class WatchedServer(DrainingServer):
    """Farebox's server, watched from when it listens."""

    def __init__(self, config: uvicorn.Config, notes: Path) -> None:
        super().__init__(config)
        self._notes = notes
        self._watching: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._watching = asyncio.create_task(LoopWatch(self._notes).run())

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await super().shutdown(sockets)


def main() -> None:
    end_with_parent()
    settings = load_settings()
    configure_logs(settings.log_level)
    app = create_app(settings, database_url=settings.database_url or "")
    WatchedServer(server_config(app, settings), Path(sys.argv[1])).run()


if __name__ == "__main__":
    main()

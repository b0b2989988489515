"""What runs in one process of Farebox: the HTTP server, and beside it, if asked for, the worker.

`cli.up` has the commands that start it; how the server speaks HTTP is `gateway.transport.server`'s.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec
import uvicorn
import uvloop

from farebox.app import create_app
from farebox.cli.assembly import make_worker
from farebox.cli.errors import CommandFailed
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.gateway.transport.server import DrainingServer, server_config

BACKLOG = 2048
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Announce = Callable[[], Awaitable[None]]


class AddressTaken(CommandFailed):
    """The address cannot be listened on; the message says why and what to do."""


def listen(settings: Settings) -> tuple[socket.socket, Settings]:
    """Bind before anything slow starts. Port 0 takes a free one, which the returned settings name.

    Raises AddressTaken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressTaken(
            f"Farebox cannot listen on {settings.host} port {settings.port}: {error.strerror or error}."
            " Choose another with PORT=… (or HOST=…) make run."
        ) from None
    return listener, msgspec.structs.replace(settings, port=listener.getsockname()[1])


def run_process(
    settings: Settings, database_url: str, listener: socket.socket, announce: Announce, *, with_worker: bool
) -> None:
    """Serve until SIGINT or SIGTERM; then drain the requests under way, and stop the worker after them.

    `announce` is awaited when requests are answered. Raises CommandFailed when the start failed.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, database_url, listener, announce, with_worker=with_worker))


async def _serve(
    settings: Settings, database_url: str, listener: socket.socket, announce: Announce, *, with_worker: bool
) -> None:
    server = _AnnouncingServer(
        server_config(create_app(settings, database_url=database_url), settings), announce
    )
    if not with_worker:
        await server.serve(sockets=[listener])
    else:
        await with_running_worker(settings, database_url, server.serve(sockets=[listener]))
    if not server.started:
        raise CommandFailed("The server did not start; the log above says why.")


async def with_running_worker(settings: Settings, database_url: str, work: Awaitable[None]) -> None:
    """Run a worker until `work` is done."""
    database = Database(database_url, pool_size=2)
    worker = make_worker(database, settings)
    working = asyncio.create_task(worker.run(), name="worker")
    try:
        await work
    finally:
        worker.stop()
        await working
        await database.close()


class _AnnouncingServer(DrainingServer):
    """The draining server, which tells when it answers and does not raise its signal again at the end.

    uvicorn re-raises SIGINT once it has drained, which would cut the worker and Postgres short.
    """

    def __init__(self, config: uvicorn.Config, announce: Announce) -> None:
        super().__init__(config)
        self._announce = announce
        self._announcing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announcing = asyncio.ensure_future(self._announce())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

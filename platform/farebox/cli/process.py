"""What runs in one process of Farebox: the HTTP server, and beside it, if asked for, the worker
and a server of metrics.

`cli.up` has the commands that start it; how the server speaks HTTP is `gateway.transport.server`'s.
"""

import asyncio
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Self

import msgspec
import uvicorn
import uvloop
from litestar import Litestar

from farebox.app import create_app, create_metrics_app
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


@dataclass(frozen=True)
class Listeners:
    """The bound sockets of one process; `metrics` is None where `/metrics` is on the public one."""

    public: socket.socket
    metrics: socket.socket | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.public.close()
        if self.metrics is not None:
            self.metrics.close()


def listen(settings: Settings) -> tuple[Listeners, Settings]:
    """Bind before anything slow starts. Port 0 takes a free one, which the returned settings name.

    Raises AddressTaken.
    """
    public = _bind(settings.host, settings.port, "Choose another with PORT=… (or HOST=…) make run.")
    settings = msgspec.structs.replace(settings, port=public.getsockname()[1])
    if settings.metrics_place is None:
        return Listeners(public, None), settings
    try:
        metrics = _bind(*settings.metrics_place, "Choose another as FAREBOX_METRICS_ADDRESS, for metrics.")
    except AddressTaken:
        public.close()
        raise
    return Listeners(public, metrics), msgspec.structs.replace(settings, metrics_address=_name_of(metrics))


def _bind(host: str, port: int, advice: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressTaken(
            f"Farebox cannot listen on {host} port {port}: {error.strerror or error}. {advice}"
        ) from None


def _name_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run_process(
    settings: Settings, database_url: str, listeners: Listeners, announce: Announce, *, with_worker: bool
) -> None:
    """Serve until SIGINT or SIGTERM; then drain the requests under way, and stop the worker after them.

    `announce` is awaited when requests are answered. Raises CommandFailed when the start failed.
    """
    _allow_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, database_url, listeners, announce, with_worker=with_worker))


def _allow_open_files() -> None:
    """Take all that this process may have open: each connection is a file, and 1,024 are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(
    settings: Settings, database_url: str, listeners: Listeners, announce: Announce, *, with_worker: bool
) -> None:
    app = create_app(settings, database_url=database_url)
    server = _AnnouncingServer(server_config(app, settings), announce)
    async with AsyncExitStack() as beside:
        if with_worker:
            await beside.enter_async_context(_running_worker(settings, database_url))
        if listeners.metrics is not None:
            await beside.enter_async_context(_served_metrics(app, settings, listeners.metrics))
        await server.serve(sockets=[listeners.public])
    if not server.started:
        raise CommandFailed("The server did not start; the log above says why.")


@asynccontextmanager
async def _served_metrics(app: Litestar, settings: Settings, listener: socket.socket) -> AsyncIterator[None]:
    """Answer `/metrics` on its own address, until whatever runs beside it has ended."""
    config = server_config(create_metrics_app(app), settings, lifespan="off", timeout_graceful_shutdown=1)
    server = _CompanionServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="metrics")
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def _running_worker(settings: Settings, database_url: str) -> AsyncIterator[None]:
    """A worker, until whatever runs beside it has ended."""
    database = Database(database_url, pool_size=2)
    worker = make_worker(database, settings)
    working = asyncio.create_task(worker.run(), name="worker")
    try:
        yield
    finally:
        worker.stop()
        await working
        await database.close()


class _CompanionServer(uvicorn.Server):
    """A server that another one's end ends: signals are not for it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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

"""The real server in a thread of its own: its loop is then not the tests', as in production."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
from litestar import Litestar

from farebox.app import create_app
from farebox.core.settings import Settings
from farebox.gateway.gateway import Gateway
from farebox.gateway.models.catalog import BackendFactory
from farebox.gateway.transport.server import server_config
from tests.tenants.factories import SECRET_KEY

START_SECONDS = 300.0


@dataclass(slots=True)
class RunningServer:
    """A server that answers at `url`."""

    url: str
    port: int
    app: Litestar
    loop: asyncio.AbstractEventLoop
    connections: set[Any]

    @property
    def gateway(self) -> Gateway:
        gateway: Gateway = self.app.state.gateway
        return gateway

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run a function, or await a coroutine function, on the server's own event loop."""

        async def there() -> Any:
            result = function()
            return await result if asyncio.iscoroutine(result) else result

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), self.loop))


class AnnouncedServer(uvicorn.Server):
    """uvicorn's server, which tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening_or_done = threading.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening_or_done.set()


class ServerThread:
    """Starts and stops one server."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        backend_factory: BackendFactory | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        port: int = 0,
        **overrides: Any,
    ) -> None:
        """On any free port, unless one is given. `overrides` are uvicorn's options."""
        self._app = create_app(
            settings, database_url=database_url, backend_factory=backend_factory, clock=clock
        )
        self._server = AnnouncedServer(server_config(self._app, settings, port=port, **overrides))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="server")

    def start(self, *, with_models: bool = True) -> RunningServer:
        """Return when it serves; `with_models`: all that are on offer, as far as they can be loaded."""
        self._thread.start()
        self._server.listening_or_done.wait(START_SECONDS)
        if not self._server.started or self._loop is None:
            self.stop()
            raise RuntimeError("the server did not start; see the log above")
        if with_models:
            loaded = self._app.state.gateway.catalog.loaded
            asyncio.run_coroutine_threadsafe(loaded.wait(), self._loop).result(START_SECONDS)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return RunningServer(
            f"http://127.0.0.1:{port}", port, self._app, self._loop, self._server.server_state.connections
        )

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._server.serve())
            finally:
                self._server.listening_or_done.set()


def make_settings(data: Path, **overrides: Any) -> Settings:
    """Settings of a test server, with limits that no test meets by chance."""
    values: dict[str, Any] = {
        "data": str(data),
        "secret_key": SECRET_KEY,
        "default_requests_per_minute": 1_000_000,
        "default_tokens_per_minute": 1_000_000_000,
        "default_concurrent_requests": 1_000,
        "refused_requests_per_minute": 1_000_000,
        "engine_threads": 1,
    }
    return Settings(**(values | overrides))

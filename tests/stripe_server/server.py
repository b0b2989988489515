"""Stripe's stand-in on a port of this machine.

    async with StripeServer() as stripe_server:
        client = stripe_server.client()
        stripe_server.control.fail("lost_answer", path="/v1/checkout/sessions")

The end of the block raises if the stand-in was asked for what it does not serve as Stripe would. Requests
with a parameter that it takes and does not act on are among these: they are answered with status 599.
"""

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

import uvicorn
from stripe import RequestsClient, StripeClient
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.stripe_server.app import StripeApp
from tests.stripe_server.control.control import Control
from tests.stripe_server.world.world import Settings

_CLIENT_SECONDS = 30.0


class _CuttableProtocol(H11Protocol):
    """Lets the application end a connection without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _AnnouncedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class StripeServer:
    """A server with an account of its own, on a thread of its own. Works as `with` and as `async with`."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, settings: Settings | None = None) -> None:
        self.app = StripeApp(settings)
        config = uvicorn.Config(
            self.app,
            host=host,
            port=port,
            http=_CuttableProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=60,
        )
        self._server = _AnnouncedServer(config)
        self._thread = threading.Thread(target=self._run, name="stripe", daemon=True)
        self._clients: list[RequestsClient] = []

    @property
    def url(self) -> str:
        return self.app.world.settings.url

    @property
    def api_key(self) -> str:
        return self.app.world.settings.api_key

    @property
    def api_version(self) -> str:
        return self.app.world.settings.api_version

    @property
    def control(self) -> Control:
        return self.app.control

    def client(self, **options: Any) -> StripeClient:
        """The real client, closed with the server; `options` as `StripeClient` has them."""
        transport = RequestsClient(timeout=_CLIENT_SECONDS)
        self._clients.append(transport)
        given: dict[str, Any] = {
            "api_key": self.api_key,
            "base_addresses": {"api": self.url, "meter_events": self.url},
            "http_client": transport,
            **options,
        }
        return StripeClient(**given)

    def start(self) -> Self:
        self._thread.start()
        self._server.listening.wait()
        if not self._server.started:
            self._thread.join()
            raise RuntimeError("the stand-in did not start")
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        self.app.world.settings.url = f"http://{host}:{port}"
        return self

    def stop(self) -> None:
        for client in self._clients:
            client.close()  # type: ignore[no-untyped-call]
        self.control.resume()
        self._server.should_exit = True
        self._thread.join()

    def check(self) -> None:
        """Raises if the stand-in met something it could not answer as Stripe would."""
        if self.app.api.unfaithful:
            raise AssertionError("\n".join(self.app.api.unfaithful))

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._server.listening.set()

    async def _serve(self) -> None:
        self.control.attach(asyncio.get_running_loop())
        delivering = asyncio.create_task(self.app.outbox.run())
        try:
            await self._server.serve()
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            self.check()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
        if error is None:
            self.check()

"""uvicorn as Farebox runs it: its settings, and how it drains. Processes and signals are `cli.process`'s."""

import asyncio
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from litestar import Litestar

from farebox.core.settings import Settings
from farebox.gateway.live_runs import CANCEL_SECONDS, DRAIN_SECONDS, Runs
from farebox.gateway.transport.http_protocol import BoundedHttpProtocol

# Longer than the idle time-outs of the usual load balancers (60 s), so that it is they who close.
KEEP_ALIVE_SECONDS = 75

# Browsers then come by https only (RFC 6797): a year, as is usual.
HSTS_SECONDS = 31_536_000


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which goes on listening while it drains.

    A load balancer must be able to read from `/readyz` that it drains, and a client whose request comes
    too late is to be told 503 and not to have its connection refused. A second signal ends the wait.
    """

    _draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        gateway = self.config.app.state.get("gateway") if isinstance(self.config.app, Litestar) else None
        if not self.started or gateway is None or self._draining is not None:
            super().handle_exit(sig, frame)
        else:
            self._draining = asyncio.get_running_loop().create_task(self._drain(gateway.runs))

    async def _drain(self, runs: Runs) -> None:
        await runs.drain()
        # What is still connected now waits for nothing that will come.
        self.config.timeout_graceful_shutdown = int(CANCEL_SECONDS)
        self.should_exit = True


def server_config(app: Litestar, settings: Settings, **overrides: Any) -> uvicorn.Config:
    """The configuration to hand to `uvicorn.Server`; `overrides` are uvicorn's own (`port`, `fd`, …).

    On shutdown, requests under way get DRAIN_SECONDS to finish, then are cancelled and settled.
    """
    protocol = partial(BoundedHttpProtocol, stalled_reader_seconds=settings.stalled_reader_seconds)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "http": protocol,
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": True,
        "forwarded_allow_ips": settings.trusted_proxies,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": int(DRAIN_SECONDS + CANCEL_SECONDS),
    }
    if settings.public_url.startswith("https://"):
        options["headers"] = [("strict-transport-security", f"max-age={HSTS_SECONDS}")]
    return uvicorn.Config(app, **(options | overrides))

"""uvicorn as Farebox runs it."""

from functools import partial
from typing import Any

import uvicorn
from litestar import Litestar

from farebox.core.settings import Settings
from farebox.gateway.protocol import BoundedHttpProtocol
from farebox.gateway.runs import CANCEL_SECONDS, DRAIN_SECONDS

# Longer than the idle time-outs of the usual load balancers (60 s), so that it is they who close.
KEEP_ALIVE_SECONDS = 75


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
    return uvicorn.Config(app, **(options | overrides))

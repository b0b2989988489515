"""One client's connection, and whether the client is still there."""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

EXTENSION = "farebox.connection"


class Connection:
    """One client's connection.

    The server's protocol puts it into the ASGI scope, with the cycle of the request: ASGI itself neither
    tells at once that the client left nor can bound what waits unsent.
    """

    __slots__ = ("_lost", "_on_lost", "flow", "transport")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self.transport = transport
        self.flow = flow
        self._on_lost: Callable[[], None] | None = None
        self._lost = False

    @property
    def gone(self) -> bool:
        """Whether what is sent goes nowhere."""
        return self._lost or self.transport.is_closing()

    def watch(self, on_lost: Callable[[], None] | None) -> None:
        """Have `on_lost` called when the client leaves, at once if it has; None to stop watching."""
        self._on_lost = on_lost
        if on_lost is not None:
            # With a body's last piece unread nothing else would be, not even the client's leaving.
            self.flow.resume_reading()
            if self.gone:
                on_lost()

    def lost(self) -> None:
        """To be called by the protocol, when the client has left or is refused."""
        self._lost = True
        if self._on_lost is not None:
            self._on_lost()

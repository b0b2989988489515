"""The server as a process of its own, for these tests to kill. Its settings come from the environment.

With an argument, each connection's send buffer holds about so many bytes: a stream that its client does
not read comes to a halt early, and keeps what is reserved for it.
"""

import socket
import sys

import uvicorn

from farebox.app import create_app
from farebox.core.logs import configure_logs
from farebox.core.settings import load_settings
from farebox.gateway.transport.server import server_config


def main() -> None:
    settings = load_settings()
    configure_logs(settings.log_level)
    app = create_app(settings, database_url=settings.database_url or "")
    config = server_config(app, settings)
    listener = config.bind_socket()
    for size in sys.argv[1:]:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, int(size))
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

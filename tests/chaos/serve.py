"""The server as a process of its own, for these tests to kill. Its settings come from the environment.

This process imports all that a server needs, and then waits. For each line that it reads it becomes a server
once, by forking: so a start costs seconds less. It says that one's pid, and its exit code when it has ended.

With an argument, each connection's send buffer holds about so many bytes: a stream that its client does
not read comes to a halt early, and keeps what is reserved for it.
"""

import os
import socket
import sys

from farebox.app import create_app
from farebox.core.logs import configure_logs
from farebox.core.settings import load_settings
from farebox.gateway.transport.server import DrainingServer, server_config
from tests.abuse.parent import end_with_parent


def main() -> None:
    end_with_parent()
    while sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            end_with_parent()
            _leave_the_pipes()
            serve()
            return
        print(pid, flush=True)  # noqa: T201  the answer
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201  the answer


def _leave_the_pipes() -> None:
    """They are for the one process that waits."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, sys.stdin.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def serve() -> None:
    settings = load_settings()
    configure_logs(settings.log_level)
    app = create_app(settings, database_url=settings.database_url or "")
    config = server_config(app, settings)
    listener = config.bind_socket()
    for size in sys.argv[1:]:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, int(size))
    DrainingServer(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

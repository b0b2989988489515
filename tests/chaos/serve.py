"""The server as a process of its own, for these tests to kill. Its settings come from the environment."""

import uvicorn

from farebox.app import create_app
from farebox.core.logs import configure_logs
from farebox.core.settings import load_settings
from farebox.gateway.server import server_config


def main() -> None:
    settings = load_settings()
    configure_logs(settings.log_level)
    app = create_app(settings, database_url=settings.database_url or "")
    uvicorn.Server(server_config(app, settings)).run()


if __name__ == "__main__":
    main()

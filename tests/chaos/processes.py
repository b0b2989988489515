"""What dies in these tests: the server, and Postgres."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import psutil

from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.core.settings import Settings
from farebox.metering.settlement import Posting

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
PROBE_SECONDS = 0.02


class Forked:
    """A server that a waiting process has become: what of `asyncio.subprocess.Process` is used here."""

    def __init__(self, pid: int, replies: asyncio.StreamReader) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ending = asyncio.create_task(self._follow(replies))

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def _follow(self, replies: asyncio.StreamReader) -> int:
        self.returncode = int(await replies.readline())
        return self.returncode


class Nursery:
    """A process that has imported what a server needs, and becomes one again and again (`serve.py`)."""

    def __init__(self, settings: Settings, log: Path, arguments: Sequence[str]) -> None:
        self._environment = environment_of(settings)
        self._log = log
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def bear(self) -> Forked:
        if self._process is None:
            self._process = await self._open()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"\n")
        return Forked(int(await stdout.readline()), stdout)

    async def _open(self) -> asyncio.subprocess.Process:
        # The log goes through a pipe: a full disk (`Server.fill_disk`) is none of it.
        reading, writing = os.pipe()
        with self._log.open("ab") as log:
            await asyncio.create_subprocess_exec("cat", stdin=reading, stdout=log)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.serve",
            *self._arguments,
            env=self._environment,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=writing,
        )
        for end in (reading, writing):
            os.close(end)
        return process

    async def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()


class Server:
    """A server process that can be killed and started again, on the same data and the same port.

    `send_buffer` is in bytes a connection; by default the system's. `silences` are the moments (Unix seconds)
    at which it was killed, or stopped for longer than its leases. `pauses` tells from when to when it was
    stopped, `starts` the seconds that each start took.
    """

    def __init__(self, settings: Settings, log: Path, send_buffer: int | None = None) -> None:
        self.url = f"http://127.0.0.1:{settings.port}"
        self.log = log
        self._spool = Path(settings.data) / "spool"
        self.up = asyncio.Event()
        self.kills = 0
        self.starts: list[float] = []
        self.silences: list[float] = []
        self.pauses: list[tuple[float, float]] = []
        self._nursery = Nursery(settings, log, [] if send_buffer is None else [str(send_buffer)])
        self._process: Forked | asyncio.subprocess.Process | None = None

    async def start(self) -> float:
        """Start, and return the seconds until it was ready."""
        began = time.monotonic()
        self._process = await self._spawn()
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(base_url=self.url) as probe:
            while not await _is_ready(probe):
                if self._process.returncode is not None:
                    raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
                await asyncio.sleep(PROBE_SECONDS)
        self.up.set()
        self.starts.append(time.monotonic() - began)
        return self.starts[-1]

    async def _spawn(self) -> Forked | asyncio.subprocess.Process:
        return await self._nursery.bear()

    async def kill(self) -> float:
        """kill -9; the moment at which it was sent, in Unix seconds."""
        process = self._living
        self.up.clear()
        moment = time.time()
        process.send_signal(signal.SIGKILL)
        self.kills += 1
        self.silences.append(moment)
        assert await process.wait() == -signal.SIGKILL
        return moment

    async def stop(self) -> None:
        """Let it finish in an orderly way."""
        self.up.clear()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def close(self) -> None:
        """Stop it for good."""
        await self.stop()
        await self._nursery.close()

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """SIGSTOP, for longer than its leases, and SIGCONT."""
        began = time.time()
        self._living.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._living.send_signal(signal.SIGCONT)
            self.silences.append(began)
            self.pauses.append((began, time.time()))

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """No file that it writes may grow: whatever it writes to a disk is refused (RLIMIT_FSIZE)."""
        process = psutil.Process(self._living.pid)
        free = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (0, free[1]))
        try:
            yield
        finally:
            process.rlimit(psutil.RLIMIT_FSIZE, free)

    async def at_rest(self) -> bool:
        """Whether it has settled all that it admitted, and Postgres has taken it."""
        async with httpx.AsyncClient(base_url=self.url, timeout=START_SECONDS) as probe:
            lines = (await probe.get("/metrics")).text.splitlines()
        gauges = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return all(
            float(gauges[name]) == 0 for name in ("farebox_live_requests", "farebox_spooled_settlements")
        )

    def has_noted_leaving(self, request_id: UUID | None) -> bool:
        """Whether its spool tells that a whole answer has left for its client."""
        lines = (line for path in self._spool.glob("*.jsonl") for line in path.read_bytes().splitlines())
        postings = [msgspec.json.decode(line, type=Posting) for line in lines]
        return any(each.request_id == request_id and each.handed_over for each in postings)

    def events(self, name: str) -> list[dict[str, object]]:
        """The lines of its log that tell of `name`."""
        lines = (line for line in self.log.read_bytes().splitlines() if line.startswith(b"{"))
        return [entry for line in lines if (entry := msgspec.json.decode(line))["event"] == name]

    @property
    def _living(self) -> Forked | asyncio.subprocess.Process:
        assert self._process is not None
        return self._process


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


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables from which a server reads these settings, and those that it inherits."""
    defaults = Settings()
    changed = {
        f"FAREBOX_{name.upper()}": str(value)
        for name, value in msgspec.structs.asdict(settings).items()
        if value != getattr(defaults, name)
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    return inherited | changed

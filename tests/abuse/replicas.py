"""The servers under attack: started, watched from outside, and ended."""

import asyncio
import contextlib
import sys
import time
from pathlib import Path

import msgspec
import psutil

from farebox.core.settings import Settings
from tests.bench.gateway import free_port
from tests.chaos.processes import Server, environment_of

STOP_SECONDS = 5.0
CALM_SECONDS = 15.0
LOOK_SECONDS = 0.5
# Of the time that a server's threads are busy: less, and it has no old work left to do.
CALM_SHARE = 0.3
MIB = 2**20


class WatchedServer(Server):
    """A server that notes the stalls of its event loop."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        port = free_port()
        own = msgspec.structs.replace(settings, port=port, data=str(directory / str(port)))
        super().__init__(own, directory / f"{port}.log")
        self._stalls = directory / f"{port}.stalls"
        self._environment = environment_of(own)

    async def _spawn(self) -> asyncio.subprocess.Process:
        command = (sys.executable, "-m", "tests.abuse.serve", str(self._stalls))
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command, env=self._environment, stdout=log, stderr=log
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        """Ask it to end, and end it when it does not: work may be left that nobody waits for."""
        self.up.clear()
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def memory_mib(self) -> float:
        """Resident memory of the process and its children."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / MIB

    def busy_seconds(self) -> float:
        """How long its threads computed so far, and all but the first waited for a processor.

        Without the waiting, a thread at work would look idle on a busy machine. The first has the loop, whose
        timer wakes it so often that its waiting tells nothing.
        """
        if self._process is None:
            return 0.0
        pid = self._process.pid
        total = 0
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                computed, waited, _ = map(int, path.read_text().split())
                total += computed + (0 if path.parent.name == str(pid) else waited)
        return total / 1e9

    def longest_stall(self, begin: float, end: float) -> float:
        """In seconds, of the stalls that ended between the two moments; 0 where none was noted."""
        if not self._stalls.exists():
            return 0.0
        noted = (line.split() for line in self._stalls.read_text().splitlines())
        lengths = (float(line[1]) for line in noted if len(line) == 2 and begin <= float(line[0]) <= end)
        return max(lengths, default=0.0)

    def _processes(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        with contextlib.suppress(psutil.Error):
            return [psutil.Process(pid) for pid in family_of(self._process.pid)]
        return []


def family_of(pid: int) -> list[int]:
    """A process and its children (Linux). Cheaper than psutil's way, which looks at every process."""
    family = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            family += map(int, path.read_text().split())
    return family


class Replicas:
    """So many servers on one Postgres, started and stopped together."""

    def __init__(self, settings: Settings, directory: Path, count: int) -> None:
        self._settings = settings
        self._directory = directory
        self._count = count
        self.servers: list[WatchedServer] = []

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    @property
    def memory_mib(self) -> float:
        return sum(server.memory_mib() for server in self.servers)

    def longest_stall(self, begin: float, end: float) -> float:
        return max(server.longest_stall(begin, end) for server in self.servers)

    async def __aenter__(self) -> "Replicas":
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def restart(self) -> None:
        """New ones, which remember nothing of an attack."""
        await self._stop()
        await self._start()

    async def calm_down(self) -> tuple[bool, float]:
        """Wait until no server works any more; whether that came to pass, and the most memory meanwhile."""
        memory = self.memory_mib
        deadline = time.monotonic() + CALM_SECONDS
        before = self._busy_seconds()
        while time.monotonic() < deadline and all(server.alive for server in self.servers):
            await asyncio.sleep(LOOK_SECONDS)
            memory = max(memory, self.memory_mib)
            now = self._busy_seconds()
            if now - before < CALM_SHARE * LOOK_SECONDS * len(self.servers):
                return True, memory
            before = now
        return False, memory

    def _busy_seconds(self) -> float:
        return sum(server.busy_seconds() for server in self.servers)

    async def _start(self) -> None:
        self.servers = [WatchedServer(self._settings, self._directory) for _ in range(self._count)]
        await asyncio.gather(*(server.start() for server in self.servers))

    async def _stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self.servers))

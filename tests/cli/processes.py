"""`farebox up`, `serve` and `worker` as processes that run until they are stopped."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cli.commands import Farebox
from tests.waiting import WAIT_SECONDS


class Running:
    """A process of the command, with what it has printed; its log is in `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.printed: list[str] = []

    @property
    def url(self) -> str:
        """The address that it has announced."""
        found = re.search(r"API\s+(\S+)/v1", "\n".join(self.printed))
        assert found is not None
        return found[1]

    async def said(self, sentence: str) -> str:
        """Wait for a line that has `sentence` in it. Raises RuntimeError when the process ends before."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            while line := (await self.process.stdout.readline()).decode():
                self.printed.append(line.rstrip())
                if sentence in line:
                    return line.rstrip()
        raise RuntimeError(f"it ended without {sentence!r}:\n{self.log.read_text()[-4000:]}")

    async def stop(self) -> int:
        """SIGTERM; the exit status, once what was under way has finished."""
        if self.process.returncode is None:
            self.process.terminate()
        return await self.ended()

    async def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL

    async def ended(self) -> int:
        async with asyncio.timeout(WAIT_SECONDS):
            assert self.process.stdout is not None
            self.printed += (await self.process.stdout.read()).decode().splitlines()
            return await self.process.wait()


@asynccontextmanager
async def running(farebox: Farebox, *arguments: str, until: str = "") -> AsyncIterator[Running]:
    """The command, once it has printed `until`; stopped in the end, by force if need be."""
    log = farebox.directory / f"{arguments[0]}.log"
    with log.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "farebox.cli",
            *arguments,
            cwd=farebox.directory,
            env=farebox.set(port="0").environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
        )
    run = Running(process, log)
    try:
        if until:
            await run.said(until)
        yield run
        await run.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

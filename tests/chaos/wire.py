"""A server's way to Postgres, through a process of its own that can be harmed; see `CutWire`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.abuse.parent import end_with_parent
from tests.metering.cut_wire import CutWire

ROOT = Path(__file__).resolve().parents[2]


class Wire:
    """The other end of that process. `url` leads through it to Postgres."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process

    async def cut(self) -> None:
        """Break every connection at once; new ones are taken."""
        await self._ask("cut")

    async def say_farewell(self) -> None:
        """Tell the server that Postgres ends its connections, and end them a little later."""
        await self._ask("farewell")

    async def lose_answers(self, count: int) -> None:
        """Break the connections of the next settlements that have committed, instead of answering them.

        Returns when so many have.
        """
        await self._ask(f"lose {count}")

    async def _ask(self, command: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        assert await self._process.stdout.readline() == b"done\n"


@asynccontextmanager
async def open_wire(database_url: str) -> AsyncIterator[Wire]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.wire",
        database_url,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield Wire(process, (await process.stdout.readline()).decode().strip())
    process.stdin.close()
    await process.wait()


class MortalWire(CutWire):
    """One behind which Postgres may be gone: whoever wants to connect is then turned away, as by a socket."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await super()._serve(reader, writer)
        except OSError:
            writer.transport.abort()


async def serve(database_url: str) -> None:
    """Do what the lines from the standard input say, one after the other, and answer each."""
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with MortalWire(database_url) as wire:
        print(wire.url, flush=True)  # noqa: T201  the answer
        while line := (await commands.readline()).decode().split():
            await _obey(wire, line)
            print("done", flush=True)  # noqa: T201  the answer


async def _obey(wire: CutWire, line: list[str]) -> None:
    match line:
        case ["cut"]:
            wire.cut()
        case ["farewell"]:
            wire.say_farewell()
            await asyncio.sleep(0.05)
            wire.cut()
        case ["lose", count]:
            wire.lose_answers = int(count)
            while wire.lose_answers:  # noqa: ASYNC110  the wire has no event for it
                await asyncio.sleep(0.001)
        case _:
            raise ValueError(line)


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(serve(sys.argv[1]))

"""A way to Postgres that can be cut: before a statement is sent, or after it has committed."""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

SOCKET_NAME = ".s.PGSQL.5432"
SETTLING = re.compile(rb"farebox_(settle|sweep)")
# What Postgres says before it closes a connection: FATAL, 57P01, an administrator's command.
_FIELDS = b"SFATAL\x00VFATAL\x00C57P01\x00Mterminating connection due to administrator command\x00\x00"
FAREWELL = b"E" + (len(_FIELDS) + 4).to_bytes(4, "big") + _FIELDS
COMMITTED = re.compile(rb"C\x00\x00\x00.SELECT \d+\x00", re.DOTALL)


class CutWire:
    """A Unix socket in front of Postgres's own, for one replica; `url` leads through it.

    `lose_answers` is how many of the next settlements and sweeps that commit the replica shall hear
    nothing of: their connection breaks instead. While `away`, no connection is taken; while not
    `listening`, nothing that is asked goes on to Postgres, and `held_up` tells that a settlement waits.
    """

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._target = Path(parse_qs(parts.query)["host"][0]) / SOCKET_NAME
        self._directory = tempfile.TemporaryDirectory()  # a socket's path must be short
        self.url = parts._replace(query=f"host={quote(self._directory.name, safe='')}").geturl()
        self.lose_answers = 0
        self.lost = 0
        self.away = False
        self.listening = asyncio.Event()
        self.listening.set()
        self.held_up = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self._above: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        path = Path(self._directory.name) / SOCKET_NAME
        self._server = await asyncio.start_unix_server(self._serve, path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        self._directory.cleanup()

    def cut(self) -> None:
        """Break every connection at once."""
        for writer in self._open:
            writer.transport.abort()

    def say_farewell(self) -> None:
        """Tell the replica that Postgres ends its connections, and leave them open for a while yet."""
        for writer in self._above:
            writer.write(FAREWELL)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.transport.abort()
            return
        below_reader, below_writer = await asyncio.open_unix_connection(self._target)
        pair = {writer, below_writer}
        self._open |= pair
        self._above.add(writer)
        try:
            async with asyncio.TaskGroup() as tasks:
                settles = asyncio.Event()
                tasks.create_task(self._ask(reader, below_writer, settles))
                tasks.create_task(self._answer(below_reader, writer, settles))
        except* ConnectionError:
            pass
        finally:
            self._open -= pair
            self._above.discard(writer)
            for end in pair:
                end.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settles: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            if SETTLING.search(data):  # a connection prepares a statement once and only names it later
                settles.set()
            if settles.is_set() and not self.listening.is_set():
                self.held_up.set()
            await self.listening.wait()
            writer.write(data)
        raise ConnectionResetError

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settles: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            if self.lose_answers and settles.is_set() and COMMITTED.search(data):
                self.lose_answers -= 1
                self.lost += 1
                break
            writer.write(data)
        raise ConnectionResetError

"""A way to Postgres that can be cut: before a statement is sent, or after it has committed."""

import asyncio
import re
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

SOCKET_NAME = ".s.PGSQL.5432"
COMMITTED = re.compile(rb"C\x00\x00\x00.SELECT \d+\x00", re.DOTALL)


class CutWire:
    """A Unix socket in front of Postgres's own, for one replica; `url` leads through it.

    `lose_answers` is how many of the next committed statements the replica shall hear nothing of: their
    connection breaks instead. While `away`, no connection is taken.
    """

    def __init__(self, database_url: str, directory: Path) -> None:
        parts = urlsplit(database_url)
        self._target = Path(parse_qs(parts.query)["host"][0]) / SOCKET_NAME
        self._directory = directory
        self.url = parts._replace(query=f"host={quote(str(directory), safe='')}").geturl()
        self.lose_answers = 0
        self.lost = 0
        self.away = False
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._directory / SOCKET_NAME)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection at once."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.transport.abort()
            return
        below_reader, below_writer = await asyncio.open_unix_connection(self._target)
        pair = {writer, below_writer}
        self._open |= pair
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask(reader, below_writer))
                tasks.create_task(self._answer(below_reader, writer))
        except* ConnectionError:
            pass
        finally:
            self._open -= pair
            for end in pair:
                end.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        raise ConnectionResetError

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.lose_answers and COMMITTED.search(data):
                self.lose_answers -= 1
                self.lost += 1
                break
            writer.write(data)
        raise ConnectionResetError

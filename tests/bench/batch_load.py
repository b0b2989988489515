"""Clients that read streams, all at once: `python -m tests.bench.batch_load` reads a job, writes figures."""

import asyncio
import sys
import time
from functools import partial

import msgspec
import uvloop

from tests.bench.steady import Steady, Window, between

CONTENT = b'"delta":{"content":'
END = b"0\r\n\r\n"


class Streams(msgspec.Struct):
    """One request for each client, answered with `new_tokens` tokens; `pid` is the server's."""

    port: int
    pid: int
    requests: list[str]
    new_tokens: int


class Client(asyncio.Protocol):
    """Reads one stream and notes what came when."""

    def __init__(self, request: str, clients: "Clients") -> None:
        self.pieces: list[tuple[float, bytes]] = []
        self._request = request.encode()
        self._clients = clients
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))
        if not self._begun and CONTENT in data:
            self._begun = True
            self._clients.window.begun()
        if data.endswith(END) or not self.pieces[0][1].startswith(b"HTTP/1.1 200"):
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._clients.leave()

    def events(self, begin: float, end: float) -> tuple[int, int]:
        """Events with text between two moments, and in the whole answer."""
        whole = b"".join(data for _, data in self.pieces)
        if not whole.startswith(b"HTTP/1.1 200") or not whole.endswith(END):
            raise SystemExit(f"A stream broke: {whole[:300]!r} … {whole[-300:]!r}")
        within = sum(data.count(CONTENT) for moment, data in self.pieces if begin < moment <= end)
        # The opening one has none.
        return within, whole.count(CONTENT) - 1


class Clients:
    """All of them; `window` is the time in which all read."""

    def __init__(self, job: Streams) -> None:
        self.window = Window(len(job.requests), job.pid)
        self._job = job
        self._clients = [Client(request, self) for request in job.requests]
        self._reading = len(self._clients)
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> Steady:
        """Connect all, then send all requests, then read all answers."""
        loop = asyncio.get_running_loop()
        for client in self._clients:
            await loop.create_connection(partial(_same, client), "127.0.0.1", self._job.port)
        for client in self._clients:
            client.send()
        await self._finished
        begin, end = self.window.bounds
        events = [client.events(begin.time, end.time) for client in self._clients]
        # Tokens that had to wait for their reader come in one event.
        tokens = sum(within * self._job.new_tokens / whole for within, whole in events)
        return between(begin, end, tokens, sum(within for within, _ in events))

    def leave(self) -> None:
        self.window.ended()
        self._reading -= 1
        if not self._reading:
            self._finished.set_result(None)


def _same(client: Client) -> Client:
    return client


async def main() -> Steady:
    return await Clients(msgspec.json.decode(sys.stdin.buffer.read(), type=Streams)).run()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(main())))

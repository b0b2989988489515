"""A load generator of raw sockets: `python -m tests.bench.load` reads a job, writes its figures."""

import asyncio
import sys
import time
from collections import deque

import msgspec
import uvloop


class Load(msgspec.Struct):
    """`connections` clients, each with one request in flight, for so many seconds or requests."""

    port: int
    request: str
    streamed: bool
    connections: int
    seconds: float
    requests: int = sys.maxsize


class Figures(msgspec.Struct):
    """What came back. Latencies are in milliseconds, of whole responses."""

    responses: int
    seconds: float
    failures: int
    median_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return self.responses / self.seconds


class Client(asyncio.Protocol):
    """Sends the same request again as soon as the response before is there, whole and well."""

    def __init__(self, load: Load, run: "Run") -> None:
        self._request = load.request.encode()
        self._end = b"0\r\n\r\n" if load.streamed else None
        self._run = run
        self._buffer = b""
        self._length = -1
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        if self._run.may_send():
            self._buffer = b""
            self._length = -1
            self._sent = time.perf_counter()
            self._transport.write(self._request)
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length < 0 and self._end is None:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            start = self._buffer.lower().index(b"content-length:", 0, head) + 15
            self._length = head + 4 + int(self._buffer[start : self._buffer.index(b"\r", start)])
        if self._buffer.endswith(self._end) if self._end else len(self._buffer) >= self._length:
            self._run.note(time.perf_counter() - self._sent, well=self._buffer.startswith(b"HTTP/1.1 200"))
            self._send()

    def connection_lost(self, _: Exception | None) -> None:
        self._run.leave()


class Run:
    """Counts what the clients see; ends when all have left."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._until = time.perf_counter() + load.seconds
        self._left_to_send = load.requests
        self._clients = load.connections
        self._latencies: deque[float] = deque(maxlen=200_000)
        self._responses = 0
        self._failures = 0
        self._started = time.perf_counter()
        self.finished: asyncio.Future[Figures] = asyncio.get_running_loop().create_future()

    def may_send(self) -> bool:
        self._left_to_send -= 1
        return self._left_to_send >= 0 and time.perf_counter() < self._until

    def note(self, seconds: float, *, well: bool) -> None:
        self._responses += 1
        self._failures += not well
        self._latencies.append(seconds)

    def leave(self) -> None:
        self._clients -= 1
        if not self._clients:
            latencies = sorted(self._latencies)
            self.finished.set_result(
                Figures(
                    self._responses,
                    time.perf_counter() - self._started,
                    self._failures,
                    latencies[len(latencies) // 2] * 1000,
                    latencies[int(len(latencies) * 0.99)] * 1000,
                )
            )


async def run(load: Load) -> Figures:
    loop = asyncio.get_running_loop()
    clients = Run(load)
    for _ in range(load.connections):
        await loop.create_connection(lambda: Client(load, clients), "127.0.0.1", load.port)
    return await clients.finished


if __name__ == "__main__":
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(job))))

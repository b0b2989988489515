"""`python -m tests.bench.gateway`: Farebox with everything on beside a bare Litestar handler, and without
receipts.

All answer the same bytes, under the same uvicorn, on the same cores, in turns of one run; the load
generator and Postgres (embedded, fsync on) share those cores. Only ratios within a run mean much.
"""

import argparse
import asyncio
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import msgspec

from farebox.billing.funds import top_up
from farebox.billing.offers import add_model
from farebox.billing.prices import set_price
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.core.settings import Settings
from farebox.keys.service import create_key
from farebox.keys.tokens import Keyring
from farebox.tenants.models import Organization, Project
from tests.bench.instant import MODEL, WHOLE_TOKENS
from tests.bench.load import Figures, Load
from tests.bench.servers import Recorded, encode_events
from tests.conftest import migrate

STREAM_TOKENS = 64
MESSAGES = [{"role": "user", "content": "What does a token cost?"}]
WHOLE = msgspec.json.encode({"model": MODEL, "messages": MESSAGES, "max_tokens": WHOLE_TOKENS}).decode()
# As whole answers, but for the length of the question.
LONGER = msgspec.json.encode(
    {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What does a token cost? " * 165}],
        "max_tokens": WHOLE_TOKENS,
    }
).decode()
STREAMED = msgspec.json.encode(
    {"model": MODEL, "messages": MESSAGES, "stream": True, "max_tokens": STREAM_TOKENS}
).decode()
ROUNDS = 3
HEADINGS = (
    "| load | connections | bare /s | Farebox /s | ratio | without receipts | median ms | added ms |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
)


class Comparison(msgspec.Struct):
    """Farebox and the bare handler under the same load, round by round; and Farebox without receipts."""

    name: str
    connections: int
    bare: list[Figures]
    farebox: list[Figures]
    silent: list[Figures]

    @property
    def silent_ratio(self) -> float:
        """As `ratio`, without receipts."""
        return statistics.median(
            f.per_second / b.per_second for f, b in zip(self.silent, self.bare, strict=True)
        )

    @property
    def ratio(self) -> float:
        """Requests per second, Farebox over bare: the median of the rounds."""
        return statistics.median(
            f.per_second / b.per_second for f, b in zip(self.farebox, self.bare, strict=True)
        )

    @property
    def added_ms(self) -> float:
        """Median latency, Farebox less bare: the median of the rounds."""
        return statistics.median(
            f.median_ms - b.median_ms for f, b in zip(self.farebox, self.bare, strict=True)
        )


class Report(msgspec.Struct):
    """One run of the benchmark."""

    date: str
    machine: str
    command: str
    comparisons: list[Comparison]
    memory_requests: int
    memory_mib: list[float]


async def make_account(url: str, settings: Settings) -> str:
    """An organization with funds and the model on offer; its API key."""
    database = Database(url)
    keyring = await Keyring.load(database, settings)
    organization_id, project_id = new_id(), new_id()
    async with database.transaction(organization_id=organization_id) as session:
        session.add(Organization(id=organization_id, name="Bench"))
        await session.flush()
        session.add(Project(id=project_id, organization_id=organization_id, name="Bench"))
        await session.flush()
        minted = await create_key(
            session, keyring, organization_id=organization_id, project_id=project_id, name="bench"
        )
    async with database.meter_transaction() as session:
        await add_model(session, model_id=MODEL, path="/", sha256="0", context_length=4096, owned_by="bench")
        await set_price(
            session,
            MODEL,
            input_per_million=Decimal("0.5"),
            cached_input_per_million=Decimal("0.25"),
            output_per_million=Decimal("1.5"),
            currency="USD",
        )
        await top_up(
            session,
            organization_id=organization_id,
            amount=Decimal(1_000_000),
            currency="USD",
            reference="bench",
        )
    await database.close()
    return minted.token


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def server(directory: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """One of `tests.bench.servers` as a process; its port and pid, once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.servers", *arguments, str(port)]
    with (directory / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)  # noqa: S603
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise SystemExit((directory / f"{arguments[0]}.log").read_text()) from None
                    time.sleep(0.05)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(30)


def record_answer(port: int, key: str, body: str) -> Recorded:
    """One real answer of Farebox, for the bare handler to repeat."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    response: HTTPResponse = connection.getresponse()
    data = response.read()
    if response.status != 200:
        raise SystemExit(f"Farebox answered {response.status}: {data.decode()}")
    skipped = ("date", "content-length", "content-type", "transfer-encoding")
    kept = {name: value for name, value in response.getheaders() if name.lower() not in skipped}
    connection.close()
    return Recorded(kept, data.decode(), encode_events(data))


def http_request(path: str, key: str, body: str) -> str:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )


def put_under(load: Load) -> Figures:
    """Run the load generator as a process of its own. Stops the benchmark if an answer was no 200."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "tests.bench.load"],
        input=msgspec.json.encode(load),
        stdout=subprocess.PIPE,
        check=True,
    )
    figures = msgspec.json.decode(done.stdout, type=Figures)
    if figures.failures:
        raise SystemExit(f"{figures.failures} of {figures.responses} answers were no 200.")
    return figures


class Bench:
    """The servers, and the loads to put them under."""

    def __init__(self, farebox_port: int, silent_port: int, bare_port: int, key: str, seconds: float) -> None:
        self._farebox_port = farebox_port
        self._silent_port = silent_port
        self._bare_port = bare_port
        self._key = key
        self._seconds = seconds

    def farebox(self, body: str, connections: int, *, silent: bool = False, **limits: int) -> Figures:
        request = http_request("/v1/chat/completions", self._key, body)
        port = self._silent_port if silent else self._farebox_port
        load = Load(port, request, body is STREAMED, connections, self._seconds)
        if limits:
            load = msgspec.structs.replace(load, seconds=3600.0, **limits)
        return put_under(load)

    def bare(self, body: str, connections: int) -> Figures:
        request = http_request("/stream" if body is STREAMED else "/whole", self._key, body)
        return put_under(Load(self._bare_port, request, body is STREAMED, connections, self._seconds))

    def compare(self, name: str, body: str, connections: int) -> Comparison:
        """All in turns, after a warm-up of each."""
        self.bare(body, connections)
        self.farebox(body, connections)
        self.farebox(body, connections, silent=True)
        comparison = Comparison(name, connections, [], [], [])
        for _ in range(ROUNDS):
            comparison.bare.append(self.bare(body, connections))
            comparison.farebox.append(self.farebox(body, connections))
            comparison.silent.append(self.farebox(body, connections, silent=True))
        print(describe(comparison), flush=True)  # noqa: T201
        return comparison


def describe(comparison: Comparison) -> str:
    """One line of the table."""
    bare = statistics.median(f.per_second for f in comparison.bare)
    ours = statistics.median(f.per_second for f in comparison.farebox)
    latency = statistics.median(f.median_ms for f in comparison.farebox)
    return (
        f"| {comparison.name} | {comparison.connections} | {bare:,.0f} | {ours:,.0f} "
        f"| {comparison.ratio:.2f} | {comparison.silent_ratio:.2f} "
        f"| {latency:.1f} | {comparison.added_ms:+.1f} |"
    )


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def watch_memory(bench: Bench, pid: int, requests: int) -> list[float]:
    """Resident memory of the server after each tenth of the requests, in MiB."""
    seen = [resident_mib(pid)]
    for _ in range(10 if requests else 0):
        bench.farebox(WHOLE, 64, requests=requests // 10)
        seen.append(resident_mib(pid))
    if requests:
        print(f"Memory after each {requests // 10:,} requests, MiB:", *(f"{m:.0f}" for m in seen))  # noqa: T201
    return seen


def measure(seconds: float, memory_requests: int) -> Report:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(EmbeddedPostgres(directory / "postgres"))
        migrate(postgres.url)
        settings = Settings(data=str(directory), secret_key="development-" + "0" * 32)
        key = asyncio.run(make_account(postgres.url, settings))
        farebox_port, pid = stack.enter_context(server(directory, "farebox", postgres.url, str(directory)))
        for name, body in (("whole", WHOLE), ("stream", STREAMED)):
            (directory / name).write_bytes(msgspec.json.encode(record_answer(farebox_port, key, body)))
        bare_port, _ = stack.enter_context(
            server(directory, "bare", str(directory / "whole"), str(directory / "stream"))
        )
        silent_port, _ = stack.enter_context(
            server(directory, "silent", postgres.url, str(directory / "silent"))
        )
        bench = Bench(farebox_port, silent_port, bare_port, key, seconds)
        for line in HEADINGS:
            print(line)  # noqa: T201
        return Report(
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            machine=f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python "
            f"{platform.python_version()}",
            command=f"make bench SECONDS={seconds:g} REQUESTS={memory_requests}",
            comparisons=[
                bench.compare("whole answer", WHOLE, 64),
                bench.compare("whole answer", WHOLE, 1),
                bench.compare("whole answer, 4 kB asked", LONGER, 64),
                bench.compare("whole answer, 4 kB asked", LONGER, 1),
                bench.compare(f"stream of {STREAM_TOKENS} tokens", STREAMED, 64),
                bench.compare(f"stream of {STREAM_TOKENS} tokens", STREAMED, 1),
            ],
            memory_requests=memory_requests,
            memory_mib=watch_memory(bench, pid, memory_requests),
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each round")
    parser.add_argument(
        "--requests", type=int, default=200_000, help="requests of the memory run; 0 skips it"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    report = measure(arguments.seconds, arguments.requests)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


if __name__ == "__main__":
    main()

"""`python -m tests.bench.batch_streams`: an engine's throughput through the gateway, beside it alone.

The same engine, prompts and options twice: alone in a process, read by its event loop, and in a real server
with everything on, every stream read by a client. They take turns; only ratios within a run mean much.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.core.settings import Settings
from tests.bench.batch_load import Streams
from tests.bench.batch_models import CASES, conversation
from tests.bench.gateway import http_request, make_account, server
from tests.bench.instant import MODEL
from tests.bench.steady import Steady
from tests.conftest import migrate

SECRET = "development-" + "0" * 32
COLUMNS = [
    "model",
    "offline tokens/s",
    "gateway tokens/s",
    "loss",
    "loop µs/token",
    "other threads µs/token",
    "clients µs/token",
    "tokens/event",
]


class Offline:
    """The engine in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def answer(self) -> Steady:
        """One round."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The process was started without pipes.")
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Steady)


@contextmanager
def offline(*arguments: str) -> Iterator[Offline]:
    command = [sys.executable, "-m", "tests.bench.batch_offline", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603
        yield Offline(process)


class Gateway:
    """The engine in a server, and clients that read from it."""

    def __init__(self, port: int, pid: int, key: str, case: str, streams: int) -> None:
        new_tokens = CASES[case].new_tokens
        bodies = [_body(stream, new_tokens) for stream in range(streams)]
        requests = [http_request("/v1/chat/completions", key, body) for body in bodies]
        self._job = Streams(port, pid, requests, new_tokens)

    def answer(self) -> Steady:
        """One round."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "tests.bench.batch_load"],
            input=msgspec.json.encode(self._job),
            stdout=subprocess.PIPE,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=Steady)


def _body(stream: int, new_tokens: int) -> str:
    return msgspec.json.encode(
        {
            "model": MODEL,
            "messages": conversation(stream),
            "stream": True,
            "max_tokens": new_tokens,
            "temperature": 0,
            "repetition_penalty": 1,
            "ignore_eos": True,
        }
    ).decode()


def compare(directory: Path, url: str, key: str, case: str, options: argparse.Namespace) -> str:
    """Both in turns, after a warm-up of each; a line of the table."""
    arguments = (case, str(options.streams), str(options.threads))
    with offline(*arguments) as alone, server(directory, "streams", url, str(directory), *arguments) as place:
        gateway = Gateway(*place, key, case, options.streams)
        alone.answer()
        gateway.answer()
        rounds = [(alone.answer(), gateway.answer()) for _ in range(options.rounds)]
    return describe(CASES[case].title, rounds)


def describe(title: str, rounds: list[tuple[Steady, Steady]]) -> str:
    """Medians over the rounds; the loss is that of the rounds' ratios."""
    alone, ours = zip(*rounds, strict=True)
    loss = 1 - statistics.median(b.rate / a.rate for a, b in rounds)
    cells = [
        title,
        f"{statistics.median(a.rate for a in alone):,.0f}",
        f"{statistics.median(b.rate for b in ours):,.0f}",
        f"{loss:.1%}",
        " → ".join(f"{_microseconds((r.loop_cpu, r.tokens) for r in side):.1f}" for side in (alone, ours)),
        " → ".join(f"{_microseconds((r.other_cpu, r.tokens) for r in side):.1f}" for side in (alone, ours)),
        f"{_microseconds((r.reader_cpu, r.tokens) for r in ours):.1f}",
        f"{statistics.median(b.tokens / b.events for b in ours):.2f}",
    ]
    return row(cells)


def _microseconds(rounds: Iterable[tuple[float, float]]) -> float:
    """CPU time for each token, from pairs of seconds and tokens."""
    return 1e6 * statistics.median(seconds / tokens for seconds, tokens in rounds)


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-streams", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(EmbeddedPostgres(directory / "postgres"))
        migrate(postgres.url)
        settings = Settings(data=str(directory), secret_key=SECRET)
        key = asyncio.run(make_account(postgres.url, settings))
        sys.stdout.write(row(COLUMNS) + "| ---" + " | ---:" * (len(COLUMNS) - 1) + " |\n")
        for case in options.cases:
            sys.stdout.write(compare(directory, postgres.url, key, case, options))
            sys.stdout.flush()


if __name__ == "__main__":
    main()

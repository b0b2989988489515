"""The servers that are compared: `python -m tests.bench.servers farebox|silent|streams|bare ...`."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, post
from litestar.response import Stream

from farebox.app import create_app
from farebox.core.logs import configure_logs
from farebox.core.settings import Settings
from farebox.gateway.models.catalog import BackendFactory
from farebox.gateway.models.local import LocalBackend
from farebox.gateway.transport.server import server_config
from tests.bench.batch_models import load_engine
from tests.bench.instant import InstantBackend


class Recorded(msgspec.Struct):
    """A response as Farebox gave it, for the bare handler to repeat: its body, or its events."""

    headers: dict[str, str]
    body: str
    events: list[str]


def farebox(url: str, data: str, port: str) -> uvicorn.Config:
    """Farebox with everything on, but a model that answers at once."""
    return _gateway(url, data, port, InstantBackend)


def silent(url: str, data: str, port: str) -> uvicorn.Config:
    """The same, without receipts."""
    return _gateway(url, data, port, InstantBackend, receipts=False)


def streams(url: str, data: str, case: str, number: str, threads: str, port: str) -> uvicorn.Config:
    """Farebox with everything on, and a real engine for `number` streams at once."""
    return _gateway(url, data, port, lambda _: LocalBackend(load_engine(case, int(number), int(threads))))


def _gateway(
    url: str, data: str, port: str, backend_factory: BackendFactory, *, receipts: bool = True
) -> uvicorn.Config:
    """Farebox, logs included; limits so high that none refuses."""
    configure_logs("INFO", as_json=True)
    settings = Settings(
        data=data,
        port=int(port),
        receipts=receipts,
        secret_key="development-" + "0" * 32,
        default_requests_per_minute=2_000_000_000,
        default_tokens_per_minute=1_000_000_000_000,
        default_concurrent_requests=1_000_000,
    )
    app = create_app(settings, database_url=url, backend_factory=backend_factory)
    return server_config(app, settings)


def bare(whole: str, streamed: str, port: str) -> uvicorn.Config:
    """Plain Litestar handlers that decode a JSON body and answer with recorded bytes and headers."""
    whole_answer = msgspec.json.decode(Path(whole).read_bytes(), type=Recorded)
    stream_answer = msgspec.json.decode(Path(streamed).read_bytes(), type=Recorded)
    body = whole_answer.body.encode()
    events = [event.encode() for event in stream_answer.events]

    @post("/whole", status_code=200)
    async def answer(request: Request) -> Response[bytes]:  # type: ignore[type-arg]
        msgspec.json.decode(await request.body())
        return Response(body, headers=whole_answer.headers, media_type="application/json")

    @post("/stream", status_code=200)
    async def answer_in_events(request: Request) -> Stream:  # type: ignore[type-arg]
        msgspec.json.decode(await request.body())

        async def send() -> AsyncIterator[bytes]:
            for event in events:
                yield event

        return Stream(send(), headers=stream_answer.headers, media_type="text/event-stream")

    app = Litestar([answer, answer_in_events], openapi_config=None)
    return uvicorn.Config(
        app, http="httptools", loop="uvloop", log_config=None, access_log=False, port=int(port)
    )


def encode_events(stream: bytes) -> list[str]:
    """A recorded event stream, event by event."""
    return [f"{event}\n\n" for event in stream.decode().split("\n\n") if event]


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    kinds: dict[str, Callable[..., uvicorn.Config]] = {
        "farebox": farebox,
        "silent": silent,
        "streams": streams,
        "bare": bare,
    }
    uvicorn.Server(kinds[kind](*arguments)).run()

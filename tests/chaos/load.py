"""Clients that keep asking, and remember what they got: over HTTP, streamed and whole, several tenants."""

import asyncio
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import httpx
import msgspec

from farebox.core.ids import internal

MODEL = "tiny"
# Every special token of the checkpoint is forbidden, so that an answer ends at max_tokens and each of its
# tokens has a text, a log-probability and hence a place where the client can count it.
NO_SPECIAL_TOKENS = {str(token): -100 for token in range(5)}
# Fixed, so that it does not grow: what a client does not read waits, mostly, with the server.
RECEIVE_BUFFER = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)]
PROMPTS = (
    "Count the ferries in the harbour.",
    "The children count the wagons of the train on the bridge, one by one, until the lamps are lit.",
    "A word is one token or several, as the text will have it: tell me how many there are in this line.",
)

LONG_TOKENS = 415
AT_ONCE_SECONDS = 90.0

Fate = Literal["whole", "refused", "failed", "interrupted", "left", "unsent"]


class PromptDetails(msgspec.Struct):
    cached_tokens: int


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptDetails

    @property
    def classes(self) -> tuple[int, int, int]:
        """Input, cached input, output: as a usage event has them."""
        cached = self.prompt_tokens_details.cached_tokens
        return (self.prompt_tokens - cached, cached, self.completion_tokens)


class Logprobs(msgspec.Struct):
    content: list[msgspec.Raw] = []
    tokens: list[str] = []


class Choice(msgspec.Struct):
    logprobs: Logprobs | None = None


class Answer(msgspec.Struct):
    """What is read of a body, or of one event of a stream."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: dict[str, str | None] | None = None

    @property
    def tokens(self) -> int:
        return sum(len(c.logprobs.content) + len(c.logprobs.tokens) for c in self.choices if c.logprobs)


@dataclass(frozen=True)
class Manners:
    """How a client takes its answer.

    It leaves after so many events of a stream, or pieces of a whole answer's body, or within so many seconds,
    whatever has come by then; and between two of them it rests for `rest` seconds.
    """

    leave_after: int | None = None
    leave_within: float | None = None
    rest: float = 0.0


EAGER = Manners()


@dataclass
class Call:
    """One request as its client saw it. Moments are Unix seconds, `arrivals` moments with running totals.

    `server` is the URL that was asked, `body_bytes` what came of a whole answer's body.
    """

    key_id: UUID
    server: str
    body: dict[str, Any] = field(repr=False)
    fate: Fate = "unsent"
    sent_at: float = 0.0
    ended_at: float = 0.0
    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers, repr=False)
    request_id: UUID | None = None
    usage: Usage | None = None
    error: dict[str, str | None] | None = None
    tokens: int = 0
    body_bytes: int = 0
    arrivals: list[tuple[float, int]] = field(default_factory=list, repr=False)

    @property
    def streamed(self) -> bool:
        return bool(self.body["stream"])

    @property
    def seconds(self) -> float:
        return self.ended_at - self.sent_at

    def read(self, answer: Answer) -> None:
        self.tokens += answer.tokens
        self.arrivals.append((time.time(), self.tokens))
        self.usage = answer.usage or self.usage
        self.error = answer.error or self.error


Begun = Callable[[Call], Awaitable[object]]


class Client:
    """One key; each request that is under way at the same time has a connection of its own."""

    def __init__(self, url: str, key_id: UUID, token: str) -> None:
        self.key_id = key_id
        self._url = url
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(60.0),
            transport=httpx.AsyncHTTPTransport(
                limits=httpx.Limits(max_connections=None), socket_options=RECEIVE_BUFFER
            ),
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(
        self, body: dict[str, Any], manners: Manners = EAGER, *, once_begun: Begun | None = None
    ) -> Call:
        """Send a request and follow it to its end.

        After the first event, or the whole body, nothing more is read until `once_begun` returns.
        """
        call = Call(self.key_id, self._url, body, sent_at=time.time())
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        try:
            async with (
                asyncio.timeout(manners.leave_within),
                self._http.stream("POST", path, json=body) as response,
            ):
                call.fate = "interrupted"
                await _follow(response, call, manners, once_begun)
        except httpx.ConnectError:
            pass
        except httpx.TransportError:
            call.fate = "interrupted"
        except TimeoutError:
            call.fate = "left"
        call.ended_at = time.time()
        return call


async def _follow(response: httpx.Response, call: Call, manners: Manners, once_begun: Begun | None) -> None:
    call.status, call.headers = response.status_code, response.headers
    call.request_id = internal("req", response.headers["x-request-id"])
    if response.status_code != 200 or not call.streamed:
        await _read_whole(response, call, manners)
        if once_begun is not None:
            await once_begun(call)
        return
    async for data in _events(response):
        if data == b"[DONE]":
            call.fate = "whole"
        else:
            call.read(msgspec.json.decode(data, type=Answer))
            if call.error is not None:
                call.fate = "failed"
            if once_begun is not None and len(call.arrivals) == 1:
                await once_begun(call)
        if len(call.arrivals) == manners.leave_after and call.fate == "interrupted":
            call.fate = "left"
            return
        if manners.rest:
            await asyncio.sleep(manners.rest)


async def _read_whole(response: httpx.Response, call: Call, manners: Manners) -> None:
    body = b""
    pieces = 0
    async for piece in response.aiter_bytes():
        body += piece
        call.body_bytes += len(piece)
        pieces += 1
        if pieces == manners.leave_after and response.status_code == 200:
            call.fate = "left"
            return
        if manners.rest:
            await asyncio.sleep(manners.rest)
    call.read(msgspec.json.decode(body, type=Answer))
    call.fate = "whole" if response.status_code == 200 else "refused"


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    # Not by `aiter_lines`: that also splits at U+0085 and U+2028, which an answer may hold.
    rest = b""
    async for data in response.aiter_bytes():
        *events, rest = (rest + data).split(b"\n\n")
        for event in events:
            yield event.removeprefix(b"data: ")


def chat(prompt: str, max_tokens: int, *, stream: bool, **more: Any) -> dict[str, Any]:
    """A chat request whose answer has exactly `max_tokens` tokens."""
    body = {"messages": [{"role": "user", "content": prompt}], "logprobs": True}
    return _request(max_tokens, stream=stream) | body | more


def long_stream(prompt: str = PROMPTS[0]) -> dict[str, Any]:
    """A request whose answer does not fit into the buffers on its way (see SEND_BUFFER_BYTES)."""
    return chat(prompt, LONG_TOKENS, stream=True, top_logprobs=10)


def completion(prompt: str, max_tokens: int, *, stream: bool, **more: Any) -> dict[str, Any]:
    """A completion request whose answers have exactly `max_tokens` tokens each."""
    return _request(max_tokens, stream=stream) | {"prompt": prompt, "logprobs": 1} | more


def _request(max_tokens: int, *, stream: bool) -> dict[str, Any]:
    options = {"stream_options": {"include_usage": True}} if stream else {}
    shared = {"model": MODEL, "max_tokens": max_tokens, "logit_bias": NO_SPECIAL_TOKENS, "stream": stream}
    return shared | options


async def ask_at_once(
    clients: Sequence[Client], count: int, meanwhile: Callable[[], Awaitable[object]] | None = None
) -> list[Call]:
    """So many streams at the same time, taken by the clients in turn, none read on before all have begun.

    Each is longer than the buffers on its way: until then, and until `meanwhile` returns, whoever was
    admitted keeps its reservation.
    """
    all_begun, done = asyncio.Barrier(count), asyncio.Barrier(count)
    body = long_stream()

    async def wait(_: Call) -> None:
        if await all_begun.wait() == 0 and meanwhile is not None:
            await meanwhile()
        await done.wait()

    asking = [clients[number % len(clients)].call(body, once_begun=wait) for number in range(count)]
    async with asyncio.timeout(AT_ONCE_SECONDS):
        return await asyncio.gather(*asking)


def random_body(rng: random.Random) -> dict[str, Any]:
    """Mostly streams, short ones and some that take seconds; of one answer or two. Some whole answers are
    larger than the buffers on their way."""
    prompt = rng.choice(PROMPTS)
    kind = rng.random()
    if kind < 0.3:
        return chat(prompt, rng.randint(5, 60), stream=False)
    if kind < 0.35:
        return chat(prompt, LONG_TOKENS, stream=False, top_logprobs=10)
    if kind < 0.5:
        return completion(prompt, rng.randint(20, 400), stream=True, n=2)
    return chat(prompt, int(20 * 30 ** rng.random()), stream=True)


def random_manners(rng: random.Random) -> Manners:
    """Most take what comes as it comes. Some leave early or late, some read slowly."""
    kind = rng.random()
    if kind < 0.05:
        return Manners(leave_after=rng.randint(1, 30))
    if kind < 0.1:
        return Manners(leave_after=1)
    if kind < 0.15:
        return Manners(leave_within=rng.uniform(0.01, 1.0))
    if kind < 0.2:
        return Manners(rest=rng.uniform(0.005, 0.02))
    return EAGER


class Load:
    """Clients that ask again and again, each with its own seed, until `stop`.

    A client that finds no server, or is told 503, waits for `may_go_on` before it asks again.
    """

    def __init__(self, may_go_on: Callable[[], Awaitable[object]]) -> None:
        self.calls: list[Call] = []
        self._may_go_on = may_go_on
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, clients: Sequence[Client], seed: int) -> None:
        """Somebody with a client of each server, who asks them in turn, one at a time."""
        self._tasks.append(asyncio.create_task(self._ask(clients, random.Random(seed))))

    async def stop(self) -> None:
        """Let every client finish the request it is in."""
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, clients: Sequence[Client], rng: random.Random) -> None:
        for client in itertools.cycle(clients):
            if self._stopped:
                return
            call = await client.call(random_body(rng), random_manners(rng))
            self.calls.append(call)
            if call.status == 503 or call.fate in ("unsent", "interrupted"):
                await self._may_go_on()

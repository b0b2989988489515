"""What every attacker has at hand."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from tests.abuse.scene import CHAT, Person, Scene

PATIENCE_SECONDS = 60.0
SENTENCE = "the cat sat on the mat. "


@dataclass(frozen=True)
class Attacker:
    """`connections` do `round` at the same time, each again as soon as it is through.

    A round gets the attack and its connection's number. `does` is a line for the record. An attack lasts
    `least_seconds` at least: what harms may come late in a round.
    """

    name: str
    does: str
    connections: int
    round: Callable[["Attack", int], Awaitable[None]]
    least_seconds: float = 0.0


class Attack:
    """An attack under way: the scene, an HTTP client, and what was told so far."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.told: Counter[str] = Counter()
        self.rounds = 0
        self._http = httpx.AsyncClient(
            timeout=PATIENCE_SECONDS,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    @property
    def url(self) -> str:
        """The replicas in turns, round by round."""
        return self.scene.urls[self.rounds % len(self.scene.urls)]

    async def post(self, path: str, body: bytes, key: str) -> None:
        """Send a JSON body with an API key."""
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        await self.send("POST", path, content=body, headers=headers)

    async def visit(self, person: Person, path: str, form: dict[str, str] | None = None) -> None:
        """Open a page of the dashboard, or send it a form."""
        headers = {"cookie": f"farebox_session={person.session}", "x-csrf-token": person.csrf}
        await self.send("GET" if form is None else "POST", path, data=form, headers=headers)

    async def send(self, method: str, path: str, **options: Any) -> None:
        """Any request; its status is counted, or what became of it."""
        try:
            answer = await self._http.request(method, self.url + path, **options)
        except httpx.HTTPError as error:
            self.told[type(error).__name__] += 1
        else:
            self.told[str(answer.status_code)] += 1

    async def connect(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection to the next replica."""
        parts = urlsplit(self.url)
        return await asyncio.open_connection(parts.hostname, parts.port, **options)

    def note(self, answer: bytes) -> None:
        """Count the status line of what a bare connection was sent."""
        head = answer.split(b" ", 2)
        self.told[head[1].decode() if answer.startswith(b"HTTP/") and len(head) > 2 else "closed"] += 1


@dataclass
class Numbers:
    """Bodies that no cache has seen."""

    next: int = field(default=0)

    def one(self) -> int:
        self.next += 1
        return self.next


def chat(**fields: Any) -> bytes:
    """The body of a chat request."""
    body = {"model": CHAT, "messages": [{"role": "user", "content": "Tell me of a cat."}], "max_tokens": 1}
    return json.dumps(body | fields).encode()


def text_of(size: int) -> str:
    """So many characters of plain words."""
    return (SENTENCE * (size // len(SENTENCE) + 1))[:size]


def head(path: str, key: str, length: int, method: str = "POST") -> bytes:
    """The head of a request with a JSON body of `length` bytes."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def an_address() -> str:
    """An IPv6 address of a provider of its own, as a load balancer would name it."""
    digits = secrets.token_hex(4)
    return f"2{digits[1:4]}:{digits[4:]}:1:1::1"

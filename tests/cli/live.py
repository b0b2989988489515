"""A Farebox under way, as an operator and a customer see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.cli.commands import Farebox
from tests.waiting import WAIT_SECONDS

# Forbidding the special tokens makes every answer as long as it may be.
ENDLESS = {str(token): -100 for token in range(5)}


@dataclass
class Stream:
    """A streamed answer being read: its text so far, and how it ended."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    text: str = ""
    fingerprint: str = ""
    finish_reason: str | None = None
    error: Any = None
    usage: dict[str, Any] | None = None
    done: bool = False

    def read(self, line: str) -> None:
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            self.done = True
        elif line:
            event = json.loads(data)
            self.error = event.get("error") or self.error
            self.fingerprint = event.get("system_fingerprint") or self.fingerprint
            self.usage = event.get("usage") or self.usage
            for choice in event.get("choices", []):
                self.text += choice["text"]
                self.finish_reason = choice["finish_reason"] or self.finish_reason
            self.began.set()


class Customer:
    """Calls a server with a key of a funded organization."""

    def __init__(self, url: str, api_key: str) -> None:
        self.http = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {api_key}"}, timeout=WAIT_SECONDS
        )

    async def models(self) -> list[str]:
        return [model["id"] for model in (await self.http.get("/v1/models")).json()["data"]]

    async def complete(self, model: str, *, max_tokens: int = 4) -> httpx.Response:
        body = {"model": model, "prompt": "The ferry", "max_tokens": max_tokens, "temperature": 0}
        return await self.http.post("/v1/completions", json=body)

    async def fingerprint(self, model: str) -> str | None:
        """Which weights answer now."""
        answer = await self.complete(model, max_tokens=1)
        fingerprint: str | None = answer.json().get("system_fingerprint")
        return fingerprint

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        answer = await self.http.get("/readyz")
        return answer.status_code, answer.json()

    @asynccontextmanager
    async def streaming(self, model: str, *, max_tokens: int) -> AsyncIterator[Stream]:
        """An answer of which the first piece has come, read in the background; waits for its end."""
        stream = Stream()
        reading = asyncio.create_task(self._read(stream, model, max_tokens))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await stream.began.wait()
            yield stream
            await reading
        finally:
            reading.cancel()

    async def _read(self, stream: Stream, model: str, max_tokens: int) -> None:
        body = {
            "model": model,
            "prompt": "The ferry",
            "max_tokens": max_tokens,
            "temperature": 0,
            "logit_bias": ENDLESS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                stream.read(line)


def make_customer(operator: Farebox, url: str) -> Customer:
    """An organization with ten dollars and a key, made by the commands."""
    organization = operator.json("org", "create", "Customer")["organization_id"]
    operator.json("org", "credit", organization, "10", "--reference", "first")
    return Customer(url, operator.json("key", "create", "--organization", organization)["api_key"])

"""A customer who pays: small requests at a steady rate, whatever becomes of the answers."""

import asyncio
import time
from dataclasses import dataclass, field

import httpx

from tests.abuse.scene import CHAT, Scene

RATE = 10.0  # requests a second, over all replicas
TOKENS = 8
PATIENCE_SECONDS = 30.0
MESSAGES = [{"role": "user", "content": "When does the ferry leave?"}]
WARM_UP = 6


@dataclass
class Victim:
    """Asks every replica in turns, streamed and whole in turns.

    The rate does not yield to slow answers, and latencies run from the moment at which a request should
    have been sent: what an attack delays before that counts as well (no coordinated omission).
    """

    scene: Scene
    latencies: list[float] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    async def ask(self, seconds: float) -> None:
        """Send for so long; returns when the last answer is there, or given up."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        headers = {"authorization": f"Bearer {self.scene.victim_key}"}
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS, limits=limits) as http:
            begun = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(round(seconds * RATE)):
                    intended = begun + number / RATE
                    await asyncio.sleep(intended - time.perf_counter())
                    group.create_task(self._ask_once(http, number, intended))

    async def is_served(self) -> bool:
        """Whether a few requests in a row succeed: they warm the servers, and count for nothing."""
        headers = {"authorization": f"Bearer {self.scene.victim_key}"}
        async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS) as http:
            return {await self._outcome(http, number) for number in range(WARM_UP)} == {"200"}

    async def _ask_once(self, http: httpx.AsyncClient, number: int, intended: float) -> None:
        outcome = await self._outcome(http, number)
        self.latencies.append((time.perf_counter() - intended) * 1000)
        self.outcomes.append(outcome)

    async def _outcome(self, http: httpx.AsyncClient, number: int) -> str:
        streamed = bool(number % 2)
        url = self.scene.urls[number // 2 % len(self.scene.urls)]
        body = {
            "model": CHAT,
            "messages": MESSAGES,
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "stream": streamed,
        }
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await http.post(f"{url}/v1/chat/completions", json=body)
        except TimeoutError:
            return "no answer in time"
        except httpx.HTTPError as error:
            return type(error).__name__
        if answer.status_code == 200 and streamed and not answer.content.endswith(b"data: [DONE]\n\n"):
            return "broken stream"
        return str(answer.status_code)

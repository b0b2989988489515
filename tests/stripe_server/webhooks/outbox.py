"""Delivers events to destinations until they answer 2xx; can be held, reordered, doubled."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import httpx
from stripe import WebhookSignature

State = Literal["held", "due", "sending", "waiting", "delivered", "given_up"]

_PATIENCE_SECONDS = 30


@dataclass(eq=False)
class Delivery:
    """One event on its way to one destination. `answers` has a status for each try, None for no answer."""

    event_id: str
    event_type: str
    destination: str
    url: str
    secret: str
    body: bytes
    state: State = "due"
    answers: list[int | None] = field(default_factory=list)

    def signature(self, at: int | None = None) -> str:
        """The scheme v0 is what Stripe adds in test mode, for nobody to verify."""
        header = WebhookSignature.generate_signature_header(self.body.decode(), self.secret, at)
        return f"{header},v0={hashlib.sha256(self.body).hexdigest()}"


class Outbox:
    """All on the server's loop. Held deliveries wait for `release`, failed ones for their retry."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.retry_seconds = 1.0
        self.most_tries = 100
        self.at_once = 1
        self.copies = 1
        self._held: Callable[[Delivery], bool] = lambda _: False
        self._changed = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    def put(self, delivery: Delivery) -> None:
        for _ in range(self.copies):
            copy = Delivery(**{**vars(delivery), "answers": []})
            copy.state = "held" if self._held(copy) else "due"
            self.deliveries.append(copy)
        self._tell()

    def hold(self, event_types: Iterable[str] | None = None) -> None:
        """From now on, keep back all events or those of some types."""
        types = None if event_types is None else frozenset(event_types)
        self._held = lambda delivery: types is None or delivery.event_type in types

    def release(self, *, keep_holding: bool = False, order: str = "forward", seed: int = 0) -> int:
        """Send what was held, `forward`, `reversed` or `shuffled`; returns how many there were."""
        if not keep_holding:
            self._held = lambda _: False
        held = [delivery for delivery in self.deliveries if delivery.state == "held"]
        rest = [delivery for delivery in self.deliveries if delivery.state != "held"]
        if order == "reversed":
            held.reverse()
        elif order == "shuffled":
            random.Random(seed).shuffle(held)
        for delivery in held:
            delivery.state = "due"
        self.deliveries = rest + held
        self._tell()
        return len(held)

    def again(self, event_id: str) -> int:
        """Deliver an event once more to all who had it; returns to how many."""
        once = {delivery.destination: delivery for delivery in self.of(event_id)}
        for delivery in once.values():
            self.deliveries.append(Delivery(**{**vars(delivery), "answers": [], "state": "due"}))
        self._tell()
        return len(once)

    def retry_now(self) -> None:
        for delivery in self.deliveries:
            if delivery.state == "waiting":
                delivery.state = "due"
        self._tell()

    def of(self, event_id: str) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.event_id == event_id]

    async def settled(self, *, delivered: bool = False) -> None:
        """Wait until nothing is under way; `delivered`: nor waiting for a retry."""
        busy = {"due", "sending", *(["waiting"] if delivered else [])}
        async with self._changed:
            await self._changed.wait_for(lambda: all(one.state not in busy for one in self.deliveries))

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=_PATIENCE_SECONDS) as client, asyncio.TaskGroup() as tasks:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._next() is not None)
                    delivery = self._next()
                if delivery is not None:
                    delivery.state = "sending"
                    tasks.create_task(self._send(client, delivery))

    def _next(self) -> Delivery | None:
        under_way = sum(delivery.state == "sending" for delivery in self.deliveries)
        due = (delivery for delivery in self.deliveries if delivery.state == "due")
        return next(due, None) if under_way < self.at_once else None

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        answer = await post(client, delivery.url, delivery.body, delivery.signature())
        delivery.answers.append(answer)
        if answer is not None and httpx.codes.is_success(answer):
            delivery.state = "delivered"
        elif len(delivery.answers) >= self.most_tries:
            delivery.state = "given_up"
        else:
            delivery.state = "waiting"
            asyncio.get_running_loop().call_later(self.retry_seconds, self._retry, delivery)
        self._tell()

    def _retry(self, delivery: Delivery) -> None:
        if delivery.state == "waiting":
            delivery.state = "due"
            self._tell()

    def _tell(self) -> None:
        task = asyncio.get_running_loop().create_task(self._notify())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def post(client: httpx.AsyncClient, url: str, body: bytes, signature: str) -> int | None:
    """The status that a destination answers with, None if it does not answer."""
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signature,
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    try:
        return (await client.post(url, content=body, headers=headers)).status_code
    except httpx.HTTPError:
        return None

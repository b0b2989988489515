"""Events on their way: kept back, reordered, doubled, forged."""

import httpx

from tests.stripe_server.control.loop import Ordered, awaited, on_loop
from tests.stripe_server.webhooks.destinations import new_destination
from tests.stripe_server.webhooks.dispatch import delivery_to
from tests.stripe_server.webhooks.outbox import post
from tests.stripe_server.wire.errors import Json
from tests.stripe_server.world.books import new_token


class DeliveryOrders(Ordered):
    @on_loop
    def send_events_to(self, url: str, *, payload: str = "thin", secret: str | None = None) -> Json:
        """Register a destination for all events; returns its `id` and `secret`."""
        version = {"snapshot_api_version": self.world.settings.api_version} if payload == "snapshot" else {}
        params = {"name": "All events", "enabled_events": ["*"], "event_payload": payload, **version}
        made = new_destination(self.world, {**params, "webhook_endpoint": {"url": url}}, secret)
        return {"id": made["id"], "secret": self.world.books.facts[made["id"]]["signing_secret"]}

    @on_loop
    def hold_events(self, event_types: list[str] | None = None) -> None:
        """Keep back all events, or those of some types, until they are released."""
        self.outbox.hold(event_types)

    @on_loop
    def release_events(self, *, order: str = "forward", seed: int = 0, keep_holding: bool = False) -> int:
        """Send what is held, `forward`, `reversed` or `shuffled`; returns how many there were."""
        return self.outbox.release(order=order, seed=seed, keep_holding=keep_holding)

    @on_loop
    def repeat_event(self, event: str) -> int:
        """Deliver an event once more; returns to how many destinations."""
        return self.outbox.again(event)

    @on_loop
    def set_delivery(
        self,
        *,
        copies: int | None = None,
        at_once: int | None = None,
        retry_seconds: float | None = None,
        most_tries: int | None = None,
    ) -> None:
        """How often each event is sent, how many at a time, and how failed ones are sent again."""
        given = {
            "copies": copies,
            "at_once": at_once,
            "retry_seconds": retry_seconds,
            "most_tries": most_tries,
        }
        for name, value in given.items():
            if value is not None:
                setattr(self.outbox, name, value)

    @on_loop
    def retry_now(self) -> None:
        """Send again at once what was not taken."""
        self.outbox.retry_now()

    @awaited
    async def settled(self, *, delivered: bool = False) -> None:
        """Wait until no event is under way; `delivered`: nor waiting for another try."""
        await self.outbox.settled(delivered=delivered)

    def wait_until_settled(self, *, delivered: bool = False) -> None:
        """The same where no loop runs."""
        self.submit(self.outbox.settled(delivered=delivered)).result()

    @on_loop
    def deliveries(self, event_type: str | None = None) -> list[Json]:
        """What was sent or is to be, with the statuses it was answered with."""
        return [
            {
                "event": one.event_id,
                "type": one.event_type,
                "destination": one.destination,
                "state": one.state,
                "answers": list(one.answers),
            }
            for one in self.outbox.deliveries
            if event_type in (None, one.event_type)
        ]

    @awaited
    async def forge_event(
        self,
        event_type: str,
        thing: Json,
        destination: str,
        *,
        event: str | None = None,
        livemode: bool = False,
        account: str | None = None,
        secret: str | None = None,
        signed_at: int | None = None,
        signature: str | None = None,
    ) -> int | None:
        """Send what Stripe never sent here; returns the status that it was answered with."""
        forged = self._forged(event_type, thing, id=event or f"evt_{new_token()}", livemode=livemode)
        if account is not None:
            forged["account"] = account
        delivery = delivery_to(self.world, self.world.books.find(destination) or {}, forged)
        delivery.secret = secret or delivery.secret
        header = signature if signature is not None else delivery.signature(signed_at)
        async with httpx.AsyncClient() as client:
            return await post(client, delivery.url, delivery.body, header)

    def _forged(self, event_type: str, thing: Json, **values: object) -> Json:
        return {
            "object": "event",
            "type": event_type,
            "api_version": self.world.settings.api_version,
            "created": self.world.now(),
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "data": {"object": thing},
            **values,
        }

"""Orders that a test or a person gives the stand-in: faults, verdicts of banks, time, deliveries.

All run on the server's loop, so that they may be called from any thread and from another loop.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import httpx

from tests.stripe_server.api import Api
from tests.stripe_server.checkout import paying
from tests.stripe_server.checkout.paying import Payer
from tests.stripe_server.payments import collecting, setup_intents
from tests.stripe_server.reversals import disputes, refunds
from tests.stripe_server.webhooks.dispatch import delivery_to
from tests.stripe_server.webhooks.outbox import Outbox, post
from tests.stripe_server.wire.errors import Json
from tests.stripe_server.wire.faults import Fault, FaultKind
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.world import Verdict

P = ParamSpec("P")
T = TypeVar("T")


def _on_loop(order: Callable[P, T]) -> Callable[P, T]:
    """Carried out on the server's loop, wherever it is called."""

    @wraps(order)
    def ordered(*args: P.args, **kwargs: P.kwargs) -> T:
        async def carry_out() -> T:
            return order(*args, **kwargs)

        control = cast(Control, args[0])
        return order(*args, **kwargs) if control.on_own_loop() else control.submit(carry_out()).result()

    return ordered


def _awaited(order: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Awaitable[T]]:
    """Carried out on the server's loop, and awaited on the caller's."""

    @wraps(order)
    def ordered(*args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        control, coroutine = cast(Control, args[0]), order(*args, **kwargs)
        return coroutine if control.on_own_loop() else asyncio.wrap_future(control.submit(coroutine))

    return ordered


class Control:
    def __init__(self, api: Api, outbox: Outbox) -> None:
        self._api = api
        self._world = api.world
        self._outbox = outbox
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def on_own_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._loop is None:
            raise RuntimeError("the stand-in has not been started")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def by_name(self, name: str, arguments: Json) -> Any:
        """What `/_control/<name>` does. Raises LookupError for what is no order."""
        order = getattr(type(self), name, None)
        if name not in ORDERS or order is None:
            raise LookupError(f"there is no order {name}")
        result = order(self, **arguments)
        return await result if isinstance(result, Awaitable) else result

    # Faults

    @_on_loop
    def fail(
        self,
        kind: FaultKind,
        *,
        method: str = "*",
        path: str = "*",
        times: int = 1,
        skip: int = 0,
        retry_after: int = 1,
    ) -> None:
        """Let the next `times` requests that fit, after `skip` others, meet a fault."""
        self._api.faults.put(Fault(kind, method, path, times, skip, retry_after))

    @_on_loop
    def resume(self) -> None:
        """Let go all requests that hang."""
        self._api.faults.resume()

    @_on_loop
    def clear_faults(self) -> None:
        self._api.faults.clear()
        self._world.verdicts.clear()

    @_awaited
    async def hanging(self) -> None:
        """Wait until a request hangs."""
        await self._api.faults.until_hanging()

    def wait_until_hanging(self) -> None:
        """The same where no loop runs."""
        self.submit(self._api.faults.until_hanging()).result()

    # Banks

    @_on_loop
    def decline(
        self,
        code: str = "card_declined",
        decline_code: str | None = "generic_decline",
        *,
        off_session_only: bool = False,
        times: int = 1,
    ) -> None:
        """Let banks decline the next payments, whatever the method."""
        self._world.verdicts.append(Verdict(code, decline_code, off_session_only, times))

    @_on_loop
    def require_authentication(self, *, off_session_only: bool = False, times: int = 1) -> None:
        """Let banks ask for their customer's consent to the next payments."""
        self._world.verdicts.append(Verdict("authentication_required", None, off_session_only, times))

    @_on_loop
    def settle(self, payment_intent: str, *, succeeded: bool = True) -> None:
        """Let the bank of a payment under way answer."""
        intent = self._world.books.get("payment_intent", payment_intent)
        collecting.settled_later(self._world, intent, succeeded=succeeded)

    @_on_loop
    def authenticate(self, intent: str, *, agreed: bool = True) -> None:
        """Let the payer of an intent that waits for them go to their bank's page."""
        if intent.startswith("pi_"):
            found = self._world.books.get("payment_intent", intent)
            collecting.authenticated(self._world, found, agreed=agreed)
        else:
            found = self._world.books.get("setup_intent", intent)
            setup_intents.authenticated(self._world, found, agreed=agreed)

    @_on_loop
    def pay_checkout(self, session: str, **payer: str) -> str | None:
        """Fill in a Checkout page and press its button; returns the error that it shows, if any."""
        found = self._world.books.get("checkout.session", session)
        error = paying.submit(self._world, found, Payer(**payer))
        return None if error is None else str(error)

    # Reversals

    @_on_loop
    def dispute(self, charge_or_intent: str, *, amount: int | None = None, reason: str = "fraudulent") -> str:
        """Let a payer's bank take a payment back; returns the dispute's id."""
        found = self._world.books.find(charge_or_intent) or {}
        charge = self._world.books.get("charge", found.get("latest_charge") or charge_or_intent)
        due = charge["amount"] if amount is None else amount
        return str(disputes.open_dispute(self._world, charge, due, reason)["id"])

    @_on_loop
    def decide_dispute(self, dispute: str, *, won: bool) -> None:
        """Let the bank close a dispute."""
        disputes.decide(self._world, self._world.books.get("dispute", dispute), won=won)

    @_on_loop
    def finish_refund(self, refund: str, *, failure: str | None = None) -> None:
        """Let a refund reach its payer, or come back for a reason such as "lost_or_stolen_card"."""
        made = self._world.books.get("refund", refund)
        if failure is None:
            refunds.arrive(self._world, made)
        else:
            refunds.fail(self._world, made, failure)

    # Settings and time

    @_on_loop
    def set_tax_rate(self, rate: str) -> None:
        """A fraction, such as "0.19"."""
        self._world.settings.tax_rate = Decimal(rate)

    @_on_loop
    def advance(self, seconds: int) -> None:
        """Let time pass for all that has no test clock, and happen what is due by then."""
        self._world.advance(seconds)

    # Deliveries

    @_on_loop
    def hold_events(self, event_types: list[str] | None = None) -> None:
        """Keep back all events, or those of some types, until they are released."""
        self._outbox.hold(event_types)

    @_on_loop
    def release_events(self, *, order: str = "forward", seed: int = 0, keep_holding: bool = False) -> int:
        """Send what is held, `forward`, `reversed` or `shuffled`; returns how many there were."""
        return self._outbox.release(order=order, seed=seed, keep_holding=keep_holding)

    @_on_loop
    def repeat_event(self, event: str) -> int:
        """Deliver an event once more; returns to how many destinations."""
        return self._outbox.again(event)

    @_on_loop
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
                setattr(self._outbox, name, value)

    @_on_loop
    def retry_now(self) -> None:
        self._outbox.retry_now()

    @_awaited
    async def settled(self, *, delivered: bool = False) -> None:
        """Wait until no event is under way; `delivered`: nor waiting for another try."""
        await self._outbox.settled(delivered=delivered)

    def wait_until_settled(self, *, delivered: bool = False) -> None:
        """The same where no loop runs."""
        self.submit(self._outbox.settled(delivered=delivered)).result()

    @_on_loop
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
            for one in self._outbox.deliveries
            if event_type in (None, one.event_type)
        ]

    @_awaited
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
        forged = {
            "id": event or f"evt_{new_token()}",
            "object": "event",
            "type": event_type,
            "api_version": self._world.settings.api_version,
            "created": self._world.now(),
            "livemode": livemode,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "data": {"object": thing},
            **({"account": account} if account else {}),
        }
        found = self._world.books.find(destination) or {}
        delivery = delivery_to(self._world, found, forged)
        delivery.secret = secret or delivery.secret
        async with httpx.AsyncClient() as client:
            header = signature if signature is not None else delivery.signature(signed_at)
            return await post(client, delivery.url, delivery.body, header)

    # What happened

    @_on_loop
    def requests(self, path: str | None = None) -> list[Json]:
        """Those that came, in their order, or those to one path; parameters are still strings."""
        return [copy.deepcopy(vars(seen)) for seen in self._api.seen if path in (None, seen.path)]

    @_on_loop
    def thing(self, identifier: str) -> Json | None:
        """An object as it stands."""
        return copy.deepcopy(self._world.books.find(identifier))

    @_on_loop
    def things(self, kind: str) -> list[Json]:
        """All objects of a kind, oldest first."""
        return copy.deepcopy(self._world.books.oldest_first(kind))


_NOT_BY_NAME = {"attach", "on_own_loop", "submit", "by_name", "wait_until_hanging", "wait_until_settled"}

ORDERS = frozenset(name for name in vars(Control) if not name.startswith("_")) - _NOT_BY_NAME

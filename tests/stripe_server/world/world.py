"""One account at Stripe: its books, its time, its settings, and whom it tells what happened."""

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import stripe

from tests.stripe_server.wire.errors import Json, StripeError, UnfaithfulAnswer
from tests.stripe_server.world.books import Books, new_token
from tests.stripe_server.world.event_types import is_known
from tests.stripe_server.world.kinds import KINDS
from tests.stripe_server.world.shapes import completed

# Time goes in steps, so that what becomes due does so in its order.
STEP_SECONDS = 3600

Listener = Callable[["World", Json], None]
Include = Callable[["World", Json], Json]
Duty = Callable[["World"], None]


@dataclass
class Settings:
    """What an account's owner sets at Stripe. Rates are fractions, `fee_fixed` is in minor units."""

    api_key: str = field(default_factory=lambda: f"sk_test_{new_token()}")
    api_version: str = stripe.api_version
    account: str = field(default_factory=lambda: f"acct_{new_token(16)}")
    country: str = "US"
    tax_rate: Decimal = Decimal("0.10")
    fee_rate: Decimal = Decimal("0.029")
    fee_fixed: int = 30
    exchange_rate: Decimal = Decimal("0.92")
    url: str = ""


@dataclass
class Cause:
    """The request that events came of; work that time brought about has none."""

    request_id: str | None = None
    idempotency_key: str | None = None


@dataclass
class Verdict:
    """What a bank shall say to coming payments, whatever the method: its code, and a decline code if any."""

    code: str
    decline_code: str | None = None
    off_session_only: bool = False
    times: int = 1


@dataclass
class World:
    settings: Settings = field(default_factory=Settings)
    books: Books = field(default_factory=Books)
    cause: Cause = field(default_factory=Cause)
    listeners: dict[str, list[Listener]] = field(default_factory=lambda: defaultdict(list))
    includes: dict[tuple[str, str], Include] = field(default_factory=dict)
    on_event: list[Callable[[Json], None]] = field(default_factory=list)
    duties: list[Duty] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    time_ahead: int = 0
    _withheld: list[Json] | None = None

    def now(self, customer: str | None = None) -> int:
        """Seconds since the epoch: of the customer's test clock if there is one."""
        clock = self.clock_of(customer)
        if clock is not None:
            return int(clock["frozen_time"])
        return int(time.time()) + self.time_ahead

    def clock_of(self, customer: str | None) -> Json | None:
        holder = self.books.find(customer) if customer else None
        return self.books.find(holder["test_clock"]) if holder and holder.get("test_clock") else None

    def add(self, kind: str, *, customer: str | None = None, **values: Any) -> Json:
        """A new object; `customer` is one of its fields and says whose clock dates it."""
        if customer is not None:
            values["customer"] = customer
        return self.books.add(kind, self.now(customer), **values)

    def change(self, thing: Json, event: str | None = None, **changes: Any) -> None:
        """Sets fields, and tells of it with what was before. Raises UnfaithfulAnswer for a new field."""
        old = {name: copy.deepcopy(thing.get(name)) for name in changes}
        thing.update(completed(KINDS[thing["object"]].klass, changes))
        if event is not None:
            before = {name: value for name, value in old.items() if thing[name] != value}
            self.emit(event, thing, before or None)

    def emit(self, event_type: str, thing: Json, before: Json | None = None) -> Json:
        """Writes an event, hands it to the deliverer, then to those here who act on it."""
        if not is_known(event_type):
            raise UnfaithfulAnswer(f"Stripe has no event {event_type}")
        data: Json = {"object": copy.deepcopy(thing)}
        if before is not None:
            data["previous_attributes"] = before
        event = self.books.add(
            "event",
            self.now(thing.get("customer") if isinstance(thing.get("customer"), str) else None),
            type=event_type,
            data=data,
            api_version=self.settings.api_version,
            pending_webhooks=0,
            request={"id": self.cause.request_id, "idempotency_key": self.cause.idempotency_key},
        )
        if self._withheld is None:
            self._tell(event)
        else:
            self._withheld.append(event)
        for listener in self.listeners[event_type]:
            listener(self, thing)
        return event

    def _tell(self, event: Json) -> None:
        for tell in self.on_event:
            tell(event)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Let nothing have happened, and nobody hear of it, if a StripeError ends the block."""
        if self._withheld is not None:
            yield
            return
        before, self._withheld = copy.deepcopy(self.books), []
        try:
            yield
        except StripeError:
            self.books, self._withheld = before, None
            raise
        events, self._withheld = self._withheld, None
        for event in events:
            self._tell(event)

    def catch_up(self) -> None:
        """Do what is due by now: each kind of object knows what time alone brings about for it."""
        for duty in self.duties:
            duty(self)

    def advance(self, seconds: int) -> None:
        """Let time pass for all that has no test clock."""
        target = self.time_ahead + seconds
        while self.time_ahead < target:
            self.time_ahead = min(self.time_ahead + STEP_SECONDS, target)
            self.catch_up()

    def fee(self, amount: int) -> int:
        return minor(amount * self.settings.fee_rate) + self.settings.fee_fixed

    def tax(self, amount: int) -> int:
        return minor(amount * self.settings.tax_rate)


def minor(amount: Decimal) -> int:
    """Whole minor units, halves away from zero."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))

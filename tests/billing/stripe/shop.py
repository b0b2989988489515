"""A Farebox that takes payments at Stripe's stand-in, and what its tests do with it again and again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update

from farebox.billing.ledger import account_balances, ledger_balance
from farebox.billing.models_stripe import StripeEvent, TopUp
from farebox.billing.stripe.account import Account
from farebox.billing.stripe.checkout import open_checkout
from farebox.billing.stripe.tasks import PATIENCE, handlers, sweeps, watches
from farebox.billing.stripe.top_ups import order_top_up
from farebox.core.database import Database
from farebox.core.outbox import OutboxItem
from farebox.core.settings import Settings
from farebox.limits.balances import balances_of
from farebox.worker import Worker
from tests.stripe_server.control.control import Control
from tests.stripe_server.server import StripeServer
from tests.tenants.factories import Tenant


@dataclass
class Shop:
    """`tenant` is the customer that a test made; `destination` is where Stripe tells it thin events."""

    database: Database
    account: Account
    settings: Settings
    stripe: StripeServer
    tenant: Tenant
    destinations: Mapping[str, str]
    mailed: list[Any] = field(default_factory=list)

    @property
    def control(self) -> Control:
        return self.stripe.control

    @property
    def organization_id(self) -> UUID:
        return self.tenant.organization_id

    def worker(self) -> Worker:
        return Worker(
            self.database,
            self.settings,
            handlers(self.account),
            [partial(sweep) for sweep in sweeps(self.account)],
            watches=watches(),
            patience=PATIENCE,
        )

    async def order(
        self,
        amount: str = "25",
        *,
        keeps_method: bool = False,
        key: str | None = None,
        organization_id: UUID | None = None,
    ) -> TopUp:
        """A top-up with its page."""
        async with self.database.meter_transaction() as session:
            row = await order_top_up(
                session,
                organization_id or self.organization_id,
                amount=Decimal(amount),
                settings=self.settings,
                keeps_method=keeps_method,
                client_key=key,
            )
        return await open_checkout(self.database, self.account, self.settings, row)

    def pay(self, row: TopUp, **payer: str) -> str | None:
        """At Stripe's page; the error that it shows, if any."""
        assert row.session_id is not None
        return self.control.pay_checkout(row.session_id, **payer)

    async def told(self) -> None:
        """Wait until Stripe has sent what it had to send."""
        await self.control.settled()

    async def work(self) -> None:
        """What Stripe told is worked off, and what that calls for, until there is nothing more to do."""
        await self.told()
        worker = self.worker()
        while await worker.work_off():
            await self.told()

    async def work_later(self) -> None:
        """The same, once the pauses between attempts are over."""
        await self.let_time_pass()
        await self.work()

    async def let_time_pass(self, **ago: float) -> None:
        """Make everything due but what was given up; `ago`: as if posted so many hours earlier."""
        awaited = OutboxItem.next_attempt_at < text("'infinity'")
        async with self.database.meter_transaction() as session:
            past = func.now() - func.make_interval(0, 0, 0, 0, int(ago.get("hours", 0)))
            values: dict[str, Any] = {"next_attempt_at": func.now() - text("interval '1 second'")}
            values |= {"created_at": past} if ago else {}
            await session.execute(update(OutboxItem).where(awaited).values(**values))

    async def paid(self, amount: str = "25", **options: Any) -> TopUp:
        """A top-up that was paid and credited."""
        row = await self.order(amount, **options)
        assert self.pay(row) is None
        await self.work()
        row = await self.fresh(row)
        assert row.state == "paid"
        return row

    async def fresh(self, row: TopUp) -> TopUp:
        async with self.database.meter_transaction() as session:
            return await session.get_one(TopUp, row.id)

    async def top_ups(self) -> list[TopUp]:
        async with self.database.meter_transaction() as session:
            query = select(TopUp).where(TopUp.organization_id == self.organization_id)
            return list(await session.scalars(query.order_by(TopUp.id)))

    async def balance(self) -> Decimal:
        """As admission has it; the ledger must say the same, and be balanced."""
        async with self.database.meter_transaction() as session:
            held = await balances_of(session, [self.organization_id])
            assert await ledger_balance(session, self.organization_id) == held[self.organization_id].amount
            assert sum((await account_balances(session, self.organization_id)).values()) == 0
        return held[self.organization_id].amount

    async def accounts(self) -> Mapping[str, Decimal]:
        """What moved, by account; credits less debits."""
        async with self.database.meter_transaction() as session:
            held = await account_balances(session, self.organization_id)
        return {name: amount for name, amount in held.items() if amount}

    async def events(self, object_id: str | None = None) -> list[StripeEvent]:
        async with self.database.meter_transaction() as session:
            query = select(StripeEvent).order_by(StripeEvent.received_at, StripeEvent.id)
            if object_id is not None:
                query = query.where(StripeEvent.object_id == object_id)
            return list(await session.scalars(query))

    async def waiting(self) -> list[OutboxItem]:
        async with self.database.meter_transaction() as session:
            return list(await session.scalars(select(OutboxItem).order_by(OutboxItem.id)))

    def asked(self, path: str) -> list[dict[str, Any]]:
        """Requests to a path at Stripe that were about this customer's things, or all to it."""
        return self.control.requests(path)

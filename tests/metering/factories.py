"""Tenants with keys, funds and models, made through the public doors."""

import os
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from farebox.billing.funds import top_up
from farebox.billing.ledger import ledger_balance
from farebox.billing.offers import add_model
from farebox.billing.prices import set_price
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.money import charge
from farebox.keys.models import ApiKey
from farebox.limits.models import MeterScope
from farebox.limits.service import LimitChange, set_limits
from farebox.metering.admission import Admission
from farebox.metering.models import Hold, UsageAmendment, UsageEvent, UsageHour, UsageMinute
from farebox.metering.settlement import Settlement
from farebox.tenants.models import Organization, Project


@dataclass(frozen=True)
class Account:
    """A funded organization with one project and one key."""

    organization_id: UUID
    project_id: UUID
    key_id: UUID
    digest: bytes
    model_id: str

    def admission(self, prompt: int = 10, output: int = 20, model: str | None = None) -> Admission:
        return self.open_admission(prompt, output, expected=output, least=output, model=model)

    def open_admission(
        self, prompt: int, output: int, *, expected: int = 1024, least: int = 1, model: str | None = None
    ) -> Admission:
        """One that leaves the length of its answer open."""
        return Admission(
            new_id(),
            self.organization_id,
            self.key_id,
            self.digest,
            model or self.model_id,
            prompt,
            output,
            expected,
            least,
        )


async def open_account(
    database: Database, *, balance: str = "100", price: tuple[str, str, str] = ("1", "0.5", "2")
) -> Account:
    organization_id, project_id, key_id, digest = new_id(), new_id(), new_id(), os.urandom(32)
    model_id = f"model-{key_id.hex[-12:]}"
    async with database.transaction(organization_id=organization_id) as session:
        session.add(Organization(id=organization_id, name="Acme"))
        await session.flush()
        session.add(Project(id=project_id, organization_id=organization_id, name="Default"))
        await session.flush()
        session.add(
            ApiKey(
                id=key_id,
                organization_id=organization_id,
                project_id=project_id,
                name="test",
                token_sha256=digest,
                last_four="abcd",
                scopes=["inference"],
                expires_at=utc_now() + timedelta(days=1),
            )
        )
    async with database.meter_transaction() as session:
        await add_model(
            session, model_id=model_id, path="/nowhere", sha256="0", context_length=1024, owned_by="us"
        )
        await set_price(
            session,
            model_id,
            input_per_million=Decimal(price[0]),
            cached_input_per_million=Decimal(price[1]),
            output_per_million=Decimal(price[2]),
            currency="USD",
        )
        if Decimal(balance):
            await top_up(
                session,
                organization_id=organization_id,
                amount=Decimal(balance),
                currency="USD",
                reference="first",
            )
    return Account(organization_id, project_id, key_id, digest, model_id)


async def limit(database: Database, account: Account, scope_id: UUID, change: LimitChange) -> None:
    async with database.transaction(organization_id=account.organization_id) as session:
        await set_limits(session, account.organization_id, scope_id, change)


def used(
    input_tokens: int,
    output_tokens: int,
    *,
    cached: int = 0,
    status: str = "completed",
    to_be_handed_over: bool = False,
) -> Settlement:
    return Settlement(
        status=status,  # type: ignore[arg-type]
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        output_tokens=output_tokens,
        to_be_handed_over=to_be_handed_over,
    )


@dataclass(frozen=True)
class Books:
    """Everything Postgres holds on one organization, to be compared."""

    scopes: dict[UUID, MeterScope]
    holds: list[Hold]
    events: list[UsageEvent]
    amendments: list[UsageAmendment]
    rollup_requests: int
    rollup_tokens: tuple[int, int, int]
    rollup_amount: Decimal
    # Of the input and of the cached input.
    rollup_costs: tuple[Decimal, Decimal]
    minute_sums: tuple[Any, ...]
    ledger_balance: Decimal


async def read_books(database: Database, organization_id: UUID) -> Books:
    async with database.transaction(organization_id=organization_id) as session:
        hours = (
            await session.execute(
                select(
                    func.coalesce(func.sum(UsageHour.requests), 0),
                    func.coalesce(func.sum(UsageHour.input_tokens), 0),
                    func.coalesce(func.sum(UsageHour.cached_input_tokens), 0),
                    func.coalesce(func.sum(UsageHour.output_tokens), 0),
                    func.coalesce(func.sum(UsageHour.amount), 0),
                    func.coalesce(func.sum(UsageHour.input_amount), 0),
                    func.coalesce(func.sum(UsageHour.cached_input_amount), 0),
                )
            )
        ).one()
        minutes = (
            await session.execute(
                select(
                    func.coalesce(func.sum(UsageMinute.requests), 0),
                    func.coalesce(func.sum(UsageMinute.input_tokens), 0),
                    func.coalesce(func.sum(UsageMinute.cached_input_tokens), 0),
                    func.coalesce(func.sum(UsageMinute.output_tokens), 0),
                    func.coalesce(func.sum(UsageMinute.amount), 0),
                )
            )
        ).one()
        return Books(
            scopes={scope.id: scope for scope in await session.scalars(select(MeterScope))},
            holds=list(await session.scalars(select(Hold))),
            events=list(await session.scalars(select(UsageEvent))),
            amendments=list(await session.scalars(select(UsageAmendment))),
            rollup_requests=hours[0],
            rollup_tokens=(hours[1], hours[2], hours[3]),
            rollup_amount=hours[4],
            rollup_costs=(hours[5], hours[6]),
            minute_sums=tuple(minutes),
            ledger_balance=await ledger_balance(session, organization_id),
        )


async def assert_books_close(database: Database, account: Account, *, funded: Decimal) -> Books:
    """One number everywhere: events and amendments = rollups = ledger = balance, and reserved = holds."""
    books = await read_books(database, account.organization_id)
    booked: list[UsageEvent | UsageAmendment] = [*books.events, *books.amendments]
    spent = sum((each.amount for each in booked), Decimal(0))
    statuses = {event.request_id: event.status for event in books.events}
    for amendment in books.amendments:
        amended = "completed" if amendment.status == "undelivered" else "interrupted"
        assert statuses[amendment.request_id] == amended
    assert books.rollup_amount == spent
    assert books.rollup_requests == len(books.events) == len({event.request_id for event in books.events})
    assert books.rollup_tokens == (
        sum(each.input_tokens for each in booked),
        sum(each.cached_input_tokens for each in booked),
        sum(each.output_tokens for each in booked),
    )
    assert books.minute_sums == (books.rollup_requests, *books.rollup_tokens, spent)
    assert books.rollup_costs == (
        sum(each.input_amount for each in booked),
        sum(each.cached_input_amount for each in booked),
    )
    tiered = {event.request_id for event in books.events if event.tiers_from is not None}
    for each in booked:
        assert each.request_id in tiered or (each.input_amount, each.cached_input_amount) == costs_of(each)
    organization = books.scopes[account.organization_id]
    assert organization.balance == books.ledger_balance == funded - spent
    assert organization.balance >= 0
    for scope in books.scopes.values():
        assert scope.spent == spent
        assert scope.active == len(books.holds)
        assert scope.reserved == sum((hold.amount for hold in books.holds), Decimal(0))
    return books


def costs_of(each: UsageEvent | UsageAmendment) -> tuple[Decimal, Decimal]:
    """What the input cost at a flat price, and the cached input: a capped amount pays for them in this order.
    A credit is the same with all signs turned."""
    sign = -1 if each.status == "undelivered" else 1
    amount = sign * each.amount
    input_amount = min(sign * charge(each.input_tokens, each.input_per_million), amount)
    cached = sign * charge(each.cached_input_tokens, each.cached_input_per_million)
    return sign * input_amount, sign * min(cached, amount - input_amount)

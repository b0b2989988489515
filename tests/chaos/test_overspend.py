"""Promise: no balance is exceeded by a cent, on any number of replicas, and none refuses falsely."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import pytest
from sqlalchemy import select

from farebox.core.errors import Unavailable
from farebox.limits.models import MeterScope
from farebox.metering.models import UsageEvent
from tests.chaos.audit import audit
from tests.chaos.conftest import Pair
from tests.chaos.load import LONG_TOKENS, Call, ask_at_once
from tests.chaos.stage import LOOK_SECONDS, Stage
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

REQUESTS = 200
BALANCE = Decimal("0.08")
PAID_FOR = 37


class Look(NamedTuple):
    """What was seen of a balance at one moment while it was spent."""

    balance: Decimal
    reserved: Decimal


@pytest.mark.parametrize("replicas", [1, 2])
async def test_what_pays_for_37_lets_37_of_200_through(stage: Stage, pair: Pair, replicas: int) -> None:
    tenant = await stage.tenant(BALANCE)
    clients = await stage.clients(pair[:replicas], tenant)
    looks: list[Look] = []
    look = partial(look_at, stage, tenant, looks)
    async with repeated(look):
        calls = await ask_at_once(clients, REQUESTS, meanwhile=look)
    findings = await audit(stage.database, stage.tenants, calls)
    assert findings.fates == {"whole, stream": PAID_FOR, "refused, stream": REQUESTS - PAID_FOR}
    assert all(is_out_of_funds(call) for call in calls if call.fate == "refused")
    events = (await read_books(stage.database, tenant.organization_id)).events
    (each,) = {worst_case(event) for event in events}
    assert max(look.reserved for look in looks) == PAID_FOR * each <= BALANCE < (PAID_FOR + 1) * each
    assert all(0 <= look.reserved <= look.balance <= BALANCE for look in looks)


async def look_at(stage: Stage, tenant: Tenant, looks: list[Look]) -> None:
    query = select(MeterScope.balance, MeterScope.reserved).where(MeterScope.id == tenant.organization_id)
    async with stage.database.meter_transaction() as session:
        balance, reserved = (await session.execute(query)).one()
    assert balance is not None
    looks.append(Look(balance, reserved))


@asynccontextmanager
async def repeated(look: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Look again and again while the context is open."""
    over = asyncio.Event()

    async def repeat() -> None:
        while not over.is_set():
            # This very process, busy with two hundred clients, may not come to read what Postgres says.
            with suppress(Unavailable):
                await look()
            await asyncio.sleep(LOOK_SECONDS)

    looking = asyncio.create_task(repeat())
    try:
        yield
    finally:
        over.set()
        await looking


def is_out_of_funds(call: Call) -> bool:
    assert call.error is not None
    told = (call.status, call.error["type"], call.error["code"])
    return told == (402, "insufficient_quota", "insufficient_quota")


def worst_case(event: UsageEvent) -> Decimal:
    """What admission set aside for the request that became this event."""
    prompt = (event.input_tokens + event.cached_input_tokens) * event.input_per_million
    return (prompt + LONG_TOKENS * event.output_per_million) / 1_000_000

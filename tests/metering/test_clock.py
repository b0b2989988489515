"""A clock that ran ahead and was set back, as the rows that it leaves behind."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.limits.service import LimitChange
from farebox.metering.admission import LEASE, Grant
from farebox.metering.errors import QuotaExceeded, RateLimitExceeded
from farebox.metering.meter import Meter
from tests.metering.factories import Account, limit, open_account, read_books, used


@pytest.fixture
async def still_meter(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    """It does nothing by itself."""
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None, sweep_grace=timedelta())
    yield meter
    await meter.close()


async def write(database: Database, statement: str, scope_id: UUID) -> None:
    async with database.meter_transaction() as session:
        await session.execute(text(statement), {"id": scope_id})


async def spend(meter: Meter, account: Account, tokens: int) -> None:
    await meter.settle(await meter.admit(account.admission(prompt=0, output=tokens)), used(0, tokens))


@pytest.mark.parametrize("scope", ["organization_id", "project_id"])
async def test_a_month_that_has_not_come_yet_is_added_to(
    database: Database, still_meter: Meter, scope: str
) -> None:
    account = await open_account(database, price=("0", "0", "100000"))
    scope_id = getattr(account, scope)
    await limit(database, account, scope_id, LimitChange(monthly_cap=Decimal("0.50")))
    await spend(still_meter, account, 3)
    await write(
        database,
        "UPDATE meter_scope SET spend_month = spend_month + interval '1 month' WHERE id = :id",
        scope_id,
    )
    before = (await read_books(database, account.organization_id)).scopes[scope_id]
    with pytest.raises(QuotaExceeded):
        await still_meter.admit(account.admission(prompt=0, output=3))
    await spend(still_meter, account, 2)
    after = (await read_books(database, account.organization_id)).scopes[scope_id]
    assert after.spent == Decimal("0.50")
    assert after.spend_month == before.spend_month
    with pytest.raises(QuotaExceeded):
        await still_meter.admit(account.admission(prompt=0, output=1))


async def test_a_month_that_has_passed_is_forgotten(database: Database, still_meter: Meter) -> None:
    account = await open_account(database, price=("0", "0", "100000"))
    await limit(database, account, account.project_id, LimitChange(monthly_cap=Decimal("0.50")))
    await spend(still_meter, account, 5)
    await write(
        database,
        "UPDATE meter_scope SET spend_month = spend_month - interval '1 month' WHERE id = :id",
        account.project_id,
    )
    await spend(still_meter, account, 5)
    scope = (await read_books(database, account.organization_id)).scopes[account.project_id]
    assert scope.spent == Decimal("0.50")


async def test_a_bucket_filled_at_a_time_to_come_refills_from_now(
    database: Database, still_meter: Meter
) -> None:
    account = await open_account(database)
    await limit(database, account, account.project_id, LimitChange(requests_per_minute=60))
    ahead = "UPDATE meter_scope SET request_level = 0, refilled_at = now() + interval '1 hour' WHERE id = :id"
    await write(database, ahead, account.project_id)
    with pytest.raises(RateLimitExceeded) as refused:
        await still_meter.admit(account.admission())
    assert refused.value.retry_after == 1
    # The second that it told, as a row.
    passed = "UPDATE meter_scope SET refilled_at = refilled_at - interval '1 s' WHERE id = :id"
    await write(database, passed, account.project_id)
    assert isinstance(await still_meter.admit(account.admission()), Grant)
    with pytest.raises(RateLimitExceeded):  # refilled, not made anew
        await still_meter.admit(account.admission())


async def test_an_orphans_lease_ends_although_the_clock_was_set_back(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, still_meter: Meter
) -> None:
    account = await open_account(database)
    dead = await Meter.open(settings, database_url, tmp_path / "dead", turn_seconds=None)
    orphan = await dead.admit(account.admission())
    orphan.record_delivery(10, 0, 3)
    await dead.turn()
    ahead = "UPDATE hold SET lease_expires_at = now() + interval '1 hour' WHERE organization_id = :id"
    await write(database, ahead, account.organization_id)
    await still_meter.turn()
    (hold,) = (await read_books(database, account.organization_id)).holds
    assert hold.lease_expires_at - hold.admitted_at < 2 * LEASE
    await write(
        database,
        "UPDATE hold SET lease_expires_at = now() - interval '1 s' WHERE organization_id = :id",
        account.organization_id,
    )
    await still_meter.turn()
    (event,) = (await read_books(database, account.organization_id)).events
    assert (event.status, event.output_tokens) == ("interrupted", 3)
    await dead.close()

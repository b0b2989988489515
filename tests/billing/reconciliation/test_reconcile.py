"""The books agree after everything that happens to them, and every way to spoil them is named."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
import structlog
from sqlalchemy import delete, text

from farebox.billing.funds import grant_credit_line
from farebox.billing.models import Reconciliation
from farebox.billing.promotions import grant
from farebox.billing.reconciliation.books import Books, Difference, Finding
from farebox.billing.reconciliation.nightly import BEGINS, last_run, reconcile_nightly
from farebox.billing.reconciliation.reconcile import CHECKS, Reconciled, reconcile
from farebox.billing.reconciliation.seals import seals
from farebox.billing.reconciliation.transfers import requests
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from tests.billing.clock import Clock
from tests.metering.factories import Account, open_account, used
from tests.metering.outages import expire_handover, expire_leases
from tests.metering.seals.sealed_books import NOON, Customer, book_twice
from tests.owner import owner_transaction

CloseTheBooks = Callable[[], Awaitable[int]]
END_WHO_HOLDS_THE_LOCK = text("""
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND granted AND datname = current_database()
""")


def spoiled(done: Reconciled) -> set[str]:
    return {each.check for each in done.findings if each.count}


async def compare(database: Database, account: Account) -> Reconciled:
    return await reconcile(database, account.organization_id)


async def forget(database: Database, organization_id: UUID) -> None:
    """Take what a test has spoiled out of the way of the others."""
    async with owner_transaction(database) as session:
        tables = ("ledger_transfer", "usage_event", "usage_amendment", "usage_hour", "usage_minute", "hold")
        for table in tables:
            statement = f"DELETE FROM {table} WHERE organization_id = :id"  # noqa: S608
            await session.execute(text(statement), {"id": organization_id})
        await session.execute(text("DELETE FROM organization WHERE id = :id"), {"id": organization_id})


async def live_through(
    database: Database, meter: Meter, settings: Settings, url: str, folder: Path
) -> Account:
    """Every kind of entry: answers paid from three purses, one that nobody got, one swept and amended, one
    under way."""
    account = await open_account(database, balance="1", price=("1000", "500", "2000"))
    async with database.meter_transaction() as session:
        own = {"organization_id": account.organization_id, "currency": "USD"}
        await grant(session, **own, amount=Decimal(2), reference="welcome")  # type: ignore[arg-type]
        await grant_credit_line(session, account.organization_id, amount=Decimal(50), currency="USD")
    for _ in range(3):
        await meter.settle(await meter.admit(account.admission(3000, 500)), used(3000, 400, cached=0))
    lost = await meter.admit(account.admission())
    await meter.settle(lost, used(10, 20, to_be_handed_over=True))
    meter.hand_over(lost, reached=False)
    await meter.turn()
    await expire_handover(database, lost.request_id)
    await meter.turn()
    owner = await Meter.open(settings, url, folder / "owner", turn_seconds=None)
    stream = await owner.admit(account.admission())
    stream.record_delivery(10, 0, 4)
    await owner.turn()
    await expire_leases(database, account.organization_id)
    await meter.turn()
    await owner.settle(stream, used(10, 15))
    await owner.close()
    await meter.admit(account.admission())
    return account


async def test_whatever_happens_the_books_agree(
    database: Database,
    meter: Meter,
    settings: Settings,
    database_url: str,
    tmp_path: Path,
    close_the_books: CloseTheBooks,
) -> None:
    account = await live_through(database, meter, settings, database_url, tmp_path)
    await close_the_books()
    async with database.transaction(organization_id=account.organization_id) as session:
        kinds = await session.scalars(text("SELECT status FROM usage_amendment ORDER BY 1"))
        debited = await session.scalars(text("SELECT DISTINCT debit_account FROM ledger_transfer"))
        assert [*kinds] == ["completed", "undelivered"]
        assert {"prepaid", "promotional", "receivable"} <= {*debited}
    done = await reconcile(database)
    assert (spoiled(done), {each.check for each in done.findings}) == (
        set(),
        {check.__name__ for check in CHECKS},
    )


SPOILS = {
    "an event": (
        "UPDATE usage_event SET amount = amount + 1 WHERE request_id = :request",
        {"hours", "requests", "seals"},
    ),
    "an event's tokens": (
        "UPDATE usage_event SET output_tokens = output_tokens - 1 WHERE request_id = :request",
        {"hours", "seals"},
    ),
    "an event's status": (
        "UPDATE usage_event SET status = 'cancelled' WHERE request_id = :request",
        {"seals"},
    ),
    "an event that is gone": (
        "DELETE FROM usage_event WHERE request_id = :request",
        {"hours", "requests", "seals"},
    ),
    "an hour's sum": (
        "UPDATE usage_hour SET amount = amount + 1 WHERE organization_id = :organization",
        {"hours", "minutes", "revenues", "spending"},
    ),
    "a minute's sum": (
        "UPDATE usage_minute SET requests = requests + 1 WHERE organization_id = :organization",
        {"minutes"},
    ),
    "a transfer": (
        "UPDATE ledger_transfer SET amount = amount + 1 WHERE request_id = :request",
        {"requests", "revenues", "balances"},
    ),
    "a transfer that is gone": (
        "DELETE FROM ledger_transfer WHERE request_id = :request",
        {"requests", "revenues", "balances"},
    ),
    "a payment that is gone": (
        "DELETE FROM ledger_transfer WHERE organization_id = :organization AND kind = 'top_up'",
        {"balances"},
    ),
    "a balance": (
        "UPDATE meter_scope SET balance = balance + 1 WHERE id = :organization",
        {"balances"},
    ),
    "a promotional balance": (
        "UPDATE meter_scope SET promotional = promotional + 1 WHERE id = :organization",
        {"balances"},
    ),
    "a currency": ("UPDATE meter_scope SET currency = 'EUR' WHERE id = :organization", {"balances"}),
    "what is reserved": ("UPDATE meter_scope SET reserved = 1 WHERE id = :key", {"reservations"}),
    "a hold that is gone": ("DELETE FROM hold WHERE organization_id = :organization", {"reservations"}),
    "what is spent": ("UPDATE meter_scope SET spent = spent - 1 WHERE id = :key", {"spending"}),
    "a root": (
        "UPDATE usage_organization_seal SET root = sha256('') WHERE organization_id = :organization",
        {"seals"},
    ),
    "a path": (
        "UPDATE usage_organization_seal SET path = path || decode('00', 'hex') || sha256('')"
        " WHERE organization_id = :organization",
        {"seals"},
    ),
    "what is no path": (
        "UPDATE usage_organization_seal SET path = path || sha256('') WHERE organization_id = :organization",
        {"seals"},
    ),
}


@pytest.mark.parametrize("what", SPOILS)
async def test_what_is_spoiled_is_named(
    database: Database, meter: Meter, close_the_books: CloseTheBooks, what: str
) -> None:
    account = await open_account(database)
    granted = await meter.admit(account.admission())
    await meter.settle(granted, used(10, 20))
    await meter.admit(account.admission())
    await close_the_books()
    assert spoiled(await compare(database, account)) == set()
    statement, expected = SPOILS[what]
    ids = {
        "request": granted.request_id,
        "organization": account.organization_id,
        "key": account.key_id,
    }
    named = {name: value for name, value in ids.items() if f":{name}" in statement}
    async with owner_transaction(database) as session:
        await session.execute(text(statement), named)
    done = await compare(database, account)
    assert spoiled(done) == expected
    for finding in done.findings:
        for each in finding.differences:
            assert each.of["organization_id"] == account.organization_id.hex
            assert len(set(each.says.values())) > 1 or finding.check == "balances"
        if finding.check == "requests" and finding.count:
            assert [each.of["request_id"] for each in finding.differences] == [granted.request_id.hex]
    await forget(database, account.organization_id)


async def test_the_chain_itself_is_compared(database: Database, close_the_books: CloseTheBooks) -> None:
    customer = Customer(database)
    await customer.use(NOON)
    for change in (
        "UPDATE usage_seal SET root = sha256('x') WHERE hour = :at",
        "UPDATE usage_seal SET seal = sha256('x') WHERE hour = :at",
        "UPDATE usage_seal SET previous = sha256('x') WHERE hour = :at",
        "UPDATE usage_seal SET entries = entries + 1 WHERE hour = :at",
        "DELETE FROM usage_seal WHERE hour = :at",
    ):
        await close_the_books()
        assert spoiled(await reconcile(database, checks=(seals,))) == set()
        async with owner_transaction(database) as session:
            await session.execute(text(change), {"at": NOON + timedelta(hours=1)})
        assert spoiled(await reconcile(database, checks=(seals,))) == {"seals"}
    await close_the_books()
    late = await customer.use(NOON + timedelta(hours=5))
    (finding,) = (await reconcile(database, checks=(seals,))).findings
    (difference,) = finding.differences
    assert difference.says["sealed"] == "nothing", "the hour was sealed as empty"
    assert difference.of["organization_id"] == customer.organization_id.hex
    assert late
    await forget(database, customer.organization_id)


async def test_a_request_that_is_booked_twice_is_named(database: Database, meter: Meter) -> None:
    """Also where the sums agree."""
    account = await open_account(database)
    granted = await meter.admit(account.admission())
    await meter.settle(granted, used(10, 20))
    await book_twice(database, granted.request_id)
    (finding,) = (await reconcile(database, account.organization_id, checks=(requests,))).findings
    (difference,) = finding.differences
    assert difference.of["request_id"] == granted.request_id.hex
    assert difference.says["events"] == "2"
    assert difference.says["usage_events"] == difference.says["ledger"]
    await forget(database, account.organization_id)


async def only_difference(database: Database, *span: object) -> dict[str, str]:
    (finding,) = (await reconcile(database, *span, checks=(seals,))).findings  # type: ignore[arg-type]
    (difference,) = finding.differences
    return difference.of | difference.says


async def test_what_is_booked_before_the_chain_is_named(
    database: Database, close_the_books: CloseTheBooks
) -> None:
    customer = Customer(database)
    await customer.use(NOON)
    await close_the_books()
    before = NOON - timedelta(hours=5)
    await customer.amend(await customer.use(before, number=2), before)
    for organization_id in (None, customer.organization_id):
        found = await only_difference(database, organization_id)
        assert (found["hour"], found["sealed"]) == (before.isoformat(), "nothing")
        assert found["organization_id"] == customer.organization_id.hex
        assert found["usage_events"] == "3 entries before the chain"
    assert spoiled(await reconcile(database, start=NOON, checks=(seals,))) == set()
    await forget(database, customer.organization_id)


async def test_hours_that_wait_long_for_their_seals_are_named(
    database: Database, close_the_books: CloseTheBooks
) -> None:
    customer = Customer(database)
    await customer.use(NOON)
    await close_the_books()
    async with owner_transaction(database) as session:
        await session.execute(text("DELETE FROM usage_seal WHERE hour > :at"), {"at": NOON})
        await session.execute(text("DELETE FROM usage_organization_seal WHERE hour > :at"), {"at": NOON})
    found = await only_difference(database)
    assert (found["hour"], found["sealed"]) == ((NOON + timedelta(hours=1)).isoformat(), "nothing")
    span = (None, NOON + timedelta(hours=3), NOON + timedelta(hours=5))
    assert (await only_difference(database, *span))["usage_events"] == "2 hours that wait for their seals"
    async with owner_transaction(database) as session:
        await session.execute(text("TRUNCATE usage_seal, usage_organization_seal"))
    assert (await only_difference(database))["hour"] == NOON.isoformat(), "the books begin there"
    await forget(database, customer.organization_id)


async def test_hours_that_are_just_over_may_wait_for_their_seals(
    database: Database, meter: Meter, close_the_books: CloseTheBooks
) -> None:
    account = await open_account(database)
    await meter.settle(await meter.admit(account.admission()), used(10, 20))
    async with owner_transaction(database) as session:
        await session.execute(text("TRUNCATE usage_seal, usage_organization_seal"))
    assert spoiled(await reconcile(database, checks=(seals,))) == set()
    await forget(database, account.organization_id)


async def test_a_month_is_compared_by_itself(database: Database) -> None:
    """The credit of a bill of the month before counts where it was written, in all books."""
    account = await open_account(database)
    async with owner_transaction(database) as session:
        for hour, month in ((1, 3), (2, 4)):
            await session.execute(
                text("""
                INSERT INTO usage_hour SELECT :organization,
                    make_timestamptz(2025, :month, 1, :hour, 0, 0, 'UTC'), gen_random_uuid(),
                    gen_random_uuid(), 'demo', 'USD', 1, 1, 1, 1, 1, 0, 0
                """),
                {"organization": account.organization_id, "hour": hour, "month": month},
            )
    march, april = NOON.replace(day=1, hour=0), NOON.replace(month=4, day=1, hour=0)
    for span, count in (((march, april), 1), ((None, None), 2), ((april.replace(month=5), None), 0)):
        done = await reconcile(database, account.organization_id, *span)
        counts = {each.check: each.count for each in done.findings}
        assert (counts["hours"], counts["minutes"]) == (count, count)
    await forget(database, account.organization_id)


async def test_the_worker_compares_the_books_once_a_night(database_url: str) -> None:
    clock = Clock()
    clock.now = NOON.replace(hour=0) + BEGINS
    database = Database(database_url, clock=clock)

    async def invoices(_: Books) -> Finding:
        return Finding("invoices", 2, [])

    async def night() -> int:
        """How many of three workers did it."""
        done = [reconcile_nightly(database, (invoices,)) for _ in range(3)]
        return sum(await asyncio.gather(*done))

    async with owner_transaction(database) as session:
        await session.execute(delete(Reconciliation))  # another test's nights are later than these
    assert [await night(), await night()] == [1, 0]
    clock.advance(hours=23)
    assert await night() == 0
    clock.advance(hours=1)
    assert await night() == 1
    async with database.transaction() as session:
        last = await last_run(session)
    assert last is not None
    assert (last.finished_at, last.differences) == (clock.now, 2)
    async with owner_transaction(database) as session:
        await session.execute(delete(Reconciliation))
    await database.close()


async def test_what_differs_at_night_is_an_error_in_the_log(database: Database, clock: Clock) -> None:
    difference = Difference({"request_id": "ab"}, {"usage_events": "1", "ledger": "2"})

    async def requests(_: Books) -> Finding:
        return Finding("requests", 1, [difference])

    with structlog.testing.capture_logs() as logs:
        assert await reconcile_nightly(database, (requests,))
    (told,) = [each for each in logs if each["event"] == "reconciliation.differences"]
    assert (told["log_level"], told["check"], told["count"]) == ("error", "requests", 1)
    assert told["differences"] == [{"request_id": "ab", "usage_events": "1", "ledger": "2"}]


async def test_what_differs_is_told_though_the_lock_is_lost(database: Database, clock: Clock) -> None:
    """As when Postgres ends the connection that has been idle since the run began."""

    async def requests(_: Books) -> Finding:
        async with owner_transaction(database) as session:
            await session.execute(END_WHO_HOLDS_THE_LOCK)
        return Finding("requests", 1, [])

    # A night of its own, that no other test has done.
    night = Database(database.url, clock=lambda: clock.now - timedelta(days=30))
    with structlog.testing.capture_logs() as logs, pytest.raises(Unavailable):
        await reconcile_nightly(night, (requests,))
    assert "reconciliation.differences" in [each["event"] for each in logs]
    async with owner_transaction(database) as session:
        await session.execute(delete(Reconciliation))
    await night.close()


async def test_who_reads_long_is_not_ended_while_computing(database: Database) -> None:
    async with database.long_reading() as connection:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"

"""Accounts that nobody confirmed go, and with them only what nobody can miss."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import msgspec
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import top_up
from farebox.cli.assembly import make_worker
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.tenants.accounts import NewAccount
from farebox.tenants.models import Membership, Organization, User
from farebox.tenants.organizations import create_organization, create_project, create_service_account
from tests.owner import owner_transaction
from tests.tenants.factories import SETTINGS, an_email, make_account, make_key, make_keyring
from tests.usage.usage_history import add_usage
from tests.waiting import WAIT_SECONDS

PRODUCTION = msgspec.structs.replace(SETTINGS, env="production", base_url="https://farebox.example")
WEEK = timedelta(days=7)

Deed = Callable[[Database, NewAccount], Awaitable[object]]


async def age(url: str, account: NewAccount, by: timedelta) -> None:
    """As if the account had been made so much earlier."""
    connection = await asyncpg.connect(url)
    for table, id_ in (("app_user", account.user_id), ("organization", account.organization_id)):
        await connection.execute(
            f"UPDATE {table} SET created_at = created_at - $1::interval WHERE id = $2",  # noqa: S608
            by,
            id_,
        )
    await connection.close()


async def exists(database: Database, account: NewAccount) -> tuple[bool, bool]:
    """Whether the user and the organization are there."""
    async with database.meter_transaction() as session:
        return (
            await session.scalar(select(User.id).where(User.id == account.user_id)) is not None,
            await session.get(Organization, account.organization_id) is not None,
        )


async def sweep(database: Database) -> None:
    await make_worker(database, PRODUCTION).sweep()


async def test_what_nobody_confirmed_in_a_week_goes(database: Database, database_url: str) -> None:
    stale, fresh, confirmed = [await make_account(database, verified=v) for v in (False, False, True)]
    await age(database_url, stale, WEEK)
    await age(database_url, fresh, WEEK - timedelta(minutes=1))
    await age(database_url, confirmed, 10 * WEEK)
    await sweep(database)
    assert await exists(database, stale) == (False, False)
    assert await exists(database, fresh) == (True, True)
    assert await exists(database, confirmed) == (True, True)
    async with database.meter_transaction() as session:
        for table in ("membership", "project", "meter_scope"):
            left = text(f"SELECT count(*) FROM {table} WHERE organization_id = :id")  # noqa: S608
            assert await session.scalar(left, {"id": stale.organization_id}) == 0


async def test_development_keeps_everybody_since_it_lets_everybody_in(
    database: Database, database_url: str
) -> None:
    account = await make_account(database, verified=False)
    await age(database_url, account, 10 * WEEK)
    await make_worker(database, SETTINGS).sweep()
    assert await exists(database, account) == (True, True)


async def pay(database: Database, account: NewAccount) -> None:
    async with database.meter_transaction() as session:
        await top_up(
            session,
            organization_id=account.organization_id,
            amount=Decimal(1),
            currency="USD",
            reference=new_id().hex,
        )


async def use(database: Database, account: NewAccount) -> None:
    await add_usage(
        database,
        organization_id=account.organization_id,
        project_id=account.project_id,
        api_key_id=new_id(),
        at=utc_now(),
        output_tokens=1,
    )


async def make_a_key(database: Database, account: NewAccount) -> None:
    await make_key(database, await make_keyring(database), account)


async def add_a_member(database: Database, account: NewAccount) -> None:
    other = await make_account(database)
    async with database.transaction(organization_id=account.organization_id) as session:
        session.add(Membership(organization_id=account.organization_id, user_id=other.user_id, role="member"))


async def join_another(database: Database, account: NewAccount) -> None:
    other = await make_account(database)
    async with database.transaction(organization_id=other.organization_id) as session:
        session.add(Membership(organization_id=other.organization_id, user_id=account.user_id, role="member"))


async def make_a_project(database: Database, account: NewAccount) -> None:
    async with database.transaction(organization_id=account.organization_id) as session:
        await create_project(
            session, organization_id=account.organization_id, name="Search", actor_id=account.user_id
        )


async def make_a_service_account(database: Database, account: NewAccount) -> None:
    async with database.transaction(organization_id=account.organization_id) as session:
        await create_service_account(
            session,
            organization_id=account.organization_id,
            project_id=account.project_id,
            name="Robot",
            actor_id=account.user_id,
        )


async def be_given_an_organization(database: Database, account: NewAccount) -> None:
    """By the operator, later than the sign-up."""
    organization_id = new_id()
    async with database.transaction(organization_id=organization_id) as session:
        await create_organization(
            session, organization_id=organization_id, name="Given", owner_id=account.user_id
        )


@pytest.mark.parametrize(
    "deed",
    [
        pay,
        use,
        make_a_key,
        add_a_member,
        join_another,
        make_a_project,
        make_a_service_account,
        be_given_an_organization,
    ],
)
async def test_what_somebody_may_miss_stays(database: Database, database_url: str, deed: Deed) -> None:
    account = await make_account(database, verified=False)
    await deed(database, account)
    await age(database_url, account, 10 * WEEK)
    await sweep(database)
    assert await exists(database, account) == (True, True)


async def test_an_organization_with_money_or_usage_cannot_be_deleted_at_all(database: Database) -> None:
    for deed in (pay, use):
        account = await make_account(database)
        await deed(database, account)
        async with database.meter_transaction() as session:
            await session.execute(
                text("DELETE FROM organization WHERE id = :id"), {"id": account.organization_id}
            )
        assert await exists(database, account) == (True, True)


async def confirm(session: AsyncSession, account: NewAccount) -> None:
    await session.execute(update(User).where(User.id == account.user_id).values(email_verified_at=func.now()))


async def join(session: AsyncSession, account: NewAccount) -> None:
    other = await make_tenantless_user(session)
    session.add(Membership(organization_id=account.organization_id, user_id=other, role="member"))
    await session.flush()


async def make_tenantless_user(session: AsyncSession) -> UUID:
    user = User(id=new_id(), email=an_email(), name="Grace", password_hash="!")
    session.add(user)
    await session.flush()
    return user.id


@pytest.mark.parametrize("deed", [confirm, join])
async def test_what_happens_meanwhile_is_waited_for_and_seen(
    database: Database, database_url: str, deed: Callable[[AsyncSession, NewAccount], Awaitable[None]]
) -> None:
    account = await make_account(database, verified=False)
    await age(database_url, account, WEEK)
    async with owner_transaction(database) as session:
        await deed(session, account)
        sweeping = asyncio.create_task(sweep(database))
        await until_somebody_waits(database_url)
        assert not sweeping.done()
    await sweeping
    assert await exists(database, account) == (True, True)


async def until_somebody_waits(url: str) -> None:
    """For a lock, as Postgres itself tells."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(WAIT_SECONDS):
        while not await connection.fetchval(waiting):
            pass
    await connection.close()


async def test_the_address_is_free_again(database: Database, database_url: str) -> None:
    account = await make_account(database, verified=False)
    async with database.meter_transaction() as session:
        email = await session.scalar(select(User.email).where(User.id == account.user_id))
    await age(database_url, account, WEEK)
    await sweep(database)
    again = await make_account(database, email=email)
    assert again.is_new
    assert isinstance(again.user_id, UUID)

"""Whatever can be admitted has a row of limits, from the moment it exists."""

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.keys.service import create_key
from farebox.limits.models import MeterScope
from farebox.tenants.accounts import create_account
from farebox.tenants.organizations import create_project
from tests.tenants.factories import an_email, make_account, make_keyring

OPEN = text("""
INSERT INTO meter_scope (id, organization_id, kind, balance)
VALUES (:id, :organization, 'organization', :balance)
""")


async def kinds(session: AsyncSession) -> list[str]:
    return list(await session.scalars(select(MeterScope.kind).order_by(MeterScope.kind)))


async def test_organization_project_and_key_get_theirs_in_the_transaction_that_makes_them(
    database: Database,
) -> None:
    keyring, organization_id, email = await make_keyring(database), new_id(), an_email()
    async with database.transaction(organization_id=organization_id, email=email) as session:
        account = await create_account(
            session,
            organization_id=organization_id,
            email=email,
            password_hash="!",
            name="Ada",
            organization="Acme",
        )
        assert await kinds(session) == ["organization", "project"]
        project = await create_project(
            session, organization_id=organization_id, name="Search", actor_id=account.user_id
        )
        assert await kinds(session) == ["organization", "project", "project"]
        minted = await create_key(
            session, keyring, organization_id=organization_id, project_id=project.id, name="server"
        )
        assert await kinds(session) == ["key", "organization", "project", "project"]
        ids = set(await session.scalars(select(MeterScope.id)))
    assert ids == {organization_id, account.project_id, project.id, minted.row.id}


async def test_what_is_rolled_back_leaves_none(database: Database) -> None:
    organization_id, email = new_id(), an_email()
    async with database.transaction(organization_id=organization_id, email=email) as session:
        savepoint = await session.begin_nested()
        await create_account(
            session,
            organization_id=organization_id,
            email=email,
            password_hash="!",
            name="Ada",
            organization="Acme",
        )
        await savepoint.rollback()
        assert await kinds(session) == []


@pytest.mark.parametrize(
    "deed",
    [
        "DELETE FROM meter_scope",
        "UPDATE meter_scope SET id = gen_random_uuid()",
        "UPDATE meter_scope SET organization_id = gen_random_uuid()",
        "UPDATE meter_scope SET spent = 0",
        "UPDATE meter_scope SET reserved = 0",
        "UPDATE meter_scope SET request_level = 1e9",
        "UPDATE meter_scope SET refilled_at = now()",
        "TRUNCATE meter_scope",
    ],
)
async def test_a_tenant_cannot_lose_or_mend_its_own(database: Database, deed: str) -> None:
    account = await make_account(database)
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.transaction(organization_id=account.organization_id) as session:
            await session.execute(text(deed))


async def test_the_worker_and_admission_cannot_lose_one(database: Database) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.meter_transaction() as session:
            await session.execute(text("DELETE FROM meter_scope"))


async def test_no_scope_is_opened_with_money_in_it(database: Database) -> None:
    account = await make_account(database)
    wish = {"id": new_id(), "organization": account.organization_id, "balance": 1}
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.transaction(organization_id=account.organization_id) as session:
            await session.execute(OPEN, wish)


async def test_a_scope_of_another_tenant_cannot_be_opened(database: Database) -> None:
    mine, theirs = await make_account(database), await make_account(database)
    wish = {"id": new_id(), "organization": theirs.organization_id, "balance": 0}
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.transaction(organization_id=mine.organization_id) as session:
            await session.execute(OPEN, wish)

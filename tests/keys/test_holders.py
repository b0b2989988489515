"""A key is worth no more than the place of who holds it: removed, deleted, demoted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import delete, select, update

from farebox.core.database import Database
from farebox.keys.errors import InvalidApiKey
from farebox.keys.models import ApiKey
from farebox.keys.service import authenticate, create_key
from farebox.keys.tokens import Keyring
from farebox.tenants.models import Membership
from farebox.tenants.organizations import create_service_account
from tests.tenants.factories import Tenant, make_tenant
from tests.waiting import WAIT_SECONDS


@pytest.fixture
async def owner_connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def is_revoked(database: Database, tenant: Tenant) -> bool:
    """As admission sees it, which reads the row and no membership."""
    async with database.transaction(organization_id=tenant.organization_id) as session:
        revoked_at = await session.scalar(select(ApiKey.revoked_at).where(ApiKey.id == tenant.key_id))
    return revoked_at is not None


async def remove(database: Database, tenant: Tenant) -> None:
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await session.execute(delete(Membership).where(Membership.user_id == tenant.user_id))


async def test_whoever_leaves_an_organization_leaves_no_key_behind(
    database: Database, keyring: Keyring
) -> None:
    leaver, other = await make_tenant(database, keyring), await make_tenant(database, keyring)
    await remove(database, leaver)
    assert await is_revoked(database, leaver)
    with pytest.raises(InvalidApiKey):
        await authenticate(database, keyring.verify(leaver.api_key))
    await authenticate(database, keyring.verify(other.api_key))


async def test_a_key_of_somebody_who_is_no_member_opens_nothing(
    database: Database,
    keyring: Keyring,
    owner_connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """Even if its row came back to life."""
    tenant = await make_tenant(database, keyring)
    await remove(database, tenant)
    await owner_connection.execute("UPDATE api_key SET revoked_at = NULL WHERE id = $1", tenant.key_id)
    with pytest.raises(InvalidApiKey):
        await authenticate(database, keyring.verify(tenant.api_key))


async def test_a_key_made_while_its_holder_is_being_removed_does_not_outlive_them(
    database: Database,
    keyring: Keyring,
    owner_connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    tenant = await make_tenant(database, keyring)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        minted = await create_key(
            session,
            keyring,
            organization_id=tenant.organization_id,
            project_id=tenant.project_id,
            name="late",
            user_id=tenant.user_id,
        )
        removing = asyncio.create_task(remove(database, tenant))
        async with asyncio.timeout(WAIT_SECONDS):
            while not await owner_connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not removing.done(), "nothing kept the removal from overtaking the new key"
    await removing
    assert await is_revoked(database, replace(tenant, key_id=minted.row.id))


async def test_a_deleted_user_leaves_no_key_behind(
    database: Database,
    keyring: Keyring,
    owner_connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    tenant = await make_tenant(database, keyring)
    await owner_connection.execute("DELETE FROM app_user WHERE id = $1", tenant.user_id)
    assert await is_revoked(database, tenant)
    with pytest.raises(InvalidApiKey):
        await authenticate(database, keyring.verify(tenant.api_key))


async def test_keys_that_no_person_holds_stay(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    organization_id = tenant.organization_id
    place: dict[str, Any] = {"organization_id": organization_id, "project_id": tenant.project_id}
    async with database.transaction(organization_id=organization_id) as session:
        robot = await create_service_account(session, **place, name="Robot", actor_id=None)
        minted = [
            await create_key(session, keyring, **place, **holder)
            for holder in ({"name": "robot", "service_account_id": robot.id}, {"name": "operator"})
        ]
    await remove(database, tenant)
    for each in minted:
        await authenticate(database, keyring.verify(each.token))


async def test_who_is_no_administrator_any_more_has_no_key_that_is(
    database: Database, keyring: Keyring
) -> None:
    tenant = await make_tenant(database, keyring)
    for role, scopes in (
        ("admin", {"inference", "admin"}),
        ("member", {"inference"}),
        ("owner", {"inference", "admin"}),
    ):
        async with database.transaction(organization_id=tenant.organization_id) as session:
            await session.execute(update(Membership).values(role=role))
        assert (await authenticate(database, keyring.verify(tenant.api_key))).scopes == scopes

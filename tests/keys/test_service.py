"""Keys through their service: shown once, bounded, and judged by their row."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.errors import BadRequest, NotFound
from farebox.core.ids import external, new_id
from farebox.keys.errors import InvalidApiKey
from farebox.keys.models import ApiKey
from farebox.keys.service import authenticate, create_key, list_keys, revoke_key
from farebox.keys.tokens import Keyring
from farebox.tenants.audit import list_events
from farebox.tenants.models import Organization
from farebox.tenants.organizations import archive_project, create_service_account
from tests.keys.forge import Forge
from tests.owner import owner_transaction
from tests.tenants.factories import Tenant, make_key, make_tenant

Deed = Callable[[AsyncSession, Tenant], Awaitable[object]]


async def make(database: Database, keyring: Keyring, tenant: Tenant, **changes: Any) -> Any:
    wishes: dict[str, Any] = {"project_id": tenant.project_id, "name": "CI"} | changes
    async with database.transaction(organization_id=tenant.organization_id) as session:
        return await create_key(session, keyring, organization_id=tenant.organization_id, **wishes)


async def revoke(session: AsyncSession, tenant: Tenant) -> None:
    await revoke_key(
        session, organization_id=tenant.organization_id, key_id=tenant.key_id, actor_id=tenant.user_id
    )


async def archive(session: AsyncSession, tenant: Tenant) -> None:
    await archive_project(
        session,
        organization_id=tenant.organization_id,
        project_id=tenant.project_id,
        actor_id=tenant.user_id,
    )


async def expire(session: AsyncSession, tenant: Tenant) -> None:
    moment = utc_now() - timedelta(seconds=1)
    await session.execute(update(ApiKey).where(ApiKey.id == tenant.key_id).values(expires_at=moment))


async def suspend(session: AsyncSession, tenant: Tenant) -> None:
    await session.execute(
        update(Organization).where(Organization.id == tenant.organization_id).values(status="suspended")
    )


@pytest.mark.parametrize("deed", [revoke, archive, expire, suspend])
async def test_the_row_ends_a_key_that_still_verifies(
    database: Database, keyring: Keyring, deed: Deed
) -> None:
    tenant = await make_tenant(database, keyring)
    claims = keyring.verify(tenant.api_key)
    principal = await authenticate(database, claims)
    assert (principal.key_id, principal.organization_id) == (tenant.key_id, tenant.organization_id)
    assert principal.scopes == {"inference", "admin"}
    async with owner_transaction(database) as session:
        await deed(session, tenant)
    with pytest.raises(InvalidApiKey) as refusal:
        await authenticate(database, keyring.verify(tenant.api_key))
    assert refusal.value.envelope(None) == InvalidApiKey().envelope(None)


async def test_a_stolen_signing_key_opens_nothing_without_a_row(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    forge = await Forge.open(database)
    same_ids = forge.claims_of(tenant.key_id, tenant.organization_id, tenant.project_id)
    for claims in (same_ids, forge.claims()):
        verified = keyring.verify(forge.token(forge.header(), claims))
        with pytest.raises(InvalidApiKey):
            await authenticate(database, verified)
    await authenticate(database, keyring.verify(tenant.api_key))


async def test_a_deleted_row_ends_its_key(database: Database, database_url: str, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    owner = await asyncpg.connect(database_url)
    await owner.execute("DELETE FROM api_key WHERE id = $1", tenant.key_id)
    await owner.close()
    with pytest.raises(InvalidApiKey):
        await authenticate(database, keyring.verify(tenant.api_key))


async def test_the_token_is_not_in_the_database(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        stored = await session.scalar(
            text("SELECT string_agg(row_to_json(api_key)::text, '') FROM api_key WHERE id = :id"),
            {"id": tenant.key_id},
        )
        (row,) = await list_keys(session, organization_id=tenant.organization_id)
    signature = tenant.api_key.rpartition(".")[2]
    assert stored is not None
    assert tenant.api_key not in stored
    assert signature not in stored
    assert row.token_sha256 == keyring.verify(tenant.api_key).digest
    assert row.last_four == tenant.api_key[-4:]


async def test_a_key_of_a_service_account_names_it(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        account = await create_service_account(
            session,
            organization_id=tenant.organization_id,
            project_id=tenant.project_id,
            name="Robot",
            actor_id=tenant.user_id,
        )
    minted = await make(
        database, keyring, tenant, service_account_id=account.id, models=["b", "a", "a"], scopes=["inference"]
    )
    principal = await authenticate(database, keyring.verify(minted.token))
    assert (principal.user_id, principal.service_account_id) == (None, account.id)
    assert principal.models == frozenset({"a", "b"})
    assert principal.scopes == {"inference"}


@pytest.mark.parametrize(
    "wish",
    [
        {"name": ""},
        {"name": " \t"},
        {"name": "a" * 101},
        {"name": "nul\x00"},
        {"scopes": []},
        {"scopes": ["inference", "root"]},
        {"models": []},
        {"models": ["x" * 257]},
        {"models": ["nul\x00"]},
        {"models": [f"m{n}" for n in range(101)]},
        {"lifetime": timedelta(seconds=59)},
        {"lifetime": timedelta(days=-1)},
        {"lifetime": timedelta(days=100_000)},
    ],
    ids=str,
)
async def test_a_bad_wish_makes_no_key(database: Database, keyring: Keyring, wish: dict[str, Any]) -> None:
    tenant = await make_tenant(database, keyring)
    with pytest.raises(BadRequest):
        await make(database, keyring, tenant, **wish)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        assert len(await list_keys(session, organization_id=tenant.organization_id)) == 1


async def test_what_belongs_to_others_is_as_absent_as_what_does_not_exist(
    database: Database, keyring: Keyring
) -> None:
    mine, theirs = await make_tenant(database, keyring), await make_tenant(database, keyring)
    refusals = []
    for project_id in (theirs.project_id, new_id()):
        with pytest.raises(NotFound) as refusal:
            await make(database, keyring, mine, project_id=project_id)
        refusals.append(refusal.value.envelope(None))
    assert refusals[0] == refusals[1]
    for user_id in (theirs.user_id, new_id()):
        with pytest.raises(NotFound) as refusal:
            await make(database, keyring, mine, user_id=user_id)
        refusals.append(refusal.value.envelope(None))
    assert refusals[2] == refusals[3]
    for key_id in (theirs.key_id, new_id()):
        with pytest.raises(NotFound) as refusal:
            async with database.transaction(organization_id=mine.organization_id) as session:
                await revoke_key(
                    session, organization_id=mine.organization_id, key_id=key_id, actor_id=mine.user_id
                )
        refusals.append(refusal.value.envelope(None))
    assert refusals[4] == refusals[5]
    async with database.transaction(organization_id=mine.organization_id) as session:
        assert await list_keys(session, organization_id=theirs.organization_id) == []
    await authenticate(database, keyring.verify(theirs.api_key))


async def test_an_archived_project_takes_no_new_key(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await archive(session, tenant)
        await archive(session, tenant)
    with pytest.raises(NotFound):
        await make(database, keyring, tenant)


async def test_each_deed_is_audited_once(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    for _ in range(2):
        async with database.transaction(organization_id=tenant.organization_id) as session:
            await revoke(session, tenant)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        events = await list_events(session, tenant.organization_id)
    key = external("key", tenant.key_id)
    about_the_key = [(event.action, event.actor_id) for event in events if event.target == key]
    assert about_the_key == [("key.revoked", tenant.user_id), ("key.created", tenant.user_id)]
    assert tenant.api_key not in str([event.detail for event in events])


async def test_use_is_noted_but_not_each_time(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    seen = []
    for _ in range(2):
        await authenticate(database, keyring.verify(tenant.api_key))
        async with database.transaction(organization_id=tenant.organization_id) as session:
            (row,) = await list_keys(session, organization_id=tenant.organization_id)
            seen.append(row.last_used_at)
    assert seen[0] is not None
    assert seen[0] == seen[1]


async def test_keys_are_listed_newest_first_and_by_project(database: Database, keyring: Keyring) -> None:
    tenant = await make_tenant(database, keyring)
    second = (await make_key(database, keyring, tenant)).row.id
    async with database.transaction(organization_id=tenant.organization_id) as session:
        everywhere = await list_keys(session, organization_id=tenant.organization_id)
        here = await list_keys(session, organization_id=tenant.organization_id, project_id=tenant.project_id)
        nowhere = await list_keys(session, organization_id=tenant.organization_id, project_id=new_id())
    assert [row.id for row in everywhere] == [row.id for row in here] == [second, tenant.key_id]
    assert nowhere == []

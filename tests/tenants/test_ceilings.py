"""No more projects and keys than the operator allows, however many are made at a time."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import select, text

from farebox.core.database import Database
from farebox.core.errors import Conflict
from farebox.keys.service import create_key, list_keys, revoke_key
from farebox.tenants.models import Organization
from farebox.tenants.organizations import archive_project, create_project, list_projects
from tests.owner import owner_transaction
from tests.tenants.factories import make_account, make_keyring
from tests.waiting import eventually


async def test_projects_made_at_the_same_time_stay_below_the_ceiling(database: Database) -> None:
    account = await make_account(database)
    organization_id = account.organization_id

    async def make() -> None:
        async with database.transaction(organization_id=organization_id) as session:
            await create_project(
                session, organization_id=organization_id, name="p", actor_id=account.user_id, at_most=3
            )

    made = await asyncio.gather(*[make() for _ in range(8)], return_exceptions=True)
    refused = [error for error in made if isinstance(error, Conflict)]
    assert (made.count(None), len(refused)) == (2, 6)
    assert "3 projects" in str(refused[0])
    async with database.transaction(organization_id=organization_id) as session:
        projects = await list_projects(session, organization_id)
        assert len(projects) == 3
        await archive_project(
            session, organization_id=organization_id, project_id=projects[-1].id, actor_id=account.user_id
        )
    await make()


async def test_keys_count_while_they_live_and_for_a_day(database: Database) -> None:
    account, keyring = await make_account(database), await make_keyring(database)
    organization_id = account.organization_id

    async def make() -> None:
        async with database.transaction(organization_id=organization_id) as session:
            await create_key(
                session,
                keyring,
                organization_id=organization_id,
                project_id=account.project_id,
                name="k",
                user_id=account.user_id,
                at_most=4,
            )

    made = await asyncio.gather(*[make() for _ in range(6)], return_exceptions=True)
    assert sum(isinstance(error, Conflict) for error in made) == 2
    async with database.transaction(organization_id=organization_id) as session:
        keys = await list_keys(session, organization_id=organization_id)
        assert len(keys) == 4
        await revoke_key(session, organization_id=organization_id, key_id=keys[0].id, actor_id=None)
    with pytest.raises(Conflict, match="4 API keys"):
        await make()


async def test_keys_of_two_projects_are_made_at_the_same_time(database: Database) -> None:
    account, keyring = await make_account(database), await make_keyring(database)
    organization_id = account.organization_id
    async with database.transaction(organization_id=organization_id) as session:
        other = await create_project(session, organization_id=organization_id, name="p", actor_id=None)

    async def make(project_id: UUID) -> None:
        async with database.transaction(organization_id=organization_id) as session:
            await create_key(
                session,
                keyring,
                organization_id=organization_id,
                project_id=project_id,
                name="k",
                at_most=100,
            )

    async with owner_transaction(database) as owner:
        # Both come to the lock of their organization before either has it.
        await owner.execute(
            select(Organization.id).where(Organization.id == organization_id).with_for_update()
        )
        makers = [asyncio.create_task(make(each)) for each in (account.project_id, other.id)]

        async def both_wait() -> bool:
            waiting = await owner.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            return bool(waiting == len(makers))

        await eventually(both_wait)
    await asyncio.gather(*makers)
    async with database.transaction(organization_id=organization_id) as session:
        assert len(await list_keys(session, organization_id=organization_id)) == len(makers)

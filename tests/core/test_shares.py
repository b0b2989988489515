"""The way to Postgres: a tenant's reports take its own share of the connections, and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.ids import new_id
from farebox.keys.service import authenticate
from farebox.keys.tokens import Keyring
from tests.tenants.factories import make_keyring, make_tenant


@pytest.fixture
async def narrow(database_url: str) -> AsyncIterator[Database]:
    """Four connections for the application, of which an organization may have two."""
    database = Database(database_url, pool_size=4)
    yield database
    await database.close()


async def test_one_organization_leaves_connections_to_others(narrow: Database) -> None:
    greedy, other = new_id(), new_id()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(narrow.transaction(organization_id=greedy))
        waiting = asyncio.create_task(stack.enter_async_context(narrow.transaction(organization_id=greedy)))
        async with narrow.transaction(organization_id=other) as session:
            assert await session.scalar(text("SELECT 1")) == 1
        with pytest.raises(Unavailable, match="your organization"):
            await waiting
    async with narrow.transaction(organization_id=greedy) as session:
        assert await session.scalar(text("SELECT 1")) == 1


async def test_probes_and_keys_have_connections_of_their_own(narrow: Database) -> None:
    keyring: Keyring = await make_keyring(narrow)
    tenant = await make_tenant(narrow, keyring)
    claims = await keyring.resolve(tenant.api_key)
    async with AsyncExitStack() as stack:
        for organization_id in (tenant.organization_id, new_id()):
            for _ in range(2):
                await stack.enter_async_context(narrow.transaction(organization_id=organization_id))
        await asyncio.gather(*[narrow.probe() for _ in range(20)])
        principal = await authenticate(narrow, claims)
    assert principal.key_id == tenant.key_id

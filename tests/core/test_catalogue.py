"""What Postgres itself says of the walls between tenants and people, whatever migrations come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from farebox.auth import links, sessions
from farebox.cli.migrations import add_partitions
from farebox.core.database import Database, open_connection
from tests.conftest import ROOT
from tests.core.test_database import UNPROTECTED
from tests.tenants.factories import make_account

Connection: TypeAlias = "asyncpg.Connection[Any]"

# A key that could point at another tenant's row: both ends have an organization, the constraint has none.
CROSSING_KEYS = """
SELECT c.conname
FROM pg_constraint c
JOIN pg_attribute here ON here.attrelid = c.conrelid AND here.attname = 'organization_id'
JOIN pg_attribute there ON there.attrelid = c.confrelid AND there.attname = 'organization_id'
WHERE c.contype = 'f' AND NOT (here.attnum = ANY (c.conkey) AND there.attnum = ANY (c.confkey))
"""
TENANT_KEYS = """
SELECT count(*) FROM pg_constraint c
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = 'organization_id'
WHERE c.contype = 'f' AND a.attnum = ANY (c.conkey)
"""
# Policies are of a table: whatever else can be read by the application must carry none of its rows out.
OTHER_WINDOWS = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('v', 'm', 'f')
"""
GIVEN_TO_ALL = """
SELECT c.relname FROM pg_class c, aclexplode(c.relacl) AS a
WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = 0
"""
# Row-level security does not hold TRUNCATE, nor a foreign key's look (REFERENCES), nor a trigger.
PAST_THE_POLICIES = """
SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(c.relacl) AS a
WHERE c.relnamespace = 'public'::regnamespace
  AND a.grantee IN ('farebox_app'::regrole, 'farebox_meter'::regrole)
  AND a.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
"""
# Whoever may write a whole table may write the columns that it gets tomorrow.
WRITTEN_WHOLE = """
SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(c.relacl) AS a
WHERE c.relnamespace = 'public'::regnamespace AND a.grantee = 'farebox_app'::regrole
  AND a.privilege_type IN ('INSERT', 'UPDATE')
"""
READABLE = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND has_table_privilege('farebox_app', c.oid, 'SELECT')
"""
# What is no tenant's and no person's: the revision, models and prices, sealed keys, counts under hashes, and
# hashes over all tenants' hours.
OF_NOBODY = {"alembic_version", "model", "model_weights", "price", "signing_key", "sign_in_throttle"} | {
    "usage_seal"
}


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_no_foreign_key_crosses_from_one_tenant_to_another(owner: Connection) -> None:
    assert await owner.fetchval(TENANT_KEYS) >= 5
    assert await owner.fetch(CROSSING_KEYS) == []


@pytest.mark.parametrize("question", [OTHER_WINDOWS, GIVEN_TO_ALL, PAST_THE_POLICIES, WRITTEN_WHOLE])
async def test_there_is_no_way_around_the_policies(owner: Connection, question: str) -> None:
    assert await owner.fetch(question) == []


async def test_without_a_tenant_or_a_person_every_table_is_empty_to_the_application(
    owner: Connection, database: Database, database_url: str
) -> None:
    account = await make_account(database)
    async with database.transaction(user_id=account.user_id) as session:
        await sessions.create(session, account.user_id)
        await links.mint_token(session, account.user_id, "reset")
    tables = {row["relname"] for row in await owner.fetch(READABLE)} - OF_NOBODY
    assert {"app_user", "user_session", "email_token", "membership", "usage_event"} <= tables
    application = await open_connection(database_url, "farebox_app")
    for table in tables:
        assert await application.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608
    await application.close()


@pytest.fixture
async def partitioned_url(owner: Connection, database_url: str) -> AsyncIterator[str]:
    await owner.execute("CREATE DATABASE partitioned")
    yield make_url(database_url).set(database="partitioned").render_as_string(hide_password=False)
    await owner.execute("DROP DATABASE partitioned WITH (FORCE)")


async def test_the_partitions_of_months_to_come_are_walled_in_too(partitioned_url: str) -> None:
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = partitioned_url
    await asyncio.to_thread(command.upgrade, config, "head")
    owner = await asyncpg.connect(partitioned_url)
    partitions = await add_partitions(owner)
    assert len(partitions) >= 24
    assert await owner.fetch(UNPROTECTED) == []
    application = await open_connection(partitioned_url, "farebox_app")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.fetch(f"SELECT * FROM {partitions[0]}")  # noqa: S608
    await application.close()
    await owner.close()

"""The promises that every domain leans on: tenants apart, roles without power, one schema."""

from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from farebox.core.database import Database, open_connection
from farebox.core.ids import new_id
from farebox.tenants.models import Organization, Project

UNPROTECTED = """
SELECT c.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p')
  AND c.relname <> 'price'  -- everybody's and some customers' own: tests/billing/test_tiers.py
  AND NOT (
    c.relrowsecurity AND c.relforcerowsecurity
    AND EXISTS (
        SELECT FROM pg_policy p
        WHERE p.polrelid = c.oid AND p.polcmd = '*'
          AND p.polroles = ARRAY['farebox_app'::regrole::oid]
          AND pg_get_expr(p.polqual, p.polrelid) = '(organization_id = current_organization())'
          AND pg_get_expr(p.polwithcheck, p.polrelid) = '(organization_id = current_organization())'
    )
  )
"""

POWERS = """
SELECT rolname, rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole AS powerful,
       (SELECT count(*) FROM pg_class WHERE relowner = r.oid) AS owned
FROM pg_roles r WHERE rolname IN ('farebox_app', 'farebox_meter')
"""


async def add_organization(database: Database, name: str = "Acme") -> UUID:
    organization_id = new_id()
    async with database.transaction(organization_id=organization_id) as session:
        session.add(Organization(id=organization_id, name=name))
        await session.flush()
        session.add(Project(id=new_id(), organization_id=organization_id, name="Default"))
    return organization_id


async def test_every_tenant_table_forces_row_level_security(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    tables = await connection.fetchval(
        "SELECT count(*) FROM information_schema.columns"
        " WHERE column_name = 'organization_id' AND table_schema = 'public'"
    )
    assert tables >= 10
    assert await connection.fetch(UNPROTECTED) == []
    await connection.close()


async def test_application_roles_own_nothing_and_may_nothing(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(POWERS)
    assert {(row["powerful"], row["owned"]) for row in rows} == {(False, 0)}
    assert len(rows) == 2
    functions = await connection.fetch(
        "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    )
    assert functions == [], "a SECURITY DEFINER function would run as the owner, past every policy"
    await connection.close()


async def test_a_tenant_sees_and_writes_only_its_own_rows(database: Database) -> None:
    mine, theirs = await add_organization(database), await add_organization(database)
    async with database.transaction(organization_id=mine) as session:
        assert (await session.scalars(select(Project.organization_id))).all() == [mine]
        assert await session.get(Organization, theirs) is None
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.transaction(organization_id=mine) as session:
            session.add(Project(id=new_id(), organization_id=theirs, name="Trespass"))


async def test_without_a_tenant_nothing_is_visible(database: Database) -> None:
    await add_organization(database)
    async with database.transaction() as session:
        for table in ("organization", "project", "api_key", "usage_event", "meter_scope", "ledger_transfer"):
            assert await session.scalar(select(func.count()).select_from(text(table))) == 0


async def test_a_tenant_cannot_touch_its_own_balance(database: Database) -> None:
    mine = await add_organization(database)
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.transaction(organization_id=mine) as session:
            await session.execute(text("UPDATE meter_scope SET balance = 1000000"))


async def test_the_tenant_does_not_leak_to_the_next_transaction_of_the_connection(database_url: str) -> None:
    database = Database(database_url, pool_size=1)
    mine = await add_organization(database)
    async with database.transaction(organization_id=mine) as session:
        assert await session.scalar(select(func.count()).select_from(Project)) == 1
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(Project)) == 0
    await database.close()


async def test_the_fast_connection_is_unprivileged_too(database_url: str) -> None:
    connection = await open_connection(database_url, "farebox_meter")
    assert await connection.fetchval("SELECT current_user") == "farebox_meter"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM usage_event")
    await connection.close()

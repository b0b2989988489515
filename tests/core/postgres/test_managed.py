"""A Postgres that somebody else runs: the tables' owner is no superuser, and the server another login."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from farebox.cli.assembly import make_worker
from farebox.cli.migrations import migrate_database
from farebox.core.database import Database
from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.tenants.models import Project
from tests.tenants.factories import SETTINGS, make_account

LOGINS = """
CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'x';
CREATE ROLE server LOGIN PASSWORD 'x';
"""


@pytest.fixture(scope="module")
def superuser_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("managed") / "data") as postgres:
        yield postgres.url


@pytest.fixture(scope="module")
async def owner_url(superuser_url: str) -> AsyncIterator[str]:
    """A migrated database, by the URL of an owner who may make roles and no more."""
    superuser = await asyncpg.connect(superuser_url)
    await superuser.execute(LOGINS)
    await superuser.execute("CREATE DATABASE managed OWNER owner")
    url = login(superuser_url, "owner")
    await asyncio.to_thread(migrate_database, url)
    yield url
    await superuser.close()


def login(url: str, name: str) -> str:
    wanted = make_url(url).set(username=name, password="x", database="managed")
    return wanted.render_as_string(hide_password=False)


async def assert_it_works(url: str) -> None:
    database = Database(url)
    mine, theirs = await make_account(database), await make_account(database)
    async with database.transaction(organization_id=mine.organization_id) as session:
        assert await session.scalar(select(func.current_user())) == "farebox_app"
        assert list(await session.scalars(select(Project.id))) == [mine.project_id]
    async with database.meter_transaction() as session:
        seen = set(await session.scalars(select(Project.id)))
    assert {mine.project_id, theirs.project_id} <= seen
    await make_worker(database, SETTINGS).sweep()
    await database.close()


async def test_an_owner_without_other_powers_can_migrate_and_serve(owner_url: str) -> None:
    await assert_it_works(owner_url)


async def test_a_server_may_have_a_login_that_owns_nothing(owner_url: str) -> None:
    owner = await asyncpg.connect(owner_url)
    await owner.execute("GRANT farebox_app, farebox_meter TO server")
    await owner.close()
    url = login(owner_url, "server")
    await assert_it_works(url)
    server = await asyncpg.connect(url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await server.execute("ALTER TABLE project DISABLE ROW LEVEL SECURITY")
    await server.close()


async def test_migrating_again_as_that_owner_changes_nothing(owner_url: str) -> None:
    again = await asyncio.to_thread(migrate_database, owner_url)
    assert (again.before, again.partitions) == (again.after, [])

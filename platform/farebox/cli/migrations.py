"""The schema at its newest revision, and partitions for the months to come."""

import asyncio
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, ProgrammingError

from farebox.cli.errors import CommandFailed
from farebox.core.database import plain_dsn
from farebox.core.sql import statements

CONNECT_SECONDS = 10
MONTHS_AHEAD = 24
PARTITION = "usage_event_{:%Y_%m}"

# Replicas that start together must not migrate together.
_LOCK = "SELECT pg_advisory_lock(hashtextextended('farebox.migrate', 0))"
_DENIED = asyncpg.InsufficientPrivilegeError.sqlstate
_REVISION = "SELECT version_num FROM alembic_version"
_MONTHS = """
SELECT month::date FROM generate_series(
    date_trunc('month', now() AT TIME ZONE 'UTC'),
    date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $1),
    interval '1 month'
) AS month
"""
# Servers, the worker and `farebox doctor` log in as somebody who owns nothing, and ask for the revision.
_SHOW_REVISION = "GRANT SELECT ON alembic_version TO farebox_app, farebox_meter"
# The revisions of the chain before the first release; those of today have names behind their numbers.
_FIRST_CHAIN = re.compile(r"\d{4}")
# As migration 0007 protects the table itself: without these, whoever may read a partition directly
# would read past the policies of its parent.
_PARTITION = """
CREATE TABLE {name} PARTITION OF usage_event
    FOR VALUES FROM ('{first} 00:00:00+00') TO ('{next} 00:00:00+00');
ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {name} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {name} TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON {name} TO farebox_meter USING (true) WITH CHECK (true);
"""

log = structlog.get_logger(__name__)


class DatabaseAway(CommandFailed):
    """Postgres cannot be reached, or does not let us in."""


class SchemaMismatch(CommandFailed):
    """The database's schema is not the one this version of the code is made for."""


class NotPermitted(CommandFailed):
    """The role that logs in lacks a right in Postgres; the message says which statement gives it."""


@dataclass(frozen=True)
class Migrated:
    """`revision` before and after, and the partitions that were added."""

    before: str | None
    after: str
    partitions: list[str]


def migrate_database(url: str) -> Migrated:
    """Upgrade to the newest revision and add monthly partitions. Must be called outside an event loop.

    Raises DatabaseAway, NotPermitted, and SchemaMismatch for a database of revisions that are none of this
    version's.
    """
    return asyncio.run(_migrate(url))


def newest_revision() -> str:
    """The revision this version of the code is made for."""
    head = _scripts().get_current_head()
    assert head is not None  # noqa: S101  there is always a first migration
    return head


def how_to_go_on(present: str | None) -> str | None:
    """Advice for a database at a revision that this version does not know; None when it knows it."""
    if present is None or present in {script.revision for script in _scripts().walk_revisions()}:
        return None
    if _FIRST_CHAIN.fullmatch(present):
        return (
            "It was made before the first release, whose migrations begin anew: no migration leads from there"
            " to here. Begin with an empty database. Of the embedded Postgres, move the folder `postgres` in"
            " FAREBOX_DATA away; the next start makes a new one."
        )
    return "A newer Farebox has migrated it: run that version, or restore a backup from before."


def alembic_config(url: str | None = None) -> Config:
    """Alembic's configuration; the scripts lie in the wheel, or at the top of the checkout."""
    package = Path(__file__).parents[1]
    packaged = package / "migrations"
    scripts = packaged if packaged.is_dir() else package.parents[1] / "migrations"
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


async def current_revision(connection: "asyncpg.Connection[Any]") -> str | None:
    """The revision of a database; None before the first migration. Raises NotPermitted."""
    try:
        revision: str | None = await connection.fetchval(_REVISION)
    except asyncpg.UndefinedTableError:
        return None
    except asyncpg.InsufficientPrivilegeError:
        user = await connection.fetchval("SELECT quote_ident(current_user)")
        raise NotPermitted(
            f"{user} may not read Farebox's tables. As their owner, run `farebox migrate`, and then in"
            f" Postgres: GRANT farebox_app, farebox_meter TO {user};"
        ) from None
    return revision


async def connect(url: str) -> "asyncpg.Connection[Any]":
    """A connection as the user that `url` names. Raises DatabaseAway; its message holds no password."""
    try:
        return await asyncpg.connect(plain_dsn(url), timeout=CONNECT_SECONDS)
    except (ArgumentError, ValueError) as error:
        raise DatabaseAway(
            f"FAREBOX_DATABASE_URL is no postgresql:// address: {type(error).__name__}."
        ) from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        place = make_url(url).render_as_string(hide_password=True)
        raise DatabaseAway(
            f"The database {place} cannot be used: {str(error) or 'it does not answer'}."
            " Check FAREBOX_DATABASE_URL, and that its server takes connections from here."
        ) from None


async def require_newest(url: str) -> None:
    """Raises SchemaMismatch unless the database is at the newest revision, DatabaseAway without one."""
    connection = await connect(url)
    try:
        present, newest = await current_revision(connection), newest_revision()
    finally:
        await connection.close()
    if present != newest:
        raise SchemaMismatch(
            f"The database is at revision {present or 'none'}, and this version of Farebox needs {newest}."
            f" {how_to_go_on(present) or 'Run `farebox migrate`.'}"
        )


async def _migrate(url: str) -> Migrated:
    connection = await connect(url)
    try:
        await connection.execute(_LOCK)
        before, after = await current_revision(connection), newest_revision()
        if (advice := how_to_go_on(before)) is not None:
            raise SchemaMismatch(
                f"The database is at revision {before}, which this version of Farebox cannot migrate."
                f" {advice}"
            )
        if before != after:
            # In a thread, because Alembic's environment runs an event loop of its own.
            await asyncio.to_thread(command.upgrade, alembic_config(url), "head")
        await connection.execute(_SHOW_REVISION)
        return Migrated(before, after, await add_partitions(connection))
    except (asyncpg.InsufficientPrivilegeError, ProgrammingError) as error:
        if getattr(error.orig if isinstance(error, ProgrammingError) else error, "sqlstate", None) != _DENIED:
            raise
        raise await _not_permitted(connection, error) from None
    finally:
        await connection.close()


async def _not_permitted(connection: "asyncpg.Connection[Any]", error: Exception) -> NotPermitted:
    """Why whoever logs in cannot migrate, and what a superuser of Postgres can do about it."""
    user, database = await connection.fetchrow(
        "SELECT quote_ident(current_user), quote_ident(current_database())"
    )
    complaint = re.sub(r"^(\(.*?\) )?(<.*>: )?", "", str(error).splitlines()[0])
    return NotPermitted(
        f"{user} cannot migrate: {complaint}. FAREBOX_DATABASE_ADMIN_URL must name the owner of the database,"
        " who needs CREATEROLE for the first time. A superuser of Postgres can do instead:"
        f" ALTER DATABASE {database} OWNER TO {user}; CREATE ROLE farebox_app; CREATE ROLE farebox_meter;"
        f" GRANT farebox_app, farebox_meter TO {user};"
    )


async def add_partitions(connection: "asyncpg.Connection[Any]") -> list[str]:
    """Give `usage_event` a partition for this month and each of the next 24, where it lacks one."""
    months: list[date] = [row["month"] for row in await connection.fetch(_MONTHS, MONTHS_AHEAD + 1)]
    added = []
    for month, following in zip(months, months[1:], strict=False):
        name = PARTITION.format(month)
        if await connection.fetchval("SELECT to_regclass($1)", name) is None and await _add_partition(
            connection, name, month, following
        ):
            added.append(name)
    return added


async def _add_partition(
    connection: "asyncpg.Connection[Any]", name: str, first: date, following: date
) -> bool:
    try:
        async with connection.transaction():
            # Behind a long transaction, wait briefly: what queues behind this waits, too.
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            for statement in statements(_PARTITION.format(name=name, first=first, next=following)):
                await connection.execute(statement)
    except asyncpg.CheckViolationError:
        # The month began before it had a partition, and its events lie in the default one: they
        # are found and billed there just as well.
        log.warning("migrate.month_stays_in_default_partition", month=name)
        return False
    return True

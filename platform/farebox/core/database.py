"""Sessions and transactions. `commit` appears only in `farebox.core`.

Three Postgres roles, none of which owns a table or bypasses row-level security:

- `farebox_app`    one tenant and one person at a time, set per transaction (`farebox.organization_id`,
                   `farebox.user_id`; before the person is known `farebox.email`, `farebox.token_sha256`);
- `farebox_meter`  admission, settlement and the worker: all tenants, few tables;
- the owner        runs migrations, and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from sqlalchemy import DateTime, MetaData, event, func, select, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from farebox.core.errors import Unavailable
from farebox.core.shares import Shares

Role = Literal["farebox_app", "farebox_meter"]
# What a connection is for: each has a pool of its own, so that none waits for another.
Way = Literal["app", "key", "probe", "meter"]

COMMAND_TIMEOUT_SECONDS = 3.0
CONNECT_TIMEOUT_SECONDS = 2.0
POOL_TIMEOUT_SECONDS = 2.0
KEY_CONNECTIONS = 4
LONG_READING_SECONDS = 3600.0
# What is added up and sorted is large. Between two answers the reader may compute, or hold a lock, for hours.
_LONG_READING = {"work_mem": "128MB", "idle_in_transaction_session_timeout": "0"}
_CLOCK = "farebox.clock"
_CANCELLED = ("57014",)
_AWAY = ("08", "25006", "53", "57", "58")
_CONTENDED = ("40", "55", *_CANCELLED)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

_SET_CONTEXT = text(
    "SELECT set_config('farebox.organization_id', :organization, true),"
    " set_config('farebox.user_id', :user, true), set_config('farebox.email', :email, true),"
    " set_config('farebox.token_sha256', :token, true)"
)


# The type of every column that holds a point in time.
MOMENT = DateTime(timezone=True)


class Model(DeclarativeBase):
    """What every table's class derives from; Alembic compares its metadata with the database."""

    metadata = MetaData(naming_convention=NAMING)


class StatementCancelled(Unavailable):
    """Postgres ended a statement: it took longer than it may (`statement_timeout`), or somebody ended it."""

    def __init__(self) -> None:
        super().__init__("The database is busy; please try again.")


class Database:
    """The way to Postgres for everything but the metering hot path (see `open_connection`)."""

    def __init__(self, url: str, *, pool_size: int = 8, clock: Callable[[], datetime] | None = None) -> None:
        """`clock` is what `time_told` asks."""
        self.url = url
        self._engines: dict[Way, AsyncEngine] = {
            "app": _make_engine(url, "farebox_app", pool_size),
            "key": _make_engine(url, "farebox_app", KEY_CONNECTIONS),
            "probe": _make_engine(url, "farebox_app", 1),
            "meter": _make_engine(url, "farebox_meter", max(2, pool_size // 4)),
        }
        self._sessions = {
            way: async_sessionmaker(engine, expire_on_commit=False, info={_CLOCK: clock})
            for way, engine in self._engines.items()
        }
        self._shares: dict[Way, Shares] = {"app": Shares(max(2, pool_size // 4)), "key": Shares(2)}
        self._probe: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def transaction(
        self,
        *,
        organization_id: UUID | None = None,
        user_id: UUID | None = None,
        email: str | None = None,
        token_sha256: bytes | None = None,
        way: Literal["app", "key"] = "app",
    ) -> AsyncIterator[AsyncSession]:
        """One transaction as `farebox_app`, seeing only the given organization's and user's rows.

        Whoever is not known yet is found by what they show: `email` is the address in its clean form,
        `token_sha256` the digest of a session's or mailed link's token. Each opens the rows of that person,
        or of that token, and no other's (ADR 19).

        Commits on a clean exit, rolls back on any exception. Raises Unavailable when Postgres is away, and
        when others of the same organization have its share of the connections for too long. The way `key`
        is for reading one key's row, and what its holder is told at once: its connections wait for no report.
        """
        async with self._shares[way].of(organization_id), self._begin(way) as session:
            await session.execute(
                _SET_CONTEXT,
                {
                    "organization": str(organization_id) if organization_id else "",
                    "user": str(user_id) if user_id else "",
                    "email": email or "",
                    "token": token_sha256.hex() if token_sha256 else "",
                },
            )
            yield session

    @asynccontextmanager
    async def meter_transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction as `farebox_meter`, for work that spans tenants (worker, operator commands)."""
        async with self._begin("meter") as session:
            yield session

    @asynccontextmanager
    async def long_reading(self, snapshot: str | None = None) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """A connection of its own as `farebox_meter`, for questions to the books that take minutes.

        It is one transaction, which reads only, and sees one moment: that of another such connection, where
        its `snapshot` is named (`pg_export_snapshot`). Raises Unavailable when Postgres is away.
        """
        try:
            connection = await asyncpg.connect(
                dsn=plain_dsn(self.url),
                timeout=CONNECT_TIMEOUT_SECONDS,
                command_timeout=LONG_READING_SECONDS,
                server_settings=_server_settings("farebox_meter") | _LONG_READING,
            )
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    if snapshot is not None:
                        await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                    yield connection
            except BaseException:
                connection.terminate()
                raise
            await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)
        except Exception as error:
            if is_away(error):
                raise Unavailable("The database is not reachable; please try again.") from error
            raise

    async def probe(self) -> None:
        """Ask Postgres for a sign of life, over a connection that nothing else uses; who asks meanwhile
        shares the answer. Raises Unavailable."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask(), name="probe")
            # Whoever asked may be gone by the time it fails.
            self._probe.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._probe)

    async def _ask(self) -> None:
        async with self._begin("probe") as session:
            await session.execute(text("SELECT 1"))

    @asynccontextmanager
    async def _begin(self, way: Way) -> AsyncIterator[AsyncSession]:
        try:
            async with self._sessions[way].begin() as session:
                yield session
        except (PoolTimeout, InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
            raise Unavailable("The database is not reachable; please try again.") from error
        except DBAPIError as error:
            if error.connection_invalidated or is_away(error.orig):
                raise Unavailable("The database is not reachable; please try again.") from error
            if _is_or_comes_of(error.orig, _CANCELLED):
                raise StatementCancelled from error
            if is_contended(error.orig):
                raise Unavailable("The database is busy; please try again.") from error
            raise

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.dispose()


def time_told(session: AsyncSession) -> datetime | None:
    """The present by the clock that the session's database was given; None where Postgres's own is to be
    asked, which all replicas share."""
    clock: Callable[[], datetime] | None = session.info[_CLOCK]
    return None if clock is None else clock()


async def present(session: AsyncSession) -> datetime:
    """The present by the clock that the session's database was given, else by Postgres's own."""
    told = time_told(session)
    return told or (await session.execute(select(func.clock_timestamp()))).scalar_one()


async def open_connection(url: str, role: Role, **server_settings: str) -> "asyncpg.Connection[Any]":
    """A plain asyncpg connection, for the statements whose cost decides requests per second.

    Not from a pool: asyncpg's pools spend a round trip on resetting each connection given back.
    `server_settings` are Postgres parameters of this connection, beside those that all have.
    """
    return await asyncpg.connect(
        dsn=plain_dsn(url),
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        server_settings=_server_settings(role) | server_settings,
    )


async def end_after(session: AsyncSession, seconds: float) -> None:
    """Have Postgres end whatever statement of this transaction takes longer: StatementCancelled. To be of
    use, it must be less than COMMAND_TIMEOUT_SECONDS, after which Postgres counts as away."""
    await session.execute(
        text("SELECT set_config('statement_timeout', :limit, true)"), {"limit": f"{int(seconds * 1000)}ms"}
    )


async def lock_briefly(session: AsyncSession) -> None:
    """To be called before locking what admission locks: should this transaction then hang, Postgres ends
    it before those who wait for the lock give up (`lock_timeout`)."""
    await session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '2s'"))


def is_away(error: BaseException | None) -> bool:
    """Whether an error means that Postgres cannot be worked with just now.

    Whatever the driver raises that is no answer of Postgres means so: between the server's farewell and the
    end of a connection, asyncpg raises InternalClientError. Of the answers, SQLSTATE 08 (connection), 25006
    (a standby), 53 (resources), 57 (operator) and 58 (system). The connection is of no more use.
    """
    while error is not None:
        if isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
            return True
        if _has_sqlstate(error, _AWAY) and not _has_sqlstate(error, _CONTENDED):
            return True
        error = error.__cause__
    return False


def is_contended(error: BaseException | None) -> bool:
    """Whether Postgres answered that others were in the way: it has changed nothing, and is well.

    SQLSTATE classes 40 (deadlock, serialization) and 55 (lock timeout), and 57014 (cancelled).
    """
    return _is_or_comes_of(error, _CONTENDED)


def _is_or_comes_of(error: BaseException | None, sqlstates: tuple[str, ...]) -> bool:
    while error is not None:
        if _has_sqlstate(error, sqlstates):
            return True
        error = error.__cause__
    return False


def _has_sqlstate(error: BaseException, prefixes: tuple[str, ...]) -> bool:
    sqlstate = getattr(error, "sqlstate", None)
    return isinstance(sqlstate, str) and sqlstate.startswith(prefixes)


def plain_dsn(url: str) -> str:
    """The URL without a SQLAlchemy driver, as asyncpg and libpq read it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _make_engine(url: str, role: Role, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": COMMAND_TIMEOUT_SECONDS,
            "server_settings": _server_settings(role),
        },
    )
    event.listen(engine.sync_engine, "handle_error", _drop_what_is_no_answer)
    return engine


def _drop_what_is_no_answer(context: ExceptionContext) -> None:
    """SQLAlchemy takes neither InternalClientError nor a farewell for the end of the connection."""
    if is_away(context.original_exception):
        context.is_disconnect = True


def _server_settings(role: Role) -> dict[str, str]:
    return {
        "role": role,
        "application_name": role,
        "timezone": "UTC",
        "jit": "off",
        "idle_in_transaction_session_timeout": "10000",
        "lock_timeout": "2500",
    }

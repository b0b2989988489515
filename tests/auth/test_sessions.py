"""Sessions: opaque, hashed, idle for half an hour, over after twelve."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from farebox.auth import sessions
from farebox.auth.models import UserSession
from farebox.auth.tasks import sweep
from farebox.auth.tokens import digest_of
from farebox.core.database import Database
from farebox.core.settings import Settings
from tests.owner import owner_transaction
from tests.tenants.factories import make_account


async def open_session(database: Database, user_id: UUID | None = None, replaces: str | None = None) -> str:
    user_id = user_id or (await make_account(database)).user_id
    showing = digest_of(replaces or "")
    async with database.transaction(user_id=user_id, token_sha256=showing) as session:
        return await sessions.create(session, user_id, replaces=replaces)


async def is_live(database: Database, token: str) -> bool:
    async with database.transaction(token_sha256=digest_of(token)) as session:
        return await sessions.lookup(session, token) is not None


async def age(database: Database, token: str, *, opened: timedelta, seen: timedelta) -> None:
    """Make it as if the session had been opened and last used so long ago."""
    async with owner_transaction(database) as session:
        await session.execute(
            update(UserSession)
            .where(UserSession.token_sha256 == digest_of(token))
            .values(expires_at=UserSession.expires_at - opened, last_seen_at=UserSession.last_seen_at - seen)
        )


async def test_only_the_hash_is_stored(database: Database) -> None:
    token = await open_session(database)
    assert len(token) >= 43
    async with owner_transaction(database) as session:
        stored = (await session.execute(text("SELECT user_session::text FROM user_session"))).scalars().all()
    assert stored
    assert token not in str(stored)
    assert token.encode().hex() not in str(stored)


@pytest.mark.parametrize(
    ("opened", "seen", "live"),
    [
        (timedelta(), timedelta(minutes=29), True),
        (timedelta(), timedelta(minutes=30), False),
        (timedelta(hours=11, minutes=59), timedelta(minutes=1), True),
        (timedelta(hours=12), timedelta(), False),
    ],
)
async def test_a_session_ends_when_idle_and_when_old(
    database: Database, opened: timedelta, seen: timedelta, live: bool
) -> None:
    token = await open_session(database)
    await age(database, token, opened=opened, seen=seen)
    assert await is_live(database, token) is live


async def test_use_keeps_a_session_alive_but_not_past_its_end(database: Database) -> None:
    token = await open_session(database)
    for _ in range(24):
        await age(database, token, opened=timedelta(minutes=29), seen=timedelta(minutes=29))
        assert await is_live(database, token)
    await age(database, token, opened=timedelta(minutes=29), seen=timedelta(minutes=29))
    assert not await is_live(database, token)


async def test_a_new_session_ends_the_one_that_the_browser_had(database: Database) -> None:
    account = await make_account(database)
    planted = await open_session(database, account.user_id)
    token = await open_session(database, account.user_id, replaces=planted)
    assert token != planted
    assert not await is_live(database, planted)
    assert await is_live(database, token)


async def test_rotation_moves_a_live_session_to_a_new_token(database: Database) -> None:
    user_id = (await make_account(database)).user_id
    token = await open_session(database, user_id)
    async with database.transaction(user_id=user_id, token_sha256=digest_of(token)) as session:
        fresh = await sessions.rotate(session, token)
    assert fresh is not None
    assert not await is_live(database, token)
    assert await is_live(database, fresh)
    async with database.transaction(user_id=user_id, token_sha256=digest_of(token)) as session:
        assert await sessions.rotate(session, token) is None


async def test_everywhere_means_everywhere_and_only_there(database: Database) -> None:
    account = await make_account(database)
    mine = [await open_session(database, account.user_id) for _ in range(2)]
    other = await open_session(database)
    async with database.transaction(user_id=account.user_id) as session:
        await sessions.end_all(session, account.user_id)
    assert [await is_live(database, token) for token in (*mine, other)] == [False, False, True]


async def test_the_sweep_takes_what_has_ended_and_nothing_else(database: Database) -> None:
    live, idle, old = [await open_session(database) for _ in range(3)]
    await age(database, idle, opened=timedelta(), seen=timedelta(minutes=31))
    await age(database, old, opened=timedelta(hours=13), seen=timedelta())
    async with database.meter_transaction() as session:
        await sweep(session)
    async with owner_transaction(database) as session:
        kept = set(await session.scalars(select(UserSession.token_sha256)))
    digests = [digest_of(token) for token in (live, idle, old)]
    assert [digest in kept for digest in digests] == [True, False, False]


def test_production_binds_the_cookie_to_its_host() -> None:
    settings = Settings(env="production", secret_key="x" * 32, base_url="https://farebox.example")
    header = sessions.cookie(settings, "token").to_header(header="")
    assert header.startswith("__Host-farebox=token")
    for attribute in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
        assert attribute in header
    assert "Domain" not in header

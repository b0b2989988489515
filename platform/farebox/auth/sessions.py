"""Browser sessions: an opaque token in a cookie, its SHA-256 in Postgres.

Transactions are those of the token or of its user.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from litestar.datastructures import Cookie
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.models import UserSession
from farebox.auth.tokens import digest_of, new_token
from farebox.core.settings import Settings
from farebox.tenants.accounts import get_user

IDLE = timedelta(minutes=30)
LIFETIME = timedelta(hours=12)
# `last_seen_at` is written at most this often: a page view should not cost a write each time.
_SEEN_RECENTLY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class FoundSession:
    user_id: UUID
    email: str
    name: str
    verified: bool
    digest: bytes


def cookie_name(settings: Settings) -> str:
    """Browsers accept a `__Host-` cookie only if Secure, for `/`, and from this very host."""
    return "__Host-farebox" if settings.production else "farebox_session"


def cookie(settings: Settings, token: str) -> Cookie:
    return Cookie(
        key=cookie_name(settings),
        value=token,
        path="/",
        max_age=int(LIFETIME.total_seconds()),
        secure=settings.production,
        httponly=True,
        samesite="lax",
    )


def expired_cookie(settings: Settings) -> Cookie:
    """Makes the browser forget its session."""
    return Cookie(
        key=cookie_name(settings),
        value="",
        path="/",
        max_age=0,
        secure=settings.production,
        httponly=True,
        samesite="lax",
    )


async def create(session: AsyncSession, user_id: UUID, *, replaces: str | None = None) -> str:
    """Open a session and return its token; the one that the browser had before, if any, ends.

    A token that was in the browser before the sign-in must not be the one after it (fixation).
    """
    if replaces is not None:
        await end(session, replaces)
    token = new_token()
    expires_at = await session.scalar(select(func.now() + LIFETIME))
    session.add(UserSession(token_sha256=digest_of(token), user_id=user_id, expires_at=expires_at))
    await session.flush()
    return token


async def lookup(session: AsyncSession, token: str) -> FoundSession | None:
    """The live session of a token: used within 30 minutes, opened within 12 hours."""
    digest = digest_of(token)
    row = (
        await session.execute(
            select(UserSession.user_id, UserSession.last_seen_at < func.now() - _SEEN_RECENTLY).where(
                UserSession.token_sha256 == digest,
                UserSession.expires_at > func.now(),
                UserSession.last_seen_at > func.now() - IDLE,
            )
        )
    ).one_or_none()
    if row is None:
        return None
    user_id, stale = row
    user = await get_user(session, user_id)
    if user is None:
        return None
    if stale:
        await session.execute(
            update(UserSession).where(UserSession.token_sha256 == digest).values(last_seen_at=func.now())
        )
    return FoundSession(user.id, user.email, user.name, user.email_verified_at is not None, digest)


async def rotate(session: AsyncSession, token: str) -> str | None:
    """Give a live session a new token, for a change of rights; its 12 hours run on. None if it ended.

    In a transaction of both the token and its user.
    """
    if await lookup(session, token) is None:
        return None
    fresh = new_token()
    moved = await session.scalar(
        update(UserSession)
        .where(UserSession.token_sha256 == digest_of(token))
        .values(token_sha256=digest_of(fresh))
        .returning(UserSession.user_id)
    )
    return fresh if moved else None


async def end(session: AsyncSession, token: str) -> None:
    await session.execute(delete(UserSession).where(UserSession.token_sha256 == digest_of(token)))


async def end_all(session: AsyncSession, user_id: UUID) -> None:
    """Sign a person out of every browser."""
    await session.execute(delete(UserSession).where(UserSession.user_id == user_id))

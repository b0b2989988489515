"""One-time links sent by e-mail; the worker mints a token as it sends it.

Where nothing else is said, transactions are those of the link's user.
"""

from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.models import EmailToken
from farebox.auth.tokens import digest_of, new_token
from farebox.tenants.accounts import get_user
from farebox.tenants.models import User

Purpose = Literal["verify", "reset"]
LIFETIMES: dict[Purpose, timedelta] = {"verify": timedelta(hours=24), "reset": timedelta(hours=1)}


async def mint_token(session: AsyncSession, user_id: UUID, purpose: Purpose) -> str:
    token = new_token()
    expires_at = await session.scalar(select(func.now() + LIFETIMES[purpose]))
    session.add(
        EmailToken(token_sha256=digest_of(token), user_id=user_id, purpose=purpose, expires_at=expires_at)
    )
    await session.flush()
    return token


async def owner_of(session: AsyncSession, token: str, purpose: Purpose) -> User | None:
    """Whom a live token was sent to, in a transaction of that token."""
    user_id = await session.scalar(
        select(EmailToken.user_id).where(
            EmailToken.token_sha256 == digest_of(token),
            EmailToken.purpose == purpose,
            EmailToken.expires_at > func.now(),
        )
    )
    return None if user_id is None else await get_user(session, user_id)


async def spend(session: AsyncSession, token: str, purpose: Purpose) -> UUID | None:
    """Use a live token up, and its user's others of that purpose with it; of two callers one succeeds."""
    user_id = await session.scalar(
        delete(EmailToken)
        .where(
            EmailToken.token_sha256 == digest_of(token),
            EmailToken.purpose == purpose,
            EmailToken.expires_at > func.now(),
        )
        .returning(EmailToken.user_id)
    )
    if user_id is not None:
        others = delete(EmailToken).where(EmailToken.user_id == user_id, EmailToken.purpose == purpose)
        await session.execute(others)
    return user_id


async def end_all(session: AsyncSession, user_id: UUID) -> None:
    """Void every link that was mailed to a user, whatever for."""
    await session.execute(delete(EmailToken).where(EmailToken.user_id == user_id))

"""What the worker does for people: mails from the outbox, and sweeping out what has expired.

A mail's token is made here, as it is sent, so that no secret lies in the outbox; a mail sent twice
carries two links, both good.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.links import LIFETIMES, mint_token
from farebox.auth.models import EmailToken, SignInThrottle, UserSession
from farebox.auth.service import MAIL_RESET, MAIL_VERIFY
from farebox.auth.sessions import IDLE
from farebox.core.database import Database
from farebox.core.mail import Mail, send
from farebox.core.outbox import Handler
from farebox.core.settings import Settings
from farebox.tenants.accounts import find_user, get_user

# No mail repeats what was typed at sign-up: a stranger could send their words to any address with it.
_VERIFY = """Welcome to Farebox.

Confirm your e-mail address and sign in within {hours} hours:

{url}/verify?token={token}

If you did not sign up, ignore this mail: the account cannot be used without your confirmation."""

_ALREADY = """Hello,

somebody, probably you, tried to sign up to Farebox with this address, which has an account already.

Sign in:                {url}/sign-in
Forgot your password?   {url}/forgot

If it was not you, there is nothing to do."""

_RESET = """Hello,

choose a new Farebox password within {minutes} minutes:

{url}/reset?token={token}

If you did not ask for this, ignore this mail: your password stays as it is."""

_THROTTLE_KEPT = timedelta(days=1)


async def mail_verification(database: Database, settings: Settings, payload: dict[str, Any]) -> None:
    """After a sign-up: a link to confirm a new address, or a note to one that is confirmed already."""
    user_id = UUID(payload["user_id"])
    async with database.transaction(user_id=user_id) as session:
        user = await get_user(session, user_id)
        if user is None:
            return
        token = await mint_token(session, user.id, "verify") if user.email_verified_at is None else None
    if token is None:
        text = _ALREADY.format(url=settings.public_url)
        await send(settings, Mail(user.email, "You have a Farebox account already", text))
        return
    hours = int(LIFETIMES["verify"].total_seconds() // 3600)
    text = _VERIFY.format(hours=hours, url=settings.public_url, token=token)
    await send(settings, Mail(user.email, "Confirm your e-mail address", text))


async def mail_password_reset(database: Database, settings: Settings, payload: dict[str, Any]) -> None:
    """A link to choose a new password; nothing to an address without an account."""
    async with database.transaction(email=payload["email"]) as session:
        user = await find_user(session, payload["email"])
    if user is None:
        return
    async with database.transaction(user_id=user.id) as session:
        token = await mint_token(session, user.id, "reset")
    minutes = int(LIFETIMES["reset"].total_seconds() // 60)
    text = _RESET.format(minutes=minutes, url=settings.public_url, token=token)
    await send(settings, Mail(user.email, "Choose a new password", text))


async def sweep(session: AsyncSession) -> None:
    """Delete sessions, links and back-off counts that can have no effect any more.

    Runs under `Database.meter_transaction()`, as often as the worker likes.
    """
    ended = (UserSession.expires_at < func.now()) | (UserSession.last_seen_at < func.now() - IDLE)
    forgotten = SignInThrottle.updated_at < func.now() - _THROTTLE_KEPT
    for outlived in (
        delete(UserSession).where(ended),
        delete(EmailToken).where(EmailToken.expires_at < func.now()),
        delete(SignInThrottle).where(forgotten),
    ):
        # Else the digests would be asked for, which the meter's role may not read.
        await session.execute(outlived.execution_options(synchronize_session=False))


HANDLERS: dict[str, Handler] = {MAIL_VERIFY: mail_verification, MAIL_RESET: mail_password_reset}

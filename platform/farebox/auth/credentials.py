"""Whether somebody knows a password: counted before it is looked at, and uncounted when it was right."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth import devices, sessions, throttle
from farebox.auth.errors import WrongCredentials
from farebox.auth.passwords import PasswordHasher
from farebox.auth.throttle import Backoff
from farebox.core.database import Database
from farebox.core.errors import BadRequest
from farebox.tenants.accounts import find_user, keeps_password
from farebox.tenants.models import User
from farebox.tenants.names import clean_password


@dataclass(frozen=True, slots=True)
class Proof:
    """A user whose password was right, and what the attempt was counted under."""

    user: User
    backoff: Backoff
    subject: str
    address: str | None


@dataclass(frozen=True, slots=True)
class NewSession:
    """A new session: the token of its cookie, and that of the browser's device cookie."""

    token: str
    device: str


async def check_password(
    database: Database,
    passwords: PasswordHasher,
    *,
    email: str,
    password: str,
    address: str | None,
    device: str | None = None,
    by_link: bool = False,
) -> Proof:
    """One counted attempt and one hash, whether or not the address is known.

    Guesses at an account share one count, but for two that no stranger can run up: that of a browser
    which the account signed in from before, and that of who holds a mailed link (`by_link`). Raises
    WrongCredentials, TooManyAttempts, Unavailable.
    """
    try:
        password = clean_password(password)
    except BadRequest:
        raise WrongCredentials from None
    asker = throttle.networks_of(address)
    await passwords.find_place(asker)
    async with database.transaction(email=email) as session:
        user = await find_user(session, email)
        backoff, subject = throttle.ACCOUNT, email
        if by_link:
            backoff = throttle.LINK
        elif known := devices.recognise(device, user):
            backoff, subject = throttle.DEVICE, f"{email} {known}"
        await throttle.count_attempt(session, backoff, subject)
        await throttle.count_sign_in(session, address)
    matches = await passwords.verify(
        user.password_hash if user else None,
        password,
        asker=asker,
    )
    if user is None or not matches:
        raise WrongCredentials
    return Proof(user, backoff, subject, address)


async def open_session(
    session: AsyncSession, proof: Proof, *, replaces: str | None, alone: bool = False
) -> NewSession:
    """Sign the user in, and out everywhere else if `alone`.

    In a transaction of the user, and of the token that it `replaces`. Raises WrongCredentials when their
    password was changed meanwhile.
    """
    user = proof.user
    # A reset may have come between the hash and now; a later one waits, and ends this session with the
    # others.
    if not await keeps_password(session, user):
        raise WrongCredentials
    if alone:
        await sessions.end_all(session, user.id)
    await throttle.clear(session, proof.backoff, proof.subject)
    await throttle.uncount_sign_in(session, proof.address)
    token = await sessions.create(session, user.id, replaces=replaces)
    return NewSession(token, devices.mint(user.password_hash))

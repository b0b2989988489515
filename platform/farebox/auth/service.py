"""Sign-up, sign-in, sign-out, e-mail verification, password reset.

These open their own transactions, because a password is hashed between two of them: 30 ms of argon2
must hold no connection. `address` is the client's IP address, for the back-off.
"""

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth import devices, links, sessions, throttle
from farebox.auth.common_passwords import refuse_common
from farebox.auth.credentials import NewSession, check_password, open_session
from farebox.auth.errors import InvalidLink, SignUpClosed, WrongCredentials
from farebox.auth.passwords import PasswordHasher
from farebox.auth.tokens import digest_of
from farebox.auth.unverified import revoke_keys_made_before_verification
from farebox.billing.welcome import WELCOME
from farebox.core import outbox
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.tenants.accounts import create_account, mark_verified, set_password
from farebox.tenants.names import clean_email, clean_name, clean_password

MAIL_VERIFY = "mail.verify_address"
MAIL_RESET = "mail.password_reset"

_log = structlog.get_logger(__name__)


async def sign_up(
    database: Database,
    passwords: PasswordHasher,
    settings: Settings,
    *,
    email: str,
    password: str,
    name: str,
    organization: str,
    address: str | None,
) -> None:
    """Make an account with an organization, and send its address a link.

    For an address that has an account nothing changes but the mail; what the caller sees, and the
    work it takes, are the same. Raises BadRequest, SignUpClosed, TooManyAttempts, Unavailable.
    """
    if settings.sign_up == "closed":
        raise SignUpClosed
    email, password = clean_email(email), refuse_common(clean_password(password))
    name, organization = clean_name(name), clean_name(organization, "organization")
    asker = throttle.networks_of(address)
    await passwords.find_place(asker)
    async with database.transaction() as session:
        await _count_mail(session, email, address)
    password_hash = await passwords.hash(password, asker=asker)
    organization_id = new_id()
    async with database.transaction(organization_id=organization_id, email=email) as session:
        account = await create_account(
            session,
            organization_id=organization_id,
            email=email,
            password_hash=password_hash,
            name=name,
            organization=organization,
        )
        await outbox.post(session, MAIL_VERIFY, {"user_id": str(account.user_id)})


async def sign_in(
    database: Database,
    passwords: PasswordHasher,
    settings: Settings,
    *,
    email: str,
    password: str,
    address: str | None,
    device: str | None = None,
    replaces: str | None = None,
) -> NewSession:
    """Check a password and open a session.

    `replaces` is the token that the browser holds already; that session ends. `device` is its device
    cookie. In production an unverified address is answered as a wrong password is, and counted so.
    Raises BadRequest, WrongCredentials, TooManyAttempts, Unavailable.
    """
    proof = await check_password(
        database,
        passwords,
        email=clean_email(email),
        password=password,
        address=address,
        device=device,
    )
    if settings.production and proof.user.email_verified_at is None:
        raise WrongCredentials
    async with database.transaction(user_id=proof.user.id, token_sha256=digest_of(replaces or "")) as session:
        return await open_session(session, proof, replaces=replaces)


async def check_link(database: Database, token: str, purpose: links.Purpose) -> None:
    """Whether a mailed link still works, before anybody fills in a form for it. Raises InvalidLink."""
    async with database.transaction(token_sha256=digest_of(token)) as session:
        if await links.owner_of(session, token, purpose) is None:
            raise InvalidLink


async def sign_out(database: Database, token: str) -> None:
    """End the session of a cookie's token."""
    async with database.transaction(token_sha256=digest_of(token)) as session:
        await sessions.end(session, token)


async def verify_email(
    database: Database,
    passwords: PasswordHasher,
    *,
    token: str,
    password: str,
    address: str | None,
    replaces: str | None = None,
) -> NewSession:
    """Confirm the address that a link was sent to, and sign in; every other session of the user ends.

    The password is asked for again: else somebody could sign up with another's address and wait for
    its owner to confirm an account that the stranger knows the password of. An owner whom a stranger
    has forestalled resets the password, which confirms the address as well. Raises InvalidLink,
    WrongCredentials, TooManyAttempts, Unavailable.
    """
    async with database.transaction(token_sha256=digest_of(token)) as session:
        owner = await links.owner_of(session, token, "verify")
    if owner is None:
        raise InvalidLink
    proof = await check_password(
        database, passwords, email=owner.email, password=password, address=address, by_link=True
    )
    async with database.transaction(user_id=owner.id, token_sha256=digest_of(replaces or "")) as session:
        opened = await open_session(session, proof, replaces=replaces, alone=True)
        if await links.spend(session, token, "verify") is None:
            raise InvalidLink
        if await mark_verified(session, owner.id):
            await outbox.post(session, WELCOME, {"user_id": str(owner.id)})
    return opened


async def request_password_reset(database: Database, *, email: str, address: str | None) -> None:
    """Have a link sent, if the address has an account; only the worker looks whether it has.

    Raises BadRequest, TooManyAttempts, Unavailable.
    """
    email = clean_email(email)
    async with database.transaction() as session:
        await _count_mail(session, email, address)
        await outbox.post(session, MAIL_RESET, {"email": email})


async def reset_password(database: Database, passwords: PasswordHasher, *, token: str, password: str) -> str:
    """Set a new password by a link; every session and other link of the user ends, their back-off too.

    The link proves the mailbox, so it verifies the address as well; for the first time, it ends the
    keys made until then, too. Returns a device cookie's token:
    the browser may sign in at once, however many strangers guess. Raises BadRequest, InvalidLink,
    Unavailable.
    """
    password = refuse_common(clean_password(password))
    async with database.transaction(token_sha256=digest_of(token)) as session:
        owner = await links.owner_of(session, token, "reset")
    if owner is None:
        raise InvalidLink  # before the hash: made-up links must not cost 30 ms of a core each
    password_hash = await passwords.hash(password, asker=(owner.id, owner.id, owner.id))
    async with database.transaction(user_id=owner.id) as session:
        if await links.spend(session, token, "reset") is None:
            raise InvalidLink
        email = await set_password(session, owner.id, password_hash)
        if await mark_verified(session, owner.id):
            await outbox.post(session, WELCOME, {"user_id": str(owner.id)})
        await sessions.end_all(session, owner.id)
        await links.end_all(session, owner.id)
        await throttle.clear(session, throttle.ACCOUNT, email)
    if owner.email_verified_at is None:
        await revoke_keys_made_before_verification(database, owner.id)
    _log.info("password.reset", user_id=str(owner.id))
    return devices.mint(password_hash)


async def _count_mail(session: AsyncSession, email: str, address: str | None) -> None:
    await throttle.count_attempt(session, throttle.MAILS, email)
    await throttle.count_request(session, address)

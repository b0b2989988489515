"""Tenants for tests: small functions, each the shortest way to a state that a test starts from."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from uuid import UUID

from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.keys.service import DEFAULT_LIFETIME, MintedKey, create_key
from farebox.keys.tokens import Keyring
from farebox.tenants.accounts import NewAccount, create_account

# All tests of a run share one database, hence one sealed signing key, hence one secret.
SECRET_KEY = "a secret key that only tests know"
SETTINGS = Settings(secret_key=SECRET_KEY)

# What no password verifies against: for users who never sign in, without the cost of a hash.
NO_PASSWORD = "!"


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization with an owner, a project and a key that may do everything."""

    organization_id: UUID
    project_id: UUID
    user_id: UUID
    email: str
    api_key: str
    key_id: UUID


async def make_keyring(database: Database, settings: Settings = SETTINGS) -> Keyring:
    return await Keyring.load(database, settings)


def an_email() -> str:
    """An address that nobody in this database has."""
    return f"user-{new_id().hex}@example.com"


def an_address() -> str:
    """An IPv6 address of a provider from whom no attempt came yet."""
    digits = new_id().hex
    return f"2{digits[17:20]}:{digits[20:24]}:{digits[24:28]}:{digits[28:]}::1"


async def make_account(
    database: Database,
    *,
    email: str | None = None,
    password_hash: str = NO_PASSWORD,
    verified: bool = True,
) -> NewAccount:
    organization_id, email = new_id(), email or an_email()
    async with database.transaction(organization_id=organization_id, email=email) as session:
        return await create_account(
            session,
            organization_id=organization_id,
            email=email,
            password_hash=password_hash,
            name="Ada",
            organization="Acme",
            verified=verified,
        )


async def make_tenant(
    database: Database,
    keyring: Keyring,
    *,
    balance: Decimal | None = None,
    scopes: Sequence[str] = ("inference", "admin"),
    models: Sequence[str] | None = None,
) -> Tenant:
    """A tenant with a key and, where `balance` is given, so many US dollars of credit."""
    email = an_email()
    account = await make_account(database, email=email)
    minted = await make_key(database, keyring, account, scopes=scopes, models=models)
    if balance is not None:
        await _top_up(database, account.organization_id, balance)
    return Tenant(
        organization_id=account.organization_id,
        project_id=account.project_id,
        user_id=account.user_id,
        email=email,
        api_key=minted.token,
        key_id=minted.row.id,
    )


async def make_key(
    database: Database,
    keyring: Keyring,
    owner: NewAccount | Tenant,
    *,
    scopes: Sequence[str] = ("inference", "admin"),
    models: Sequence[str] | None = None,
    lifetime: timedelta = DEFAULT_LIFETIME,
) -> MintedKey:
    async with database.transaction(organization_id=owner.organization_id) as session:
        return await create_key(
            session,
            keyring,
            organization_id=owner.organization_id,
            project_id=owner.project_id,
            name="test",
            user_id=owner.user_id,
            scopes=scopes,
            models=models,
            lifetime=lifetime,
        )


async def _top_up(database: Database, organization_id: UUID, balance: Decimal) -> None:
    top_up: Callable[..., Awaitable[bool]] = import_module("farebox.billing.funds").top_up
    async with database.meter_transaction() as session:
        await top_up(
            session, organization_id=organization_id, amount=balance, currency="USD", reference=new_id().hex
        )

"""Development's first start: an organization with a user, money, a project and keys."""

import os
import secrets
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.passwords import PasswordHasher
from farebox.billing.funds import top_up
from farebox.core.database import Database
from farebox.core.ids import external, internal, new_id
from farebox.core.settings import Settings
from farebox.keys.errors import InvalidApiKey
from farebox.keys.service import authenticate, create_key, list_keys, revoke_key
from farebox.keys.tokens import Keyring
from farebox.tenants.accounts import create_account, find_user, set_password
from farebox.tenants.members import organizations_of
from farebox.tenants.organizations import create_project, list_projects

EMAIL = "demo@farebox.localhost"
FILE_NAME = "dev-credentials.json"
CREDIT = Decimal("100.00")
KEY_NAMES = ("Demo", "Demo admin")


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What `dev-credentials.json` holds."""

    base_url: str
    dashboard_url: str
    email: str
    password: str
    api_key: str
    admin_key: str
    organization_id: str
    project_id: str


@dataclass(frozen=True)
class _Home:
    user_id: UUID
    organization_id: UUID
    project_id: UUID


async def ensure_demo_organization(database: Database, settings: Settings) -> Credentials:
    """The demo organization's credentials: those of the last start while they work, else new ones.

    For development only; the caller sees to that. Written to the data directory with mode 0600.
    """
    path = settings.data_dir / FILE_NAME
    keyring = await Keyring.load(database, settings)
    kept = _read(path)
    if kept is None or not await _still_work(database, keyring, kept):
        kept = await _make(database, keyring, settings)
    addresses = {"base_url": settings.public_url, "dashboard_url": f"{settings.public_url}/"}
    credentials = msgspec.structs.replace(kept, **addresses)
    _write(path, credentials)
    return credentials


async def _make(database: Database, keyring: Keyring, settings: Settings) -> Credentials:
    password = secrets.token_urlsafe(12)
    home = await _ensure_home(database, password)
    async with database.meter_transaction() as session:
        await top_up(
            session,
            organization_id=home.organization_id,
            amount=CREDIT,
            currency=settings.currency,
            reference="demo-credit",
        )
    async with database.transaction(organization_id=home.organization_id) as session:
        await _revoke_former_keys(session, home)
        return Credentials(
            base_url="",
            dashboard_url="",
            email=EMAIL,
            password=password,
            api_key=await _make_key(session, keyring, home, KEY_NAMES[0], "inference"),
            admin_key=await _make_key(session, keyring, home, KEY_NAMES[1], "admin"),
            organization_id=external("org", home.organization_id),
            project_id=external("proj", home.project_id),
        )


async def _revoke_former_keys(session: AsyncSession, home: _Home) -> None:
    """A start that died before it wrote the file left keys that nobody has."""
    for key in await list_keys(session, organization_id=home.organization_id):
        if key.user_id == home.user_id and key.name in KEY_NAMES and key.revoked_at is None:
            await revoke_key(
                session, organization_id=home.organization_id, key_id=key.id, actor_id=home.user_id
            )


async def _make_key(session: AsyncSession, keyring: Keyring, home: _Home, name: str, scope: str) -> str:
    minted = await create_key(
        session,
        keyring,
        organization_id=home.organization_id,
        project_id=home.project_id,
        user_id=home.user_id,
        name=name,
        scopes=(scope,),
    )
    return minted.token


async def _ensure_home(database: Database, password: str) -> _Home:
    """The demo user's organization and project, with this password; founded at the first start."""
    hasher = PasswordHasher()
    password_hash = await hasher.hash(password, asker=("operator",) * 3)
    hasher.close()
    organization_id = new_id()
    async with database.transaction(organization_id=organization_id, email=EMAIL) as session:
        account = await create_account(
            session,
            organization_id=organization_id,
            email=EMAIL,
            password_hash=password_hash,
            name="Demo",
            organization="Demo",
            verified=True,
        )
    if account.is_new:
        return _Home(account.user_id, account.organization_id, account.project_id)
    return await _find_home(database, password_hash)


async def _find_home(database: Database, password_hash: str) -> _Home:
    async with database.transaction(email=EMAIL) as session:
        user = await find_user(session, EMAIL)
        assert user is not None  # noqa: S101  create_account has just met it
        await set_password(session, user.id, password_hash)
    async with database.transaction(user_id=user.id) as session:
        organization_id = (await organizations_of(session, user.id))[0]
    async with database.transaction(organization_id=organization_id) as session:
        projects = await list_projects(session, organization_id)
        project = (
            projects[0]
            if projects
            else await create_project(
                session, organization_id=organization_id, name="Default", actor_id=user.id
            )
        )
    return _Home(user.id, organization_id, project.id)


async def _still_work(database: Database, keyring: Keyring, kept: Credentials) -> bool:
    try:
        for token in (kept.api_key, kept.admin_key):
            principal = await authenticate(database, await keyring.resolve(token))
            if principal.organization_id != internal("org", kept.organization_id):
                return False
    except InvalidApiKey:
        return False
    return True


def _read(path: Path) -> Credentials | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except (OSError, msgspec.DecodeError):
        return None


def _write(path: Path, credentials: Credentials) -> None:
    # Never readable by others, not even between two system calls: written aside and renamed.
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(credentials)) + b"\n")
    draft.replace(path)

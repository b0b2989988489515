"""API keys: made, listed, revoked, and judged by their row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.errors import BadRequest, NotFound
from farebox.core.ids import external, new_id
from farebox.keys.allow_lists import fit_allow_list
from farebox.keys.errors import InvalidApiKey
from farebox.keys.holders import check_holder, subject_of
from farebox.keys.models import ApiKey
from farebox.keys.tokens import KeyClaims, Keyring, digest_of
from farebox.tenants.audit import record
from farebox.tenants.ceilings import check_room
from farebox.tenants.models import Membership, Organization, Project
from farebox.tenants.names import clean_name
from farebox.tenants.organizations import open_project

SCOPES = frozenset({"inference", "admin"})
DEFAULT_LIFETIME = timedelta(days=365)
MAX_LIFETIME = timedelta(days=3650)
_USED_RECENTLY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key. `token` is shown once: only its SHA-256 and last four characters are kept."""

    row: ApiKey
    token: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, by the row of the key: the holder, and what the key may do."""

    key_id: UUID
    organization_id: UUID
    project_id: UUID
    user_id: UUID | None
    service_account_id: UUID | None
    scopes: frozenset[str]
    models: frozenset[str] | None


async def create_key(
    session: AsyncSession,
    keyring: Keyring,
    *,
    organization_id: UUID,
    project_id: UUID,
    name: str,
    user_id: UUID | None = None,
    service_account_id: UUID | None = None,
    scopes: Sequence[str] = ("inference",),
    models: Sequence[str] | None = None,
    lifetime: timedelta = DEFAULT_LIFETIME,
    actor_id: UUID | None = None,
    at_most: int | None = None,
) -> MintedKey:
    """Make a key in a project, held by a user, a service account or (by the operator) nobody.

    `models` is the allow-list, None for all that the organization may call. `actor_id` is who makes it, by
    default its user. Raises NotFound for a project, user or service account that is absent or another
    organization's, BadRequest for a bad name, scope, allow-list or lifetime, TooMany where `at_most` are
    there already.
    """
    name = clean_name(name)
    _check_powers(scopes, models, lifetime)
    await open_project(session, organization_id, project_id)
    await check_holder(session, organization_id, project_id, user_id, service_account_id)
    # In this order: a shared lock first, and two of these would wait for each other.
    await check_room(session, organization_id, _counted_keys(organization_id), "API keys", at_most)
    allowed = await fit_allow_list(session, organization_id, models)
    row = ApiKey(
        id=new_id(),
        organization_id=organization_id,
        project_id=project_id,
        user_id=user_id,
        service_account_id=service_account_id,
        name=name,
        scopes=sorted(set(scopes)),
        models=allowed,
        expires_at=(utc_now() + lifetime).replace(microsecond=0),
    )
    token = _mint(keyring, row)
    await _add(session, row, actor_id or user_id)
    return MintedKey(row, token)


def _mint(keyring: Keyring, row: ApiKey) -> str:
    """The token of a new key; its row keeps the fingerprint and the last characters."""
    token = keyring.mint(
        key_id=row.id,
        organization_id=row.organization_id,
        project_id=row.project_id,
        subject=subject_of(row.id, row.user_id, row.service_account_id),
        expires_at=row.expires_at,
    )
    row.token_sha256, row.last_four = digest_of(token), token[-4:]
    return token


async def _add(session: AsyncSession, row: ApiKey, actor_id: UUID | None) -> None:
    session.add(row)
    await session.flush()
    detail = {"name": row.name, "project": external("proj", row.project_id)}
    await record(
        session,
        organization_id=row.organization_id,
        actor_id=actor_id,
        action="key.created",
        target=external("key", row.id),
        detail=detail | {"scopes": row.scopes, "models": row.models},
    )


def _counted_keys(organization_id: UUID) -> Select[UUID]:
    """Living keys, and those of the last day: else one could make and revoke without end."""
    return select(ApiKey.id).where(
        ApiKey.organization_id == organization_id,
        or_(_lives(), ApiKey.created_at > func.now() - timedelta(days=1)),
    )


async def list_keys(
    session: AsyncSession, *, organization_id: UUID, project_id: UUID | None = None
) -> list[ApiKey]:
    """The organization's keys, or one project's, newest first, revoked and expired ones included."""
    query = select(ApiKey).where(ApiKey.organization_id == organization_id).order_by(ApiKey.id.desc())
    if project_id is not None:
        query = query.where(ApiKey.project_id == project_id)
    return list(await session.scalars(query))


async def some_keys(
    session: AsyncSession, organization_id: UUID, *, living: bool, skip: int, at_most: int
) -> list[ApiKey]:
    """Of the organization's living or ended keys, newest first, those after the first `skip`."""
    query = select(ApiKey).where(ApiKey.organization_id == organization_id, _lives() == living)
    return list(await session.scalars(query.order_by(ApiKey.id.desc()).offset(skip).limit(at_most)))


async def count_ended_keys(session: AsyncSession, organization_id: UUID) -> int:
    """How many of the organization's keys are revoked or expired."""
    query = select(func.count()).where(ApiKey.organization_id == organization_id, ~_lives())
    return await session.scalar(query) or 0


async def has_live_key(session: AsyncSession, organization_id: UUID) -> bool:
    """Whether the organization has a key that is neither revoked nor expired."""
    live = select(ApiKey.id).where(ApiKey.organization_id == organization_id, _lives())
    return bool(await session.scalar(select(live.exists())))


def _lives() -> ColumnElement[bool]:
    return and_(ApiKey.revoked_at.is_(None), ApiKey.expires_at > func.now())


async def find_key(session: AsyncSession, organization_id: UUID, key_id: UUID) -> ApiKey | None:
    """The organization's key of this id."""
    query = select(ApiKey).where(ApiKey.organization_id == organization_id, ApiKey.id == key_id)
    return await session.scalar(query)


async def organization_of_key(session: AsyncSession, key_id: UUID) -> UUID:
    """Whose key it is, for the operator, under `Database.meter_transaction()`. Raises NotFound."""
    organization_id = await session.scalar(select(ApiKey.organization_id).where(ApiKey.id == key_id))
    if organization_id is None:
        raise NotFound("No such API key.")
    return organization_id


async def revoke_key(
    session: AsyncSession, *, organization_id: UUID, key_id: UUID, actor_id: UUID | None
) -> None:
    """End a key; it fails from the next request on, on every replica. Twice changes nothing.

    Raises NotFound for a key that is absent or another organization's.
    """
    revoked = await session.scalar(
        update(ApiKey)
        .where(ApiKey.organization_id == organization_id, ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiKey.id)
    )
    if revoked is not None:
        await record(
            session,
            organization_id=organization_id,
            actor_id=actor_id,
            action="key.revoked",
            target=external("key", key_id),
        )
        return
    known = select(ApiKey.id).where(ApiKey.organization_id == organization_id, ApiKey.id == key_id)
    if await session.scalar(known) is None:
        raise NotFound("No such API key.", code="not_found")


async def authenticate(database: Database, claims: KeyClaims) -> Principal:
    """Ask the row, for routes other than inference (whose admission asks it in its own statement).

    Raises InvalidApiKey when the row is gone, of another token, revoked or expired, its holder no
    member any more, its project archived or its organization suspended. The scope `admin` is worth
    nothing while the person who holds the key is not an administrator.
    """
    async with database.transaction(organization_id=claims.organization_id, way="key") as session:
        found = (await session.execute(_authorising(claims))).one_or_none()
        if found is None:
            raise InvalidApiKey
        key, role = found
        await _note_use(session, key)
    scopes = frozenset(key.scopes)
    return Principal(
        key_id=key.id,
        organization_id=key.organization_id,
        project_id=key.project_id,
        user_id=key.user_id,
        service_account_id=key.service_account_id,
        scopes=scopes - {"admin"} if role == "member" else scopes,
        models=None if key.models is None else frozenset(key.models),
    )


def _authorising(claims: KeyClaims) -> Select[ApiKey, str | None]:
    """The key's row, if it opens anything, with the role of the person who holds it."""
    holder = (Membership.organization_id == ApiKey.organization_id) & (Membership.user_id == ApiKey.user_id)
    return (
        select(ApiKey, Membership.role)
        .join(Project, Project.id == ApiKey.project_id)
        .join(Organization, Organization.id == ApiKey.organization_id)
        .outerjoin(Membership, holder)
        .where(
            ApiKey.id == claims.key_id,
            ApiKey.organization_id == claims.organization_id,
            ApiKey.project_id == claims.project_id,
            ApiKey.token_sha256 == claims.digest,
            ApiKey.revoked_at.is_(None),
            ApiKey.expires_at > func.now(),
            ApiKey.user_id.is_(None) | Membership.user_id.is_not(None),
            Project.archived_at.is_(None),
            Organization.status == "active",
        )
    )


async def _note_use(session: AsyncSession, key: ApiKey) -> None:
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - _USED_RECENTLY)
    if key.last_used_at is None or key.last_used_at < utc_now() - _USED_RECENTLY:
        await session.execute(
            update(ApiKey)
            .where(ApiKey.id == key.id, ApiKey.organization_id == key.organization_id, stale)
            .values(last_used_at=func.now())
            .execution_options(synchronize_session=False)
        )


def _check_powers(scopes: Sequence[str], models: Sequence[str] | None, lifetime: timedelta) -> None:
    if not scopes or not SCOPES.issuperset(scopes):
        known = ", ".join(sorted(SCOPES))
        raise BadRequest(
            f"A key needs one or more of the scopes {known}.", code="invalid_scope", param="scopes"
        )
    if models is not None and not (1 <= len(models) <= 100 and all(_is_model_name(name) for name in models)):
        raise BadRequest(
            "A key's allow-list names 1 to 100 models; leave it out to allow all.",
            code="invalid_models",
            param="models",
        )
    if not timedelta(minutes=1) <= lifetime <= MAX_LIFETIME:
        raise BadRequest(
            f"A key lives for one minute to {MAX_LIFETIME.days} days.",
            code="invalid_lifetime",
            param="lifetime",
        )


def _is_model_name(name: str) -> bool:
    return 1 <= len(name) <= 256 and name.isprintable()

"""Accounts whose address nobody confirmed: they stand in the way of the address's owner."""

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import Database
from farebox.core.ids import external
from farebox.tenants.audit import record

KEPT = timedelta(days=7)
_BATCH = 100

_log = structlog.get_logger(__name__)

# A sign-up makes user and organization in one transaction, hence at one `now()`.
_REMOVABLE = """
SELECT u.id FROM app_user u
WHERE u.email_verified_at IS NULL AND u.created_at <= now() - make_interval(secs => :kept)
AND NOT EXISTS (
    SELECT FROM membership m JOIN organization o ON o.id = m.organization_id
    WHERE m.user_id = u.id AND (
        o.created_at <> u.created_at
        OR EXISTS (SELECT FROM membership x WHERE x.organization_id = o.id AND x.user_id <> u.id)
        OR (SELECT count(*) FROM project p WHERE p.organization_id = o.id) > 1
        OR EXISTS (SELECT FROM service_account s WHERE s.organization_id = o.id)
        OR EXISTS (SELECT FROM api_key k WHERE k.organization_id = o.id)
        OR EXISTS (SELECT FROM ledger_transfer t WHERE t.organization_id = o.id)
        OR EXISTS (SELECT FROM usage_hour h WHERE h.organization_id = o.id)
        OR EXISTS (SELECT FROM hold h WHERE h.organization_id = o.id)
    )
)
"""
_FIND = text(f"{_REMOVABLE} ORDER BY u.created_at LIMIT :batch")
_STILL = text(f"{_REMOVABLE} AND u.id = :user")
_OWNED = text("SELECT organization_id FROM membership WHERE user_id = :user")
_LOCK_USER = text("SELECT FROM app_user WHERE id = :user FOR UPDATE")
_LOCK_ORGANIZATIONS = text("SELECT FROM organization WHERE id = ANY (:organizations) FOR UPDATE")
_LOCK_SCOPES = text(
    "SELECT FROM meter_scope WHERE organization_id = ANY (:organizations) ORDER BY id FOR UPDATE"
)
_DELETE_ORGANIZATIONS = text("DELETE FROM organization WHERE id = ANY (:organizations)")
_REVOKE = text("""
UPDATE api_key SET revoked_at = now()
WHERE organization_id = :organization AND user_id = :user AND revoked_at IS NULL
""")
_DELETE_USER = text("DELETE FROM app_user WHERE id = :user")


async def remove_unverified(session: AsyncSession) -> int:
    """Remove a batch of those older than KEPT; returns how many. Under `Database.meter_transaction()`.

    For production only, where nobody can have signed in to one. An account goes if it has nothing but
    the organization of its sign-up, and that no other member, project, key, balance or usage.
    """
    parameters = {"kept": KEPT.total_seconds(), "batch": _BATCH}
    removed = 0
    for user_id in (await session.scalars(_FIND, parameters)).all():
        removed += await _remove(session, user_id)
    if removed:
        _log.info("accounts.unverified_removed", number=removed)
    return removed


async def _remove(session: AsyncSession, user_id: UUID) -> bool:
    """Lock everything that somebody else could hang something on, look again, and only then delete.

    A foreign key locks the row it points at: whoever joins, pays or confirms now waits for this
    transaction, and whoever came before is seen by the second look.
    """
    user = {"user": user_id}
    await session.execute(_LOCK_USER, user)
    organizations = {"organizations": (await session.scalars(_OWNED, user)).all()}
    await session.execute(_LOCK_ORGANIZATIONS, organizations)
    await session.execute(_LOCK_SCOPES, organizations)
    if await session.scalar(_STILL, user | {"kept": KEPT.total_seconds()}) is None:
        return False
    await session.execute(_DELETE_ORGANIZATIONS, organizations)
    await session.execute(_DELETE_USER, user)
    return True


async def revoke_forerunners_keys(database: Database, user_id: UUID) -> None:
    """End the keys of an account whose mailbox was proved for the first time, by a reset.

    Whoever signed up may have been a stranger, whom development lets in unconfirmed.
    """
    async with database.transaction(user_id=user_id) as session:
        organization_ids = (await session.scalars(_OWNED, {"user": user_id})).all()
    for organization_id in organization_ids:
        async with database.transaction(organization_id=organization_id) as session:
            await session.execute(_REVOKE, {"organization": organization_id, "user": user_id})
            await record(
                session,
                organization_id=organization_id,
                actor_id=user_id,
                action="user.keys_revoked",
                target=external("user", user_id),
            )

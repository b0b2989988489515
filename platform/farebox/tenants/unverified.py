"""Accounts that nobody has confirmed and that have nothing but what their sign-up made.

All functions work under `Database.meter_transaction()`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.tenants.members import organizations_of

# A sign-up makes user and organization in one transaction, hence at one `now()`.
_UNVERIFIED = """
FROM app_user u
WHERE u.email_verified_at IS NULL AND u.created_at <= now() - make_interval(secs => :kept)
AND NOT EXISTS (
    SELECT FROM membership m JOIN organization o ON o.id = m.organization_id
    WHERE m.user_id = u.id AND (
        o.created_at <> u.created_at
        OR EXISTS (SELECT FROM membership x WHERE x.organization_id = o.id AND x.user_id <> u.id)
        OR (SELECT count(*) FROM project p WHERE p.organization_id = o.id) > 1
        OR EXISTS (SELECT FROM service_account s WHERE s.organization_id = o.id)
    )
)
"""
_FIND = text(f"""
SELECT u.id, u.created_at,
    ARRAY(SELECT m.organization_id FROM membership m WHERE m.user_id = u.id) AS organization_ids
{_UNVERIFIED}
AND (CAST(:after_id AS uuid) IS NULL OR (u.created_at, u.id) > (:after, :after_id))
ORDER BY u.created_at, u.id LIMIT :limit
""")  # noqa: S608  constants
_STILL = text(f"SELECT 1 {_UNVERIFIED} AND u.id = :user")  # noqa: S608  constants
_LOCK_USER = text("SELECT FROM app_user WHERE id = :user FOR UPDATE")
_LOCK_ORGANIZATIONS = text("SELECT FROM organization WHERE id = ANY (:organizations) FOR UPDATE")
_DELETE_ORGANIZATIONS = text("DELETE FROM organization WHERE id = ANY (:organizations)")
_DELETE_USER = text("DELETE FROM app_user WHERE id = :user")


@dataclass(frozen=True, slots=True)
class UnverifiedAccount:
    user_id: UUID
    created_at: datetime
    organization_ids: Sequence[UUID]


async def find_unverified(
    session: AsyncSession, *, older_than: timedelta, after: UnverifiedAccount | None, limit: int
) -> list[UnverifiedAccount]:
    """Up to `limit` of them, oldest first, from the one behind `after` on.

    None of them has another organization, member, project or service account than its sign-up made.
    """
    rows = await session.execute(
        _FIND,
        {
            "kept": older_than.total_seconds(),
            "after": after and after.created_at,
            "after_id": after and after.user_id,
            "limit": limit,
        },
    )
    return [UnverifiedAccount(row.id, row.created_at, row.organization_ids) for row in rows]


async def lock_account(session: AsyncSession, user_id: UUID) -> Sequence[UUID]:
    """Lock a user and their organizations, whose ids are returned.

    A foreign key locks the row it points at: whoever joins, confirms or makes something in the organization
    now waits for this transaction, and whoever came before can be seen from here on.
    """
    await session.execute(_LOCK_USER, {"user": user_id})
    organization_ids = await organizations_of(session, user_id)
    await session.execute(_LOCK_ORGANIZATIONS, {"organizations": organization_ids})
    return organization_ids


async def is_unverified(session: AsyncSession, user_id: UUID, *, older_than: timedelta) -> bool:
    """Whether `find_unverified` would find the user now."""
    parameters = {"user": user_id, "kept": older_than.total_seconds()}
    return await session.scalar(_STILL, parameters) is not None


async def delete_account(session: AsyncSession, user_id: UUID, organization_ids: Sequence[UUID]) -> None:
    """Delete a user and their organizations, with all that hangs on them."""
    await session.execute(_DELETE_ORGANIZATIONS, {"organizations": organization_ids})
    await session.execute(_DELETE_USER, {"user": user_id})

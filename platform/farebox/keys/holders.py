"""Who holds a key: a user, a service account, or (for the operator's) nobody."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.errors import BadRequest
from farebox.core.ids import external
from farebox.keys.models import ApiKey
from farebox.tenants.audit import record
from farebox.tenants.members import lock_member
from farebox.tenants.organizations import check_service_account


async def check_holder(
    session: AsyncSession,
    organization_id: UUID,
    project_id: UUID,
    user_id: UUID | None,
    service_account_id: UUID | None,
) -> None:
    """Raises BadRequest for two holders, NotFound for one that is absent or another organization's."""
    if user_id is not None and service_account_id is not None:
        raise BadRequest(
            "A key is held by a user or by a service account, not by both.", code="invalid_holder"
        )
    if user_id is not None:
        # A key made while its holder is being removed would outlive them unseen.
        await lock_member(session, organization_id, user_id)
    if service_account_id is not None:
        await check_service_account(session, organization_id, project_id, service_account_id)


def subject_of(key_id: UUID, user_id: UUID | None, service_account_id: UUID | None) -> str:
    """What the key's token calls its holder: the operator's keys are their own."""
    if user_id is not None:
        return external("user", user_id)
    if service_account_id is not None:
        return external("svc", service_account_id)
    return external("key", key_id)


async def revoke_keys_of_user(session: AsyncSession, *, organization_id: UUID, user_id: UUID) -> None:
    """End all keys that a user holds in an organization, and note it as theirs."""
    await session.execute(
        update(ApiKey)
        .where(
            ApiKey.organization_id == organization_id,
            ApiKey.user_id == user_id,
            ApiKey.revoked_at.is_(None),
        )
        .values(revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )
    await record(
        session,
        organization_id=organization_id,
        actor_id=user_id,
        action="user.keys_revoked",
        target=external("user", user_id),
    )


async def organizations_with_keys(session: AsyncSession, organization_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the organizations that have a key, revoked or not. Under `Database.meter_transaction()`."""
    query = select(ApiKey.organization_id).where(ApiKey.organization_id.in_(organization_ids)).distinct()
    return set(await session.scalars(query))

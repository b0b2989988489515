"""The audit log: who did what, written in the transaction of the action."""

from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.ids import new_id
from farebox.tenants.models import AuditEvent


async def record(
    session: AsyncSession,
    *,
    organization_id: UUID,
    actor_id: UUID | None,
    action: str,
    target: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Note an action, `noun.verbed`, on a target given by its external id; no actor means the operator.

    The detail holds names and choices, never a secret.
    """
    await session.execute(
        insert(AuditEvent)
        .values(
            id=new_id(),
            organization_id=organization_id,
            actor_id=actor_id,
            action=action,
            target=target,
            detail=detail or {},
        )
        .inline()
    )


async def list_events(session: AsyncSession, organization_id: UUID, *, limit: int = 100) -> list[AuditEvent]:
    """The latest actions, newest first."""
    query = (
        select(AuditEvent)
        .where(AuditEvent.organization_id == organization_id)
        .order_by(AuditEvent.created_at.desc(), AuditEvent.id.desc())
        .limit(limit)
    )
    return list(await session.scalars(query))

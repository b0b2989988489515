"""Who belongs to which organization."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.errors import NotFound
from farebox.tenants.models import Membership, User


async def first_membership(session: AsyncSession, user_id: UUID) -> Membership | None:
    """The user's membership of the organization that they joined first, in their own transaction."""
    return await session.scalar(
        select(Membership)
        .where(Membership.user_id == user_id)
        .order_by(Membership.created_at, Membership.organization_id)
        .limit(1)
    )


async def organizations_of(session: AsyncSession, user_id: UUID) -> Sequence[UUID]:
    """The ids of all organizations that the user belongs to, in their own transaction or the meter's."""
    query = select(Membership.organization_id).where(Membership.user_id == user_id)
    return (await session.scalars(query)).all()


async def is_owner(session: AsyncSession, organization_id: UUID, user_id: UUID) -> bool:
    """Whether the user owns the organization, in its transaction."""
    membership = await session.get(Membership, (organization_id, user_id))
    return membership is not None and membership.role == "owner"


async def lock_member(session: AsyncSession, organization_id: UUID, user_id: UUID) -> None:
    """Keep the user a member until this transaction ends. Raises NotFound when they are none."""
    shared = {"read": True, "key_share": True}
    if await session.get(Membership, (organization_id, user_id), with_for_update=shared) is None:
        raise NotFound("No such user.", code="not_found")


async def owner_addresses(session: AsyncSession, organization_id: UUID) -> Sequence[str]:
    """The confirmed e-mail addresses of the organization's owners, in the meter's transaction."""
    query = (
        select(User.email)
        .join(Membership, Membership.user_id == User.id)
        .where(
            Membership.organization_id == organization_id,
            Membership.role == "owner",
            User.email_verified_at.is_not(None),
        )
        .order_by(User.email)
    )
    return (await session.scalars(query)).all()


async def role_in(session: AsyncSession, organization_id: UUID, user_id: UUID) -> str | None:
    """What somebody may do in an organization; None for who does not belong to it."""
    query = select(Membership.role).where(
        Membership.organization_id == organization_id, Membership.user_id == user_id
    )
    return await session.scalar(query)

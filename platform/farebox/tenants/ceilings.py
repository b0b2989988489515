"""How many of a thing an organization may have: set by the operator, held under concurrency."""

from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.errors import Conflict
from farebox.tenants.models import Organization


class TooMany(Conflict):
    """The operator allows no more of `things` in one organization."""

    code = "too_many"

    def __init__(self, things: str, at_most: int) -> None:
        super().__init__(f"An organization may have {at_most} {things} here; it has them already.")


async def check_room(
    session: AsyncSession, organization_id: UUID, counted: Select[Any], things: str, at_most: int | None
) -> None:
    """Raises TooMany where `counted` selects as many rows already; None allows any number.

    Until this transaction ends, nobody else finds room in the same organization.
    """
    if at_most is None:
        return
    row = select(Organization.id).where(Organization.id == organization_id)
    await session.execute(row.with_for_update(key_share=True))
    # Not counted further than it matters.
    found = (await session.execute(counted.limit(at_most))).all()
    if len(found) >= at_most:
        raise TooMany(things, at_most)

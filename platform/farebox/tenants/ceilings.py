"""The most that an organization may have or set for itself: the operator's say, held under concurrency.

Each ceiling is a column of the organization. Where that is NULL, a setting of the same name holds.
"""

from collections.abc import Iterable
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Select, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.errors import Conflict, NotFound
from farebox.tenants.models import Organization

Things = Literal["projects", "API keys"]

_COUNTED = {"projects": Organization.max_projects, "API keys": Organization.max_keys}
_OWN = {
    "max_requests_per_minute": Organization.max_requests_per_minute,
    "max_tokens_per_minute": Organization.max_tokens_per_minute,
    "max_concurrent_requests": Organization.max_concurrent_requests,
    "max_projects": Organization.max_projects,
    "max_keys": Organization.max_keys,
    "allowed_models": Organization.allowed_models,
}


class OwnCeilings(msgspec.Struct, frozen=True, kw_only=True):
    """The ceilings set for one organization; None where none is."""

    max_requests_per_minute: int | None = None
    max_tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    max_projects: int | None = None
    max_keys: int | None = None
    allowed_models: list[str] | None = None


class CeilingChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change: UNSET leaves a ceiling as it is, None goes back to the setting."""

    max_requests_per_minute: int | None | UnsetType = UNSET
    max_tokens_per_minute: int | None | UnsetType = UNSET
    max_concurrent_requests: int | None | UnsetType = UNSET
    max_projects: int | None | UnsetType = UNSET
    max_keys: int | None | UnsetType = UNSET
    allowed_models: list[str] | None | UnsetType = UNSET

    @property
    def values(self) -> dict[str, Any]:
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}


class TooMany(Conflict):
    """The operator allows no more of `things` in one organization."""

    code = "too_many"

    def __init__(self, things: str, at_most: int) -> None:
        super().__init__(f"An organization may have {at_most} {things} here; it has them already.")


async def check_room(
    session: AsyncSession, organization_id: UUID, counted: Select[Any], things: Things, at_most: int | None
) -> None:
    """Raises TooMany where `counted` selects as many rows already as the organization may have.

    `at_most` holds where it has no ceiling of its own; None allows any number, whatever its ceiling.
    Until this transaction ends, nobody else finds room in the same organization.
    """
    if at_most is None:
        return
    row = select(_COUNTED[things]).where(Organization.id == organization_id)
    own = await session.scalar(row.with_for_update(key_share=True))
    at_most = at_most if own is None else own
    # Not counted further than it matters.
    found = (await session.execute(counted.limit(at_most))).all()
    if len(found) >= at_most:
        raise TooMany(things, at_most)


async def keep_ceilings(session: AsyncSession, organization_id: UUID) -> OwnCeilings:
    """The organization's own, which nobody can change until this transaction ends."""
    query = select(*_OWN.values()).where(Organization.id == organization_id).with_for_update(read=True)
    row = (await session.execute(query)).one_or_none()
    return OwnCeilings() if row is None else OwnCeilings(**row._asdict())


async def ceilings_of(session: AsyncSession, organization_ids: Iterable[UUID]) -> dict[UUID, OwnCeilings]:
    """Those of many organizations, for the operator, under `Database.meter_transaction()`."""
    query = select(Organization.id, *_OWN.values()).where(Organization.id.in_(organization_ids))
    rows = [row._asdict() for row in await session.execute(query)]
    return {row.pop("id"): OwnCeilings(**row) for row in rows}


async def change_ceilings(session: AsyncSession, organization_id: UUID, change: CeilingChange) -> OwnCeilings:
    """Set them, under `Database.meter_transaction()`. What is above them stays: `limits.ceilings` lowers it.

    Raises NotFound.
    """
    if change.values:
        await session.execute(
            update(Organization).where(Organization.id == organization_id).values(change.values)
        )
    found = await ceilings_of(session, [organization_id])
    if organization_id not in found:
        raise NotFound("No such organization.", code="not_found")
    return found[organization_id]

"""Reading and setting limits. Sessions come from `Database.transaction` of the organization."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import lock_briefly
from farebox.core.errors import BadRequest, NotFound
from farebox.core.settings import Settings
from farebox.limits.models import MeterScope

MAX_LIMIT = 2_000_000_000


class InvalidLimit(BadRequest):
    """`names` are the limits that cannot be set to what was asked."""

    code = "invalid_limit"

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__(" ".join(faults.values()), param=next(iter(faults)))
        self.names = tuple(faults)


class Ceilings(msgspec.Struct, frozen=True):
    """The most that an organization may set for itself: the operator's say."""

    requests_per_minute: int = MAX_LIMIT
    tokens_per_minute: int = MAX_LIMIT
    concurrent_requests: int = MAX_LIMIT

    @classmethod
    def of(cls, settings: Settings) -> "Ceilings":
        return cls(
            settings.max_requests_per_minute,
            settings.max_tokens_per_minute,
            settings.max_concurrent_requests,
        )

    def most_of(self, name: str) -> int:
        """What a limit may be set to at most."""
        most: int = getattr(self, name)
        return min(most, MAX_LIMIT)


class LimitChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change: UNSET leaves a limit as it is, None lifts it (a project falls back to the default)."""

    requests_per_minute: int | None | UnsetType = UNSET
    tokens_per_minute: int | None | UnsetType = UNSET
    concurrent_requests: int | None | UnsetType = UNSET
    monthly_cap: Decimal | None | UnsetType = UNSET


async def get_limits(session: AsyncSession, organization_id: UUID, scope_id: UUID) -> MeterScope:
    """The limits and their present state. Raises NotFound, also for another tenant's scope."""
    scope = await session.scalar(
        select(MeterScope).where(MeterScope.id == scope_id, MeterScope.organization_id == organization_id)
    )
    if scope is None:
        raise NotFound("No such organization, project or key.", code="not_found")
    return scope


async def limits_of_projects(session: AsyncSession, organization_id: UUID) -> dict[UUID, MeterScope]:
    """The limits of all the organization's projects, by their ids."""
    query = select(MeterScope).where(
        MeterScope.organization_id == organization_id, MeterScope.kind == "project"
    )
    return {scope.id: scope for scope in await session.scalars(query)}


async def set_limits(
    session: AsyncSession,
    organization_id: UUID,
    scope_id: UUID,
    change: LimitChange,
    ceilings: Ceilings = Ceilings(),  # noqa: B008  immutable
) -> MeterScope:
    """Change limits; the next admission on any replica obeys. Raises NotFound, InvalidLimit."""
    scope = await get_limits(session, organization_id, scope_id)
    values = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    _check(scope, values, ceilings)
    if values:
        await lock_briefly(session)
        await session.execute(
            update(MeterScope)
            .where(MeterScope.id == scope_id, MeterScope.organization_id == organization_id)
            .values(values)
        )
        await session.refresh(scope)
    return scope


def _check(scope: MeterScope, values: Mapping[str, Any], ceilings: Ceilings) -> None:
    """Raises InvalidLimit that names every limit at fault, not only the first."""
    found = ((name, _fault(scope, name, value, ceilings)) for name, value in values.items())
    if faults := {name: fault for name, fault in found if fault}:
        raise InvalidLimit(faults)


def _fault(scope: MeterScope, name: str, value: int | Decimal | None, ceilings: Ceilings) -> str | None:
    if value is None:
        return None
    if name != "monthly_cap":
        most = ceilings.most_of(name)
        return None if 0 <= value <= most else f"`{name}` is a whole number from 0 to {most}."
    if scope.kind == "key":
        return "A spend cap belongs to an organization or a project."
    if not is_whole_cents(Decimal(value)):
        return f"`{name}` is an amount in whole cents from 0 to {MAX_LIMIT}."
    return None


def is_whole_cents(amount: Decimal) -> bool:
    """Whether a spend cap may be this amount."""
    return amount.is_finite() and 0 <= amount <= MAX_LIMIT and amount == amount.quantize(Decimal("0.01"))

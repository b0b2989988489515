"""Reading and setting limits. Sessions come from `Database.transaction` of the organization."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import lock_briefly
from farebox.core.errors import BadRequest, NotFound
from farebox.core.settings import Settings
from farebox.limits.models import MeterScope
from farebox.tenants.ceilings import OwnCeilings, keep_ceilings

MAX_LIMIT = 2_000_000_000


class InvalidLimit(BadRequest):
    code = "invalid_limit"


class Ceilings(msgspec.Struct, frozen=True):
    """The most that an organization may set as a limit of itself, a project or a key."""

    requests_per_minute: int = MAX_LIMIT
    tokens_per_minute: int = MAX_LIMIT
    concurrent_requests: int = MAX_LIMIT

    @classmethod
    def of(cls, settings: Settings) -> "Ceilings":
        """What holds for every organization without ceilings of its own."""
        return cls(
            min(settings.max_requests_per_minute, MAX_LIMIT),
            min(settings.max_tokens_per_minute, MAX_LIMIT),
            min(settings.max_concurrent_requests, MAX_LIMIT),
        )

    def most_of(self, name: str) -> int:
        """What a limit may be set to at most."""
        most: int = getattr(self, name)
        return most

    def allow(self, name: str, value: int | Decimal | None) -> bool:
        """Whether a limit may be set to `value`; a spend cap is an amount in whole cents."""
        if value is None:
            return True
        if name != "monthly_cap":
            return 0 <= value <= self.most_of(name)
        amount = Decimal(value)
        return amount.is_finite() and 0 <= amount <= MAX_LIMIT and amount == amount.quantize(Decimal("0.01"))

    def replaced_by(self, own: OwnCeilings) -> "Ceilings":
        """These, but for those that an organization has of its own."""
        names = msgspec.structs.asdict(self)
        changes = {name: value for name in names if (value := getattr(own, f"max_{name}")) is not None}
        return msgspec.structs.replace(self, **changes)


class LimitChange(msgspec.Struct, frozen=True, kw_only=True):
    """What to change: UNSET leaves a limit as it is, None lifts it (a project falls back to the default)."""

    requests_per_minute: int | None | UnsetType = UNSET
    tokens_per_minute: int | None | UnsetType = UNSET
    concurrent_requests: int | None | UnsetType = UNSET
    monthly_cap: Decimal | None | UnsetType = UNSET


async def ceilings_for(session: AsyncSession, organization_id: UUID, settings: Settings) -> Ceilings:
    """What holds for an organization, and goes on holding until this transaction ends."""
    return Ceilings.of(settings).replaced_by(await keep_ceilings(session, organization_id))


async def get_limits(session: AsyncSession, organization_id: UUID, scope_id: UUID) -> MeterScope:
    """The limits and their present state. Raises NotFound, also for another tenant's scope."""
    scope = await session.scalar(
        select(MeterScope).where(MeterScope.id == scope_id, MeterScope.organization_id == organization_id)
    )
    if scope is None:
        raise NotFound("No such organization, project or key.", code="not_found")
    return scope


async def limits_of_projects(
    session: AsyncSession, organization_id: UUID, project_ids: Sequence[UUID]
) -> dict[UUID, MeterScope]:
    """The limits of these projects of the organization, by their ids."""
    query = select(MeterScope).where(
        MeterScope.organization_id == organization_id,
        MeterScope.kind == "project",
        MeterScope.id.in_(project_ids),
    )
    return {scope.id: scope for scope in await session.scalars(query)}


async def set_limits(
    session: AsyncSession,
    organization_id: UUID,
    scope_id: UUID,
    change: LimitChange,
    ceilings: Ceilings = Ceilings(),  # noqa: B008  immutable
) -> MeterScope:
    """Change limits; the next admission on any replica obeys. Raises NotFound, InvalidLimit.

    `ceilings` hold where the organization has none of its own. One of its own is its limit when it lifts
    its limit.
    """
    values = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    await lock_briefly(session)
    own = await keep_ceilings(session, organization_id)
    scope = await get_limits(session, organization_id, scope_id)
    for name, value in values.items():
        _check(scope, name, value, ceilings.replaced_by(own))
        if value is None and scope.kind == "organization":
            values[name] = getattr(own, f"max_{name}", None)
    if values:
        await session.execute(
            update(MeterScope)
            .where(MeterScope.id == scope_id, MeterScope.organization_id == organization_id)
            .values(values)
        )
        await session.refresh(scope)
    return scope


def _check(scope: MeterScope, name: str, value: int | Decimal | None, ceilings: Ceilings) -> None:
    if name == "monthly_cap" and value is not None and scope.kind == "key":
        raise InvalidLimit("A spend cap belongs to an organization or a project.", param=name)
    if not ceilings.allow(name, value):
        number = f"an amount in whole cents from 0 to {MAX_LIMIT}"
        if name != "monthly_cap":
            number = f"a whole number from 0 to {ceilings.most_of(name)}"
        raise InvalidLimit(f"`{name}` is {number}.", param=name)

"""Ceilings made to hold: what was set before they came is lowered to them. All under the meter's role."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import Database, lock_briefly
from farebox.core.ids import external
from farebox.core.settings import Settings
from farebox.keys.allow_lists import narrow_allow_lists
from farebox.limits.models import MeterScope
from farebox.limits.service import Ceilings
from farebox.tenants.audit import record
from farebox.tenants.ceilings import CeilingChange, OwnCeilings, ceilings_of, change_ceilings

_PREFIXES = {"organization": "org", "project": "proj", "key": "key"}
_LIMITS = {
    "requests_per_minute": MeterScope.requests_per_minute,
    "tokens_per_minute": MeterScope.tokens_per_minute,
    "concurrent_requests": MeterScope.concurrent_requests,
}

SCOPES_AT_ONCE = 100

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Lowered:
    """A limit that stood above a ceiling; `id` is the external one, None stands for no limit."""

    id: str
    limit: str
    before: int | list[str] | None
    now: int | list[str]


async def set_ceilings(
    session: AsyncSession, organization_id: UUID, change: CeilingChange, settings: Settings
) -> tuple[OwnCeilings, list[Lowered]]:
    """Set an organization's own ceilings, and lower to them what is above; tells both.

    Where the organization itself has no limit, it gets a ceiling of its own as its limit: else its projects
    together would be above it. Projects and keys that are there stay. Raises NotFound.
    """
    await lock_briefly(session)
    own = await change_ceilings(session, organization_id, change)
    lowered, _ = await _lower(session, MeterScope.organization_id == organization_id, settings)
    if own.allowed_models is not None:
        for key_id, before, now in await narrow_allow_lists(session, organization_id, own.allowed_models):
            lowered.append(Lowered(external("key", key_id), "models", before, now))
    if change.values:
        await record(
            session,
            organization_id=organization_id,
            actor_id=None,
            action="ceilings.changed",
            target=external("org", organization_id),
            detail=change.values,
        )
    return own, lowered


async def hold_ceilings(
    database: Database, settings: Settings, *, at_once: int = SCOPES_AT_ONCE
) -> list[Lowered]:
    """Lower what is above the settings' ceilings since they were lowered, wherever these hold.

    `at_once` scopes in each transaction: nobody's requests wait for those of all.
    """
    ceilings = Ceilings.of(settings)
    above = or_(*(column > getattr(ceilings, name) for name, column in _LIMITS.items()))
    lowered: list[Lowered] = []
    last: UUID | None = None
    while True:
        async with database.meter_transaction() as session:
            await lock_briefly(session)
            which = above if last is None else and_(above, MeterScope.id > last)
            found, last = await _lower(session, which, settings, limit=at_once)
            lowered += found
        if last is None:
            break
    if lowered:
        _log.info("limits.lowered", number=len(lowered))
    return lowered


async def _lower(
    session: AsyncSession, which: ColumnElement[bool], settings: Settings, limit: int | None = None
) -> tuple[list[Lowered], UUID | None]:
    """What was lowered, of `limit` scopes at most, and the last of these; None if there are no more."""
    # In the order in which admission locks them.
    query = select(MeterScope).where(which).order_by(MeterScope.id).limit(limit).with_for_update()
    scopes = (await session.scalars(query)).all()
    owned = await ceilings_of(session, {scope.organization_id for scope in scopes})
    ceilings = Ceilings.of(settings)
    lowered = [each for scope in scopes for each in _fit(scope, ceilings, owned[scope.organization_id])]
    await session.flush()
    return lowered, scopes[-1].id if len(scopes) == limit else None


def _fit(scope: MeterScope, ceilings: Ceilings, own: OwnCeilings) -> Iterator[Lowered]:
    for name, ceiling in msgspec.structs.asdict(ceilings.replaced_by(own)).items():
        before: int | None = getattr(scope, name)
        unbounded = scope.kind == "organization" and getattr(own, f"max_{name}") is not None
        if unbounded if before is None else before > ceiling:
            setattr(scope, name, ceiling)
            yield Lowered(external(_PREFIXES[scope.kind], scope.id), name, before, ceiling)

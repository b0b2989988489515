"""Which models a key may call: its own list, within the one of its organization, which the operator sets."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.errors import BadRequest
from farebox.keys.models import ApiKey
from farebox.tenants.ceilings import keep_ceilings

Narrowed = tuple[UUID, list[str] | None, list[str]]


async def fit_allow_list(
    session: AsyncSession, organization_id: UUID, models: Sequence[str] | None
) -> list[str] | None:
    """The list of a new key, None for all. Raises BadRequest for a model beyond the organization's."""
    allowed = (await keep_ceilings(session, organization_id)).allowed_models
    if models is None:
        return allowed
    if allowed is not None and (beyond := sorted(set(models) - set(allowed))):
        raise BadRequest(
            f"The operator allows this organization no model {beyond[0]!r}.",
            code="invalid_models",
            param="models",
        )
    return sorted(set(models))


async def narrow_allow_lists(
    session: AsyncSession, organization_id: UUID, allowed: Sequence[str]
) -> list[Narrowed]:
    """Take from the organization's living keys what it may not call any more: key, list before, list now.

    A key without a list gets `allowed`. Under `Database.meter_transaction()`.
    """
    beyond = or_(ApiKey.models.is_(None), ~ApiKey.models.contained_by(allowed))
    living = (ApiKey.organization_id == organization_id) & ApiKey.revoked_at.is_(None)
    query = select(ApiKey).where(living, ApiKey.expires_at > func.now(), beyond).order_by(ApiKey.id)
    narrowed: list[Narrowed] = []
    for key in await session.scalars(query):
        before, key.models = key.models, [m for m in allowed if key.models is None or m in key.models]
        narrowed.append((key.id, before, key.models))
    await session.flush()
    return narrowed

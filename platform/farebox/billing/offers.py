"""The models for sale. Sessions come from `Database.meter_transaction`."""

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import UnknownModel
from farebox.billing.models import ModelOffer, ModelWeights


async def add_model(
    session: AsyncSession,
    *,
    model_id: str,
    path: str,
    sha256: str,
    context_length: int,
    owned_by: str,
) -> None:
    """Offer a model, or offer it again from another folder. It needs a price before it is callable."""
    row = {"path": path, "sha256": sha256, "context_length": context_length, "owned_by": owned_by}
    await session.execute(
        insert(ModelOffer)
        .values(id=model_id, **row)
        .on_conflict_do_update(index_elements=["id"], set_=row | {"removed_at": None})
    )
    await session.execute(insert(ModelWeights).values(model_id=model_id, sha256=sha256))


async def remove_model(session: AsyncSession, model_id: str) -> None:
    """Offer a model no longer; requests under way finish. Raises UnknownModel."""
    removed = await session.scalar(
        update(ModelOffer)
        .where(ModelOffer.id == model_id, ModelOffer.removed_at.is_(None))
        .values(removed_at=func.now())
        .returning(ModelOffer.id)
    )
    if removed is None:
        raise UnknownModel(f"There is no model `{model_id}`.")


async def active_models(session: AsyncSession) -> list[ModelOffer]:
    """The models on offer, by name."""
    query = select(ModelOffer).where(ModelOffer.removed_at.is_(None)).order_by(ModelOffer.id)
    return list(await session.scalars(query))


async def weights_between(session: AsyncSession, model_id: str, start: datetime, end: datetime) -> str | None:
    """The hash of a model's weights, if it was the only one on offer in a span of time."""
    column = ModelWeights.sha256
    earlier = (
        select(column)
        .where(ModelWeights.model_id == model_id, ModelWeights.offered_at <= start)
        .order_by(ModelWeights.offered_at.desc())
        .limit(1)
    )
    within = select(column).where(
        ModelWeights.model_id == model_id, ModelWeights.offered_at > start, ModelWeights.offered_at <= end
    )
    found = {*await session.scalars(earlier), *await session.scalars(within)}
    return found.pop() if len(found) == 1 else None


async def find_model(session: AsyncSession, model_id: str) -> ModelOffer | None:
    """The model of a name, on offer or removed."""
    return await session.get(ModelOffer, model_id)

"""The models for sale. Sessions come from `Database.meter_transaction`."""

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import UnknownModel
from farebox.billing.models import ModelOffer


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


async def find_model(session: AsyncSession, model_id: str) -> ModelOffer | None:
    """The model of a name, on offer or removed."""
    return await session.get(ModelOffer, model_id)

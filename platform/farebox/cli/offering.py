"""Offering a checkpoint for sale: what `farebox model add` and the demo model have in common."""

from collections.abc import Sequence
from pathlib import Path

from farebox.billing.models import ModelOffer
from farebox.billing.offers import active_models, add_model, find_model
from farebox.billing.prices import current_price, set_price
from farebox.billing.terms import parse_price
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.gateway.models.adapters import base_of, inspect_adapter
from farebox.gateway.models.checkpoints import (
    Checkpoint,
    UnusableCheckpoint,
    demo_folder,
    hash_checkpoint,
    inspect_checkpoint,
)

DEMO_MODEL = "farebox-demo"


async def offer_checkpoint(
    database: Database, settings: Settings, folder: Path, model_id: str, owned_by: str
) -> Checkpoint:
    """Make the checkpoint in `folder` callable as `model_id`, at the default price unless it has one.

    Servers hear of it when the transaction commits. Raises UnusableCheckpoint.
    """
    async with database.meter_transaction() as session:
        offers = await active_models(session)
    checkpoint = inspect_offer(folder, model_id, offers)
    async with database.meter_transaction() as session:
        await add_model(
            session,
            model_id=model_id,
            path=str(checkpoint.path),
            sha256=checkpoint.sha256,
            context_length=checkpoint.context_length,
            owned_by=owned_by,
        )
        if await current_price(session, model_id) is None:
            await set_price(
                session,
                model_id,
                input_per_million=parse_price(settings.default_input_price),
                cached_input_per_million=parse_price(settings.default_cached_input_price),
                output_per_million=parse_price(settings.default_output_price),
                currency=settings.currency,
            )
    return checkpoint


def inspect_offer(folder: Path, model_id: str, offers: Sequence[ModelOffer]) -> Checkpoint:
    """Check a whole model, or an adapter against its base among `offers`. Raises UnusableCheckpoint."""
    base_id = base_of(model_id, folder)
    if base_id is None:
        return inspect_checkpoint(folder)
    base = next((offer for offer in offers if offer.id == base_id), None)
    if base is None:
        raise UnusableCheckpoint(
            f"{folder} is an adapter; name it BASE:ADAPTER, where BASE is a model on offer"
            + (f", which {base_id} is not." if base_id else ".")
        )
    return inspect_adapter(folder, Path(base.path))


async def offer_demo_model(database: Database, settings: Settings) -> None:
    """Offer the model in the wheel, where this installation has it now, unless an operator removed it."""
    folder = demo_folder().resolve()
    async with database.meter_transaction() as session:
        offer = await find_model(session, DEMO_MODEL)
    if offer is not None:
        unchanged = offer.path == str(folder) and offer.sha256 == hash_checkpoint(folder)
        if unchanged or offer.removed_at is not None:
            return
    await offer_checkpoint(database, settings, folder, DEMO_MODEL, "farebox")


async def model_to_try(database: Database) -> str | None:
    """The model for a first request: the demo, or any; None when none is on offer."""
    async with database.meter_transaction() as session:
        offered = [offer.id for offer in await active_models(session)]
    return DEMO_MODEL if DEMO_MODEL in offered else next(iter(offered), None)

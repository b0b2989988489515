"""The price book: dated rows, never changed. Sessions come from `Database.meter_transaction`."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount, UnknownModel
from farebox.billing.models import ModelOffer, Price
from farebox.core.database import present
from farebox.core.ids import new_id
from farebox.core.money import read_plain

MAX_PRICE_PER_MILLION = Decimal("1000000")


def parse_price(value: str) -> Decimal:
    """A price per million tokens: 0 to 1,000,000 with at most six decimals. Raises InvalidAmount."""
    try:
        price = read_plain(value)
    except ValueError:
        raise InvalidAmount(f"`{value}` is not a price; write it like 0.50.") from None
    if not 0 <= price <= MAX_PRICE_PER_MILLION:
        raise InvalidAmount(f"A price lies between 0 and {MAX_PRICE_PER_MILLION} per million tokens.")
    if price != price.quantize(Decimal("0.000001")):
        raise InvalidAmount("A price per million tokens has at most six decimals.")
    return price


async def set_price(
    session: AsyncSession,
    model_id: str,
    *,
    input_per_million: Decimal,
    cached_input_per_million: Decimal,
    output_per_million: Decimal,
    currency: str,
    effective_from: datetime | None = None,
) -> UUID:
    """Add a dated price; earlier ones stay, and what was admitted under them is billed by them.

    `effective_from` is now unless given, and never in the past. Raises UnknownModel, InvalidAmount.
    """
    if await session.get(ModelOffer, model_id) is None:
        raise UnknownModel(f"There is no model `{model_id}`.")
    now = await present(session)
    if effective_from is not None and effective_from < now:
        raise InvalidAmount("A price cannot take effect in the past: what was billed stays billed.")
    price = Price(
        id=new_id(),
        model_id=model_id,
        input_per_million=input_per_million,
        cached_input_per_million=cached_input_per_million,
        output_per_million=output_per_million,
        currency=currency,
        effective_from=effective_from or now,
    )
    session.add(price)
    await session.flush()
    return price.id


async def current_price(session: AsyncSession, model_id: str) -> Price | None:
    """The price that applies now."""
    query = (
        select(Price)
        .where(Price.model_id == model_id, Price.effective_from <= func.now())
        .order_by(Price.effective_from.desc())
        .limit(1)
    )
    return await session.scalar(query)


async def current_prices(session: AsyncSession) -> dict[str, Price]:
    """The prices that apply now, by model; a model without one cannot be called."""
    query = (
        select(Price)
        .ext(distinct_on(Price.model_id))
        .where(Price.effective_from <= func.now())
        .order_by(Price.model_id, Price.effective_from.desc())
    )
    return {price.model_id: price for price in await session.scalars(query)}

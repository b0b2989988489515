"""The price book: dated rows, never changed. Sessions come from `Database.meter_transaction`."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidPrice, OverlappingPrice, UnknownModel, UnknownPlan
from farebox.billing.models import ModelOffer, Plan, Price, PriceTier
from farebox.billing.terms import Terms, describe_tiers, flat
from farebox.billing.tiers import Tariff, Tier
from farebox.core.database import present
from farebox.core.errors import NotFound
from farebox.core.ids import new_id
from farebox.limits.balances import plan_of
from farebox.tenants.organizations import find_organization


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
    """Add a flat price for everybody; see `add_price`."""
    terms = flat(
        input_per_million=input_per_million,
        cached_input_per_million=cached_input_per_million,
        output_per_million=output_per_million,
        currency=currency,
    )
    return await add_price(session, model_id, terms, effective_from=effective_from)


async def add_price(
    session: AsyncSession,
    model_id: str,
    terms: Terms,
    *,
    organization_id: UUID | None = None,
    plan_id: UUID | None = None,
    effective_from: datetime | None = None,
    effective_until: datetime | None = None,
    now: datetime | None = None,
) -> UUID:
    """Add a dated price; earlier ones stay, and what was admitted under them is billed by them.

    It is everybody's, or that of a plan, or the contract of one organization; a contract may end.
    `effective_from` is now unless given, and never in the past; `now` is one for all prices of a file.
    Raises UnknownModel, UnknownPlan, NotFound, InvalidPrice, InvalidAmount, and OverlappingPrice where a
    contract with an end meets another.
    """
    terms.check()
    if await session.get(ModelOffer, model_id) is None:
        raise UnknownModel(f"There is no model `{model_id}`.")
    if organization_id is not None and await find_organization(session, organization_id) is None:
        raise NotFound("No such organization.", code="not_found")
    if plan_id is not None and await session.get(Plan, plan_id) is None:
        raise UnknownPlan("There is no such plan.")
    now = now or await present(session)
    if effective_from is not None and effective_from < now:
        raise InvalidPrice("A price cannot take effect in the past: what was billed stays billed.")
    if effective_until is not None and organization_id is None:
        raise InvalidPrice("A price ends with the next one; only an organization's contract has an end.")
    price = Price(
        id=new_id(),
        model_id=model_id,
        input_per_million=terms.dearest("input"),
        cached_input_per_million=terms.dearest("cached_input"),
        output_per_million=terms.dearest("output"),
        item_per_million=terms.item_per_million,
        currency=terms.currency,
        effective_from=effective_from or now,
        effective_until=effective_until,
        organization_id=organization_id,
        plan_id=plan_id,
        scheme=terms.scheme,
        package_tokens=terms.tariffs["input"].package_tokens,
    )
    if effective_until is not None and effective_until <= price.effective_from:
        raise InvalidPrice("A contract ends after it has begun.")
    await _refuse_overlaps(session, price)
    session.add(price)
    await session.flush()
    if terms.scheme != "flat":
        session.add_all(_tier_rows(price.id, terms))
        await session.flush()
    return price.id


def _tier_rows(price_id: UUID, terms: Terms) -> list[PriceTier]:
    return [
        PriceTier(price_id=price_id, token_class=name, starts_at=tier.starts_at, per_million=tier.per_million)
        for name, tariff in terms.tariffs.items()
        for tier in tariff.tiers
    ]


async def _refuse_overlaps(session: AsyncSession, price: Price) -> None:
    """A price without an end is followed by the next. Two may not both say what holds at a time that one of
    them names the end of. Raises OverlappingPrice."""
    same = (
        Price.model_id == price.model_id,
        Price.organization_id.is_not_distinct_from(price.organization_id),
        Price.plan_id.is_not_distinct_from(price.plan_id),
    )
    same_start = Price.effective_from == price.effective_from
    reaches = (Price.effective_from < price.effective_from) & (Price.effective_until > price.effective_from)
    begins_within = (Price.effective_from > price.effective_from) & (
        (Price.effective_from < price.effective_until) if price.effective_until is not None else False
    )
    query = select(Price).where(*same, or_(same_start, reaches, begins_within)).limit(1)
    other = await session.scalar(query)
    if other is not None:
        raise OverlappingPrice(other.effective_from, other.effective_until)


_CURRENT = text("""
SELECT price.* FROM model m
CROSS JOIN LATERAL applicable_price(m.id, CAST(:organization AS uuid), CAST(:plan AS uuid), now()) AS price
WHERE CAST(:model AS text) IS NULL OR m.id = :model
""")


async def current_price(session: AsyncSession, model_id: str) -> Price | None:
    """The price that applies now to everybody who has no other."""
    return (await _current(session, model_id=model_id)).get(model_id)


async def current_prices(
    session: AsyncSession, *, organization_id: UUID | None = None, plan_id: UUID | None = None
) -> dict[str, Price]:
    """The prices that apply now, by model: everybody's, or those of an organization with its plan.

    A model without one cannot be called.
    """
    return await _current(session, organization_id=organization_id, plan_id=plan_id)


async def _current(
    session: AsyncSession,
    *,
    organization_id: UUID | None = None,
    plan_id: UUID | None = None,
    model_id: str | None = None,
) -> dict[str, Price]:
    query = select(Price).from_statement(_CURRENT)
    values = {"organization": organization_id, "plan": plan_id, "model": model_id}
    return {price.model_id: price for price in await session.scalars(query, values)}


async def prices_for(session: AsyncSession, organization_id: UUID) -> dict[str, Price]:
    """What models cost an organization now, with its contracts and its plan."""
    plan_id = await plan_of(session, organization_id)
    return await current_prices(session, organization_id=organization_id, plan_id=plan_id)


async def terms_for(session: AsyncSession, organization_id: UUID) -> dict[str, Terms]:
    """The same, with what each price says."""
    prices = await prices_for(session, organization_id)
    return {model_id: await terms_of(session, price) for model_id, price in prices.items()}


class PricedFor(NamedTuple):
    """A price, the name of the plan whose it is, and its tiers in words."""

    price: Price
    plan: str | None
    tiers: str


async def list_prices(session: AsyncSession, model_id: str | None = None) -> list[PricedFor]:
    """All that are in the book, by model and date."""
    query = (
        select(Price, Plan.name)
        .join(Plan, Plan.id == Price.plan_id, isouter=True)
        .order_by(Price.model_id, Price.effective_from, Price.id)
    )
    if model_id is not None:
        query = query.where(Price.model_id == model_id)
    return [
        PricedFor(price, plan, describe_tiers(await terms_of(session, price)))
        for price, plan in await session.execute(query)
    ]


async def terms_of(session: AsyncSession, price: Price) -> Terms:
    """What a price says, its tiers included."""
    if price.scheme == "flat":
        return flat(
            input_per_million=price.input_per_million,
            cached_input_per_million=price.cached_input_per_million,
            output_per_million=price.output_per_million,
            currency=price.currency,
            item_per_million=price.item_per_million,
        )
    query = select(PriceTier).where(PriceTier.price_id == price.id).order_by(PriceTier.starts_at)
    rows: Sequence[PriceTier] = list(await session.scalars(query))
    tariffs = {
        name: Tariff(
            scheme=price.scheme,  # type: ignore[arg-type]  # as the table's constraint has it
            tiers=tuple(Tier(row.starts_at, row.per_million) for row in rows if row.token_class == name),
            package_tokens=price.package_tokens,
        )
        for name in ("input", "cached_input", "output")
    }
    return Terms(
        currency=price.currency,
        tariffs=tariffs,  # type: ignore[arg-type]
        item_per_million=price.item_per_million,
    )

"""The price book: dated rows, never changed. Sessions come from `Database.meter_transaction`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount, InvalidPrice, OverlappingPrice, UnknownModel, UnknownPlan
from farebox.billing.models import ModelOffer, Plan, Price, PriceTier
from farebox.billing.tiers import Scheme, Tariff, Tier, TokenClass, check_tariff
from farebox.core.database import present
from farebox.core.errors import NotFound
from farebox.core.ids import new_id
from farebox.core.money import is_currency, read_plain
from farebox.tenants.organizations import find_organization

MAX_PRICE_PER_MILLION = Decimal("1000000")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a price says: a tariff for each class of tokens, and a rate for a million items."""

    currency: str
    tariffs: Mapping[TokenClass, Tariff]
    item_per_million: Decimal = Decimal(0)

    @property
    def scheme(self) -> Scheme:
        return self.tariffs["input"].scheme

    def dearest(self, token_class: TokenClass) -> Decimal:
        return max(tier.per_million for tier in self.tariffs[token_class].tiers)

    def check(self) -> None:
        """Raises InvalidPrice."""
        if not is_currency(self.currency):
            raise InvalidPrice(f"`{self.currency}` is no currency of ISO 4217.")
        if self.tariffs.keys() != {"input", "cached_input", "output"}:
            raise InvalidPrice("A price names input, cached input and output.")
        if len({(tariff.scheme, tariff.package_tokens) for tariff in self.tariffs.values()}) > 1:
            raise InvalidPrice("All classes of a price follow one scheme, in packages of one size.")
        for tariff in self.tariffs.values():
            check_tariff(tariff)
        for rate in (self.item_per_million, *map(self.dearest, self.tariffs)):
            check_rate(rate)


def flat(
    *,
    input_per_million: Decimal,
    cached_input_per_million: Decimal,
    output_per_million: Decimal,
    currency: str,
    item_per_million: Decimal = Decimal(0),
) -> Terms:
    """One rate for each class, however much is used."""
    rates: dict[TokenClass, Decimal] = {
        "input": input_per_million,
        "cached_input": cached_input_per_million,
        "output": output_per_million,
    }
    tariffs = {each: Tariff(scheme="flat", tiers=(Tier(0, rate),)) for each, rate in rates.items()}
    return Terms(currency=currency, tariffs=tariffs, item_per_million=item_per_million)


def parse_price(value: str) -> Decimal:
    """A price per million tokens: 0 to 1,000,000 with at most six decimals. Raises InvalidAmount."""
    try:
        price = read_plain(value)
    except ValueError:
        raise InvalidAmount(f"`{value}` is not a price; write it like 0.50.") from None
    check_rate(price)
    return price


def check_rate(rate: Decimal) -> None:
    """Raises InvalidAmount."""
    if not rate.is_finite() or not 0 <= rate <= MAX_PRICE_PER_MILLION:
        raise InvalidAmount(f"A price lies between 0 and {MAX_PRICE_PER_MILLION} per million tokens.")
    if rate != rate.quantize(Decimal("0.000001")):
        raise InvalidAmount("A price per million tokens has at most six decimals.")


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
) -> UUID:
    """Add a dated price; earlier ones stay, and what was admitted under them is billed by them.

    It is everybody's, or that of a plan, or the contract of one organization; a contract may end.
    `effective_from` is now unless given, and never in the past. Raises UnknownModel, UnknownPlan, NotFound,
    InvalidPrice, InvalidAmount, and OverlappingPrice where a contract with an end meets another.
    """
    terms.check()
    if await session.get(ModelOffer, model_id) is None:
        raise UnknownModel(f"There is no model `{model_id}`.")
    if organization_id is not None and await find_organization(session, organization_id) is None:
        raise NotFound("No such organization.", code="not_found")
    if plan_id is not None and await session.get(Plan, plan_id) is None:
        raise UnknownPlan("There is no such plan.")
    now = await present(session)
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


async def current_price(session: AsyncSession, model_id: str) -> Price | None:
    """The price that applies now to everybody who has no other."""
    query = (
        select(Price)
        .where(
            Price.model_id == model_id,
            Price.organization_id.is_(None),
            Price.plan_id.is_(None),
            Price.effective_from <= func.now(),
        )
        .order_by(Price.effective_from.desc())
        .limit(1)
    )
    return await session.scalar(query)


async def current_prices(
    session: AsyncSession, *, organization_id: UUID | None = None, plan_id: UUID | None = None
) -> dict[str, Price]:
    """The prices that apply now, by model: everybody's, or those of an organization with its plan.

    A model without one cannot be called.
    """
    query = (
        select(Price)
        .ext(distinct_on(Price.model_id))
        .where(
            Price.effective_from <= func.now(),
            or_(Price.effective_until.is_(None), Price.effective_until > func.now()),
            or_(Price.organization_id.is_(None), Price.organization_id == organization_id),
            or_(Price.plan_id.is_(None), Price.plan_id == plan_id),
        )
        .order_by(Price.model_id, Price.organization_id, Price.plan_id, Price.effective_from.desc())
    )
    return {price.model_id: price for price in await session.scalars(query)}


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

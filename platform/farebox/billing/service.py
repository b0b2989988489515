"""Models for sale, their prices, and money paid in. Sessions come from `Database.meter_transaction`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models import LedgerTransfer, ModelOffer, Price
from farebox.core.errors import BadRequest, NotFound
from farebox.core.ids import new_id
from farebox.core.money import plain, read_plain
from farebox.limits.balances import add_to_balance, lock_balance
from farebox.limits.models import MeterScope

MAX_PRICE_PER_MILLION = Decimal("1000000")
MAX_TOP_UP = Decimal("1000000")

log = structlog.get_logger(__name__)


class InvalidAmount(BadRequest):
    code = "invalid_amount"


class UnknownModel(NotFound):
    code = "model_not_found"


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
    now = (await session.execute(select(func.clock_timestamp()))).scalar_one()
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


async def top_up(
    session: AsyncSession, *, organization_id: UUID, amount: Decimal, currency: str, reference: str
) -> bool:
    """Add prepaid credit, once per organization and reference; False when it was added before.

    Raises InvalidAmount, and when the reference was used for another amount.
    """
    _check_amount(amount, "A top-up")
    await _lock_in(session, organization_id, currency)
    transfer = Transfer("top_up", "cash", "prepaid", amount, currency, reference)
    if not await _enter(session, organization_id, transfer):
        return False
    await add_to_balance(session, organization_id, amount=amount, currency=currency)
    log.info("balance.topped_up", organization_id=str(organization_id), amount=amount, currency=currency)
    return True


async def take_back(
    session: AsyncSession, *, organization_id: UUID, amount: Decimal, currency: str, reason: str
) -> bool:
    """Correct a wrong credit by an entry of its own, once per reason; False when it was done before.

    What is spent stays spent, and what requests under way have reserved stays theirs. Raises InvalidAmount
    for more than what is left.
    """
    _check_amount(amount, "A correction")
    scope = await _lock_in(session, organization_id, currency)
    left = (scope.balance or Decimal(0)) - scope.reserved
    transfer = Transfer("adjustment", "prepaid", "cash", amount, currency, reason)
    if not await _enter(session, organization_id, transfer):
        return False
    if amount > left:
        raise InvalidAmount(f"No more than {plain(left, currency)} {currency} is left to take back.")
    await add_to_balance(session, organization_id, amount=-amount, currency=currency)
    log.info("balance.corrected", organization_id=str(organization_id), amount=amount, currency=currency)
    return True


@dataclass(frozen=True)
class Transfer:
    """A transfer to enter under its reference."""

    kind: str
    debit_account: str
    credit_account: str
    amount: Decimal
    currency: str
    reference: str


def _check_amount(amount: Decimal, what: str) -> None:
    if not amount.is_finite() or not 0 < amount <= MAX_TOP_UP or amount != amount.quantize(Decimal("0.01")):
        raise InvalidAmount(f"{what} is a positive amount in whole cents, at most {MAX_TOP_UP}.")


async def _lock_in(session: AsyncSession, organization_id: UUID, currency: str) -> MeterScope:
    scope = await lock_balance(session, organization_id)
    if scope.currency not in (None, currency):
        raise InvalidAmount(f"The organization's balance is kept in {scope.currency}, not in {currency}.")
    return scope


async def _enter(session: AsyncSession, organization_id: UUID, transfer: Transfer) -> bool:
    """Into the ledger; False when it is there. Raises InvalidAmount when its reference is another's."""
    added = await session.scalar(
        insert(LedgerTransfer)
        .values(id=new_id(), organization_id=organization_id, **asdict(transfer))
        .on_conflict_do_nothing(index_elements=["organization_id", "reference"])
        .returning(LedgerTransfer.id)
    )
    if added is not None:
        return True
    before = await session.scalar(
        select(LedgerTransfer).where(
            LedgerTransfer.organization_id == organization_id, LedgerTransfer.reference == transfer.reference
        )
    )
    if before is not None and before.kind != transfer.kind:
        raise InvalidAmount(f"The reference `{transfer.reference}` was used for another entry.")
    if before is not None and (before.amount, before.currency) != (transfer.amount, transfer.currency):
        raise InvalidAmount(f"The reference `{transfer.reference}` was used for another amount.")
    return False


async def organizations_with_transfers(session: AsyncSession, organization_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the organizations that have moved money."""
    column = LedgerTransfer.organization_id
    return set(await session.scalars(select(column).where(column.in_(organization_ids)).distinct()))


LEDGER_BALANCE = text("""
SELECT coalesce(sum(CASE WHEN credit_account = 'prepaid' THEN amount ELSE -amount END), 0)
FROM ledger_transfer
WHERE organization_id = :organization AND 'prepaid' IN (debit_account, credit_account)
""")


async def ledger_balance(session: AsyncSession, organization_id: UUID) -> Decimal:
    """The prepaid balance as the ledger tells it; always equal to the one admission works with."""
    balance = (await session.execute(LEDGER_BALANCE, {"organization": organization_id})).scalar_one()
    return Decimal(balance)

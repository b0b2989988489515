"""Top-ups: what somebody wants to pay in, as rows of ours. Stripe is asked elsewhere.

Writers' sessions come from `Database.meter_transaction`, readers' from the organization's own transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount
from farebox.billing.funds import check_amount, lock_purse
from farebox.billing.models_stripe import TopUp
from farebox.billing.stripe.errors import KeyReused, UnknownTopUp
from farebox.core.database import present
from farebox.core.ids import new_id
from farebox.core.money import plain
from farebox.core.settings import Settings

# A Checkout session lives for a day at most, counted by Stripe's clock.
LIFETIME = timedelta(hours=23)
# Stripe makes none that would live for less than half an hour.
STILL_PAYABLE = timedelta(minutes=35)
# How far a top-up has come. What is read late never sets it back.
_RANKS = {"open": 0, "requires_action": 1, "processing": 1, "failed": 2, "expired": 2, "paid": 3}

log = structlog.get_logger(__name__)


def check_top_up(amount: Decimal, settings: Settings) -> None:
    """Raises InvalidAmount unless it is payable, and within the operator's bounds."""
    check_amount(amount, settings.currency, "A top-up")
    smallest, largest = Decimal(settings.smallest_top_up), Decimal(settings.largest_top_up)
    if not smallest <= amount <= largest:
        raise InvalidAmount(
            f"A top-up is at least {plain(smallest, settings.currency)} and at most"
            f" {plain(largest, settings.currency)} {settings.currency}."
        )


async def order_top_up(
    session: AsyncSession,
    organization_id: UUID,
    *,
    amount: Decimal,
    settings: Settings,
    keeps_method: bool = False,
    client_key: str | None = None,
) -> TopUp:
    """A top-up to be paid at Checkout. Two clicks get the same one.

    That is the one with the client's key; without a key, one that is alike and can still be paid. Raises
    InvalidAmount, and KeyReused when the key is another top-up's.
    """
    check_top_up(amount, settings)
    await lock_purse(session, organization_id, settings.currency)
    alike = await _ordered_before(session, organization_id, client_key, amount, settings, keeps_method)
    if alike is not None:
        return alike
    now = await present(session)
    made = TopUp(
        id=new_id(),
        organization_id=organization_id,
        kind="checkout",
        state="open",
        amount=amount,
        currency=settings.currency,
        keeps_method=keeps_method,
        client_key=client_key,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    session.add(made)
    await session.flush()
    log.info("top_up.ordered", organization_id=str(organization_id), top_up=str(made.id), amount=amount)
    return made


async def _ordered_before(
    session: AsyncSession,
    organization_id: UUID,
    client_key: str | None,
    amount: Decimal,
    settings: Settings,
    keeps_method: bool,
) -> TopUp | None:
    query = select(TopUp).where(TopUp.organization_id == organization_id, TopUp.kind == "checkout")
    if client_key is not None:
        found = await session.scalar(query.where(TopUp.client_key == client_key))
        if found is not None and (found.amount, found.keeps_method) != (amount, keeps_method):
            raise KeyReused
        return found
    alike = query.where(
        TopUp.client_key.is_(None),
        TopUp.state == "open",
        TopUp.amount == amount,
        TopUp.currency == settings.currency,
        TopUp.keeps_method == keeps_method,
        TopUp.expires_at > await present(session) + STILL_PAYABLE,
    )
    return await session.scalar(alike.order_by(TopUp.id.desc()).limit(1))


async def bind(session: AsyncSession, top_up_id: UUID, **values: Any) -> TopUp:
    """Note which objects at Stripe a top-up has come to."""
    row: TopUp | None = await session.scalar(
        update(TopUp).where(TopUp.id == top_up_id).values(**values).returning(TopUp)
    )
    if row is None:
        raise UnknownTopUp
    return row


async def lock_top_up(session: AsyncSession, top_up_id: UUID) -> TopUp:
    """The row as it is, locked, and before it the organization's scope, as everybody locks them."""
    organization_id = await session.scalar(select(TopUp.organization_id).where(TopUp.id == top_up_id))
    if organization_id is None:
        raise UnknownTopUp
    await lock_purse(session, organization_id, None)
    query = select(TopUp).where(TopUp.id == top_up_id).with_for_update()
    return (await session.scalars(query.execution_options(populate_existing=True))).one()


def comes_before(state: str, other: str) -> bool:
    return _RANKS[state] < _RANKS[other]


async def find_top_up(session: AsyncSession, organization_id: UUID, top_up_id: UUID) -> TopUp:
    """Raises UnknownTopUp, also for another organization's."""
    query = select(TopUp).where(TopUp.id == top_up_id, TopUp.organization_id == organization_id)
    found = await session.scalar(query)
    if found is None:
        raise UnknownTopUp
    return found


async def find_bound(session: AsyncSession, **identifier: str) -> TopUp | None:
    """The top-up of an object at Stripe, such as `payment_intent="pi_…"`."""
    return await session.scalar(select(TopUp).filter_by(**identifier))


async def list_top_ups(
    session: AsyncSession, organization_id: UUID, *, limit: int, after: UUID | None = None
) -> Sequence[TopUp]:
    """Newest first, from behind `after` on. Raises UnknownTopUp when that is none of the organization's."""
    query = select(TopUp).where(TopUp.organization_id == organization_id)
    if after is not None:
        last = await find_top_up(session, organization_id, after)
        query = query.where(tuple_(TopUp.created_at, TopUp.id) < (last.created_at, last.id))
    return (
        await session.scalars(query.order_by(TopUp.created_at.desc(), TopUp.id.desc()).limit(limit))
    ).all()


def marked(metadata: Mapping[str, str] | None) -> UUID | None:
    """The top-up that an object at Stripe says it is of. Only who has our key can write that there."""
    text = (metadata or {}).get(MARK, "")
    return UUID(hex=text) if len(text) == 32 and text.isalnum() and text.isascii() else None


MARK = "farebox_top_up"

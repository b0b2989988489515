"""Promotional credit: given, used before what was paid in, expired.

Usage draws on promotional credit as one sum (`farebox_fund`), soonest expiry first. Which grant it came from
needs to be known only when a grant is added or expires: until then their order does not change. So each time,
what is left is spread over the grants from the latest expiry back.

Sessions come from `Database.meter_transaction`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount
from farebox.billing.funds import check_amount, lock_purse
from farebox.billing.ledger import Transfer, enter
from farebox.billing.models import PromotionalGrant
from farebox.core.database import Database, present
from farebox.core.ids import new_id
from farebox.limits.balances import (
    Purse,
    add_promotional_credit,
    lock_balance,
    with_promotional_credit,
)

log = structlog.get_logger(__name__)


async def grant(
    session: AsyncSession,
    *,
    organization_id: UUID,
    amount: Decimal,
    currency: str,
    reference: str,
    expires_at: datetime | None = None,
) -> bool:
    """Give promotional credit, once per organization and reference; False when it was given before.

    Raises InvalidAmount, and OtherTransfer when the reference was used for another amount.
    """
    check_amount(amount, currency, "A grant")
    now = await present(session)
    if expires_at is not None and expires_at <= now:
        raise InvalidAmount("A grant expires in the future, or never.")
    return await grant_back(
        session,
        organization_id,
        amount=amount,
        currency=currency,
        account="promotion",
        reference=reference,
        expires_at=expires_at,
    )


async def grant_back(
    session: AsyncSession,
    organization_id: UUID,
    *,
    amount: Decimal,
    currency: str,
    account: str,
    reference: str,
    expires_at: datetime | None,
) -> bool:
    """Give promotional credit at the cost of an account, of any amount; else as `grant`."""
    purse = await lock_purse(session, organization_id, currency)
    transfer = Transfer(
        kind="grant",
        debit_account=account,
        credit_account="promotional",
        amount=amount,
        currency=currency,
        reference=reference,
    )
    if not await enter(session, organization_id, transfer):
        return False
    await _spread(session, organization_id, purse.promotional)
    session.add(
        PromotionalGrant(
            id=transfer.id_for(organization_id),
            organization_id=organization_id,
            amount=amount,
            remaining=amount,
            currency=currency,
            reference=reference,
            expires_at=expires_at,
        )
    )
    await session.flush()
    await add_promotional_credit(session, organization_id, amount=amount, currency=currency)
    log.info("promotion.granted", organization_id=str(organization_id), amount=amount, currency=currency)
    return True


async def live_grants(
    session: AsyncSession, organization_id: UUID, promotional: Decimal
) -> list[PromotionalGrant]:
    """What is left of each grant, soonest expiry first, when `promotional` is left of all."""
    grants = await _unexpired(session, organization_id)
    for each, remaining in zip(grants, _shares(grants, promotional), strict=True):
        each.remaining = remaining
    return grants


@dataclass(frozen=True)
class GrantLeft:
    """What is left of a grant, and until when."""

    amount: Decimal
    remaining: Decimal
    expires_at: datetime | None


async def grants_left(session: AsyncSession, organization_id: UUID, promotional: Decimal) -> list[GrantLeft]:
    """As `live_grants`, to be looked at: in the organization's own transaction, and without those used up."""
    grants = await _unexpired(session, organization_id)
    left = zip(grants, _shares(grants, promotional), strict=True)
    return [GrantLeft(each.amount, share, each.expires_at) for each, share in left if share]


async def expire(session: AsyncSession, organization_id: UUID) -> Decimal:
    """Take back what is left of the grants that have expired; how much that was.

    What requests under way have reserved is left to them, and taken the next time.
    """
    purse = await lock_balance(session, organization_id)
    if purse.currency is None:
        return Decimal(0)
    now = await present(session)
    grants = await _spread(session, organization_id, purse.promotional)
    # More than all grants hold: an answer was credited that a grant had paid which is gone.
    orphaned = purse.promotional - sum((each.remaining for each in grants), Decimal(0))
    free = purse.prepaid + purse.promotional - purse.reserved
    taken = await _take(session, purse, min(orphaned, free), "without a grant")
    for each in grants:
        if each.expires_at is None or each.expires_at > now:
            continue
        part = min(each.remaining, free - taken)
        part = await _take(session, purse, part, f"grant {each.reference}")
        each.remaining -= part
        taken += part
        if not each.remaining:
            each.closed_at = now
    if taken:
        await add_promotional_credit(session, organization_id, amount=-taken, currency=purse.currency)
        log.info("promotion.expired", organization_id=str(organization_id), amount=taken)
    return taken


async def expire_grants(database: Database) -> int:
    """The worker's sweep: expire what is due, an organization in each transaction; how many there were."""
    async with database.meter_transaction() as session:
        due = select(PromotionalGrant.organization_id).where(
            PromotionalGrant.closed_at.is_(None), PromotionalGrant.expires_at <= await present(session)
        )
        organizations = set(await session.scalars(due))
        # What came back of credit whose grant is gone expires as well.
        open_grants = select(PromotionalGrant.organization_id).where(PromotionalGrant.closed_at.is_(None))
        organizations |= await with_promotional_credit(session) - set(await session.scalars(open_grants))
    for organization_id in organizations:
        try:
            async with database.meter_transaction() as session:
                await expire(session, organization_id)
        except Exception:  # one customer's trouble is nobody else's
            log.exception("promotion.failed", organization_id=str(organization_id))
    return len(organizations)


async def _take(session: AsyncSession, purse: Purse, amount: Decimal, reason: str) -> Decimal:
    if amount <= 0 or purse.currency is None:
        return Decimal(0)
    await enter(
        session,
        purse.organization_id,
        Transfer(
            kind="expiry",
            debit_account="promotional",
            credit_account="promotion",
            amount=amount,
            currency=purse.currency,
            reference=f"expiry {new_id()}",
            reason=reason,
        ),
    )
    return amount


async def _spread(
    session: AsyncSession, organization_id: UUID, promotional: Decimal
) -> Sequence[PromotionalGrant]:
    """Note what is left of each grant, soonest expiry first."""
    grants = await live_grants(session, organization_id, promotional)
    await session.flush()
    return grants


async def _unexpired(session: AsyncSession, organization_id: UUID) -> list[PromotionalGrant]:
    query = (
        select(PromotionalGrant)
        .where(PromotionalGrant.organization_id == organization_id, PromotionalGrant.closed_at.is_(None))
        .order_by(PromotionalGrant.expires_at.asc().nulls_last(), PromotionalGrant.created_at)
    )
    return list(await session.scalars(query))


def _shares(grants: Sequence[PromotionalGrant], promotional: Decimal) -> list[Decimal]:
    """The last to expire keeps the most. What came back of used credit goes where there was more, the latest
    first."""
    shares = []
    rest = promotional
    for each in reversed(grants):
        shares.append(min(each.remaining, rest))
        rest -= shares[-1]
    for place, each in enumerate(reversed(grants)):
        back = min(each.amount - shares[place], rest)
        shares[place] += back
        rest -= back
    return shares[::-1]

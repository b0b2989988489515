"""What a month at a tiered price was billed beyond its tariff: paid back when the month has ended.

That is so at a volume price, where the tokens before the last tier become cheaper, and where an answer was
credited that others had been priced behind.
"""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import lock_purse, repay
from farebox.billing.models import LedgerTransfer, Price
from farebox.billing.months import Month, month_of
from farebox.billing.prices import terms_of
from farebox.billing.promotions import grant_back
from farebox.billing.terms import Terms
from farebox.core.database import Database, present
from farebox.metering.models import TierUsage
from farebox.metering.tier_usage import mark_settled, months_to_settle, organizations_to_settle

# A request admitted in the month may be settled after it.
GRACE = timedelta(hours=6)

log = structlog.get_logger(__name__)


async def settle_tiers(database: Database) -> int:
    """The worker's sweep: of months that have ended, one customer in each transaction; how many were paid."""
    async with database.meter_transaction() as session:
        ended = month_of(await present(session) - GRACE)
        organizations = await organizations_to_settle(session, before=ended.start.date())
    paid = 0
    for organization_id in organizations:
        try:
            async with database.meter_transaction() as session:
                paid += await settle_tiers_of(session, organization_id, ended)
        except Exception:  # one customer's trouble is nobody else's
            log.exception("tiers.failed", organization_id=str(organization_id))
    return paid


async def settle_tiers_of(session: AsyncSession, organization_id: UUID, before: Month) -> int:
    """One customer's months before that one; how many had something to be paid back."""
    await lock_purse(session, organization_id, None)  # nobody moves the tiers from here on
    now, paid = await present(session), 0
    for usage in await months_to_settle(session, organization_id, before=before.start.date()):
        price = await session.get_one(Price, usage.price_id)
        beyond = usage.billed - tariff_cost(await terms_of(session, price), usage)
        if beyond > 0:
            await _pay_back(session, usage, beyond, price.currency)
            log.info("tiers.settled", organization_id=str(organization_id), paid_back=beyond)
            paid += 1
        mark_settled(usage, now)
    await session.flush()
    return paid


def tariff_cost(terms: Terms, usage: TierUsage) -> Decimal:
    """What the month's tokens come to by the tariff."""
    return (
        terms.tariffs["input"].cost(usage.input_tokens)
        + terms.tariffs["cached_input"].cost(usage.cached_input_tokens)
        + terms.tariffs["output"].cost(usage.output_tokens)
    )


async def _pay_back(session: AsyncSession, usage: TierUsage, amount: Decimal, currency: str) -> None:
    """Money where money was paid for the model; what promotional credit has paid comes back as such."""
    month = Month(usage.month.year, usage.month.month)
    account, reference = f"revenue:{usage.model_id}", f"tiers of {usage.price_id}, {month}"
    money = min(amount, await _paid_with_money(session, usage, account, month))
    if money:
        await repay(
            session,
            usage.organization_id,
            amount=money,
            currency=currency,
            account=account,
            reference=reference,
        )
    if amount > money:
        await grant_back(
            session,
            usage.organization_id,
            amount=amount - money,
            currency=currency,
            account=account,
            reference=f"{reference}, promotional",
            expires_at=month.next.next.end,
        )


async def _paid_with_money(session: AsyncSession, usage: TierUsage, account: str, month: Month) -> Decimal:
    """What paid money and the credit line have paid for the model in that month and since."""
    query = select(func.coalesce(func.sum(LedgerTransfer.amount), 0)).where(
        LedgerTransfer.organization_id == usage.organization_id,
        LedgerTransfer.credit_account == account,
        LedgerTransfer.debit_account.in_(("prepaid", "receivable")),
        LedgerTransfer.created_at >= month.start,
    )
    return Decimal((await session.execute(query)).scalar_one())

"""What a month at tiered prices still owes when it has ended: paid out, or drawn.

Within a month it is carried from one request to the next (`farebox_take_tiers`).
"""

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import lock_purse, pay, repay
from farebox.billing.months import Month, month_of
from farebox.core.database import Database, present
from farebox.core.ids import new_id
from farebox.metering.tier_usage import clear_debt, debts_of, organizations_in_debt

# A request admitted in the month may be settled after it.
GRACE = timedelta(hours=1)

log = structlog.get_logger(__name__)


async def settle_tier_debts(database: Database) -> int:
    """The worker's sweep: of months that have ended, one customer in each transaction; how many."""
    async with database.meter_transaction() as session:
        ended = month_of(await present(session) - GRACE)
        organizations = await organizations_in_debt(session, before=ended.start.date())
    settled = 0
    for organization_id in organizations:
        async with database.meter_transaction() as session:
            settled += await settle_debts(session, organization_id, ended)
    return settled


async def settle_debts(session: AsyncSession, organization_id: UUID, before: Month) -> int:
    """One customer's of the months before that one, as far as there is money; how many were settled."""
    purse = await lock_purse(session, organization_id, None)  # nobody moves the tiers from here on
    if purse.currency is None:
        return 0
    settled = 0
    for debt in await debts_of(session, organization_id, before=before.start.date()):
        move = pay if debt.owed > 0 else repay
        if await move(
            session,
            organization_id,
            amount=abs(debt.owed),
            currency=purse.currency,
            account=f"revenue:{debt.model_id}",
            # A month is settled again if a request of it ends late.
            reference=f"tiers of {debt.model_id}, {debt.month:%Y-%m}, {new_id()}",
        ):
            await clear_debt(session, debt)
            settled += 1
            log.info("tiers.settled", organization_id=str(organization_id), owed=debt.owed)
    return settled

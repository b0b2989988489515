"""Automatic top-up: an amount is paid in when the balance falls below a threshold, up to a monthly ceiling.

What is decided here is decided with the organization's scope locked: one top-up is under way at a time, and
the month's never come to more than the ceiling, whichever worker looks. Sessions come from
`Database.meter_transaction`.
"""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount
from farebox.billing.funds import check_amount, lock_purse
from farebox.billing.models_stripe import UNDER_WAY, AutoTopUp, TopUp
from farebox.billing.months import month_of
from farebox.billing.stripe.mails import ACTION, DECLINED, NO_METHOD, PAUSED, REFUSED, post_mail
from farebox.billing.stripe.top_ups import LIFETIME, check_top_up, comes_before
from farebox.core.database import Database, present
from farebox.core.ids import new_id
from farebox.core.outbox import post
from farebox.core.settings import Settings
from farebox.limits.balances import balances_of

COLLECT = "stripe.collect"
FAILURES_UNTIL_PAUSE = 3
FIRST_PAUSE = timedelta(hours=1)
# Which mail tells of a pause without a decline.
_TOLD = {"no_method": NO_METHOD, "declined": REFUSED}

log = structlog.get_logger(__name__)


async def find_auto_top_up(session: AsyncSession, organization_id: UUID) -> AutoTopUp | None:
    return await session.get(AutoTopUp, organization_id)


async def save_auto_top_up(
    session: AsyncSession,
    organization_id: UUID,
    settings: Settings,
    *,
    enabled: bool,
    threshold: Decimal,
    amount: Decimal,
    monthly_ceiling: Decimal,
) -> AutoTopUp:
    """Set it anew; whatever paused it is over. Raises InvalidAmount."""
    currency = settings.currency
    check_top_up(amount, settings)
    if threshold:
        check_amount(threshold, currency, "A threshold")
    check_amount(monthly_ceiling, currency, "A monthly ceiling")
    if monthly_ceiling < amount:
        raise InvalidAmount("The monthly ceiling is at least one top-up.")
    await lock_purse(session, organization_id, currency)
    row = await session.get(AutoTopUp, organization_id, with_for_update=True)
    row = row or AutoTopUp(organization_id=organization_id)
    row.enabled, row.threshold, row.amount = enabled, threshold, amount
    row.monthly_ceiling, row.currency = monthly_ceiling, currency
    row.failures, row.paused, row.retry_at = 0, None, None
    session.add(row)
    await session.flush()
    log.info("auto_top_up.saved", organization_id=str(organization_id), enabled=enabled)
    return row


async def watch_balances(database: Database) -> int:
    """The worker's watch: begin what is due, an organization in each transaction; how many were begun."""
    async with database.meter_transaction() as session:
        live = select(AutoTopUp).where(AutoTopUp.enabled, AutoTopUp.paused.is_(None))
        rows = {row.organization_id: row for row in await session.scalars(live)}
        held = await balances_of(session, list(rows))
    low = [each for each, balance in held.items() if balance.amount < rows[each].threshold]
    begun = 0
    for organization_id in low:
        async with database.meter_transaction() as session:
            begun += await begin(session, organization_id) is not None
    return begun


async def begin(session: AsyncSession, organization_id: UUID) -> TopUp | None:
    """Order a top-up if one is due now; the worker collects it. None if none is."""
    if await due(session, organization_id) is None or await _under_way(session, organization_id):
        return None
    row = await session.get_one(AutoTopUp, organization_id)
    if await spent_this_month(session, organization_id) + row.amount > row.monthly_ceiling:
        log.warning("auto_top_up.ceiling", organization_id=str(organization_id))
        return None
    now = await present(session)
    made = TopUp(
        id=new_id(),
        organization_id=organization_id,
        kind="automatic",
        state="open",
        amount=row.amount,
        currency=row.currency,
        created_at=now,
        expires_at=now + LIFETIME,
    )
    session.add(made)
    await session.flush()
    await post(session, COLLECT, {"top_up": str(made.id)}, serial_key=str(organization_id))
    log.info("auto_top_up.begun", organization_id=str(organization_id), top_up=str(made.id))
    return made


async def due(session: AsyncSession, organization_id: UUID) -> AutoTopUp | None:
    """The settings, if they ask for a top-up now. The scope is locked from here on."""
    purse = await lock_purse(session, organization_id, None)
    row = await session.get(AutoTopUp, organization_id, with_for_update=True, populate_existing=True)
    if row is None or not row.enabled or row.paused or purse.balance >= row.threshold:
        return None
    later = row.retry_at is not None and row.retry_at > await present(session)
    return None if later else row


async def spent_this_month(session: AsyncSession, organization_id: UUID) -> Decimal:
    """What the UTC month's automatic top-ups come to, those under way included."""
    month = month_of(await present(session))
    query = select(func.coalesce(func.sum(TopUp.amount), 0)).where(
        TopUp.organization_id == organization_id,
        TopUp.kind == "automatic",
        TopUp.state.not_in(("failed", "expired")),
        TopUp.created_at >= month.start,
    )
    return Decimal(await session.scalar(query) or 0)


async def note_outcome(session: AsyncSession, top_up: TopUp) -> None:
    """What an automatic top-up came to, for those to follow. The scope is locked."""
    if top_up.kind != "automatic":
        return
    row = await session.get(AutoTopUp, top_up.organization_id, with_for_update=True, populate_existing=True)
    if row is None:
        return
    if top_up.state == "paid":
        row.failures, row.retry_at = 0, None
        row.paused = None if row.paused == "requires_action" else row.paused
    elif top_up.state == "requires_action":
        row.paused = "requires_action"
        await post_mail(session, ACTION, top_up)
    elif top_up.state == "failed":
        await _note_failure(session, row, top_up)


async def _note_failure(session: AsyncSession, row: AutoTopUp, top_up: TopUp) -> None:
    row.failures += 1
    if row.failures >= FAILURES_UNTIL_PAUSE:
        row.paused = "declined"
        await post_mail(session, PAUSED, top_up)
    else:
        row.paused = None
        row.retry_at = await present(session) + FIRST_PAUSE * 2 ** (row.failures - 1)
        await post_mail(session, DECLINED, top_up)


async def give_up(
    session: AsyncSession,
    top_up: TopUp,
    state: str,
    failure: str | None = None,
    *,
    paused: str | None = None,
) -> None:
    """End an automatic top-up that was not collected, unless it has ended by now. With `paused`, `no_method`
    or `declined`, no other begins until somebody acts, and its owners get a mail."""
    if not comes_before(top_up.state, state):
        return
    top_up.state, top_up.failure = state, failure
    row = await session.get(AutoTopUp, top_up.organization_id, with_for_update=True, populate_existing=True)
    if paused is not None and row is not None:
        row.failures, row.paused = row.failures + 1, paused
        await post_mail(session, _TOLD[paused], top_up)
    await session.flush()
    log.info("auto_top_up.given_up", top_up=str(top_up.id), state=state, paused=paused)


async def _under_way(session: AsyncSession, organization_id: UUID) -> bool:
    query = select(TopUp.id).where(
        TopUp.organization_id == organization_id, TopUp.kind == "automatic", TopUp.state.in_(UNDER_WAY)
    )
    return await session.scalar(query.limit(1)) is not None

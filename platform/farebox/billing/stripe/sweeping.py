"""Once a day, what happened at Stripe is compared with our books: webhooks may have been missed."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, select
from sqlalchemy.dialects.postgresql import insert

from farebox.billing.models_stripe import UNDER_WAY, StripeSweep, TopUp
from farebox.billing.stripe.account import Account
from farebox.billing.stripe.errors import ProcessorAway
from farebox.billing.stripe.events.inbox import forget
from farebox.billing.stripe.invoices import void_invoice
from farebox.billing.stripe.reversals.disputes import follow_dispute
from farebox.billing.stripe.reversals.refunds import follow_refund
from farebox.billing.stripe.settling import follow_invoice, follow_session, follow_top_up
from farebox.core.database import Database, present

EVERY = timedelta(days=1)
# Longer than Stripe repeats a webhook, and than a worker may be away over a weekend.
LOOK_BACK = timedelta(days=7)
# Who was asked by their bank to confirm an automatic top-up, and does not, is asked no more.
UNCONFIRMED = timedelta(days=3)

log = structlog.get_logger(__name__)


async def sweep_daily(account: Account, database: Database) -> int | None:
    """The worker's sweep: once a day, whichever worker comes first; None on all other calls.

    It raises nothing when Stripe is away: tomorrow's looks further back than to today.
    """
    async with database.meter_transaction() as session:
        now = await present(session)
        begun = await session.scalar(
            insert(StripeSweep)
            .values(name="account", begun_at=now)
            .on_conflict_do_update(
                index_elements=["name"], set_={"begun_at": now}, where=StripeSweep.begun_at <= now - EVERY
            )
            .returning(StripeSweep.begun_at)
        )
        await forget(session)
    if begun is None:
        return None
    try:
        return await sweep_account(account, database, now - LOOK_BACK)
    except ProcessorAway as error:
        log.error("stripe.sweep_failed", reason=str(error))
        return 0


async def sweep_account(account: Account, database: Database, since: datetime) -> int:
    """Follow everything that was made since, and all that is not done here; how much of it was ours.

    Raises ProcessorAway. What cannot be followed is logged, and holds nothing else up.
    """
    params: Any = {"created": {"gte": int(since.timestamp())}, "limit": 100}
    found = 0
    for name, follow in (
        ("sessions", follow_session),
        ("invoices", follow_invoice),
        ("refunds", follow_refund),
        ("disputes", follow_dispute),
    ):
        for thing in await account.list(_LISTS[name](params)):
            found += await _followed(follow, database, account, thing["id"])
    async with database.meter_transaction() as session:
        rows = list(await session.scalars(select(TopUp).where(_unsettled(since))))
        now = await present(session)
    for row in rows:
        found += await _followed(_own(row, now), database, account, str(row.id))
    log.info("stripe.swept", found=found)
    return found


_LISTS: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "sessions": lambda params: lambda client: client.v1.checkout.sessions.list(params),
    "invoices": lambda params: lambda client: client.v1.invoices.list(params),
    "refunds": lambda params: lambda client: client.v1.refunds.list(params),
    "disputes": lambda params: lambda client: client.v1.disputes.list(params),
}

Follow = Callable[[Database, Account, str], Awaitable[str | None]]


def _unsettled(since: datetime) -> ColumnElement[bool]:
    """An automatic one holds up the next for as long as it is under way: a bank debit can take weeks."""
    under_way = TopUp.state.in_(UNDER_WAY)
    recent = (under_way | ((TopUp.state == "paid") & TopUp.fee.is_(None))) & (TopUp.created_at >= since)
    return recent | (under_way & (TopUp.kind == "automatic"))


async def _followed(follow: Follow, database: Database, account: Account, identifier: str) -> bool:
    try:
        return await follow(database, account, identifier) is not None
    except ProcessorAway:
        raise
    except Exception as error:
        log.error("stripe.not_followed", object=identifier, reason=f"{type(error).__name__}: {error}")
        return False


def _own(row: TopUp, now: datetime) -> Follow:
    async def follow(database: Database, account: Account, _: str) -> str | None:
        if row.state == "requires_action" and row.created_at < now - UNCONFIRMED and row.invoice_id:
            await void_invoice(account, row)
        return (await follow_top_up(database, account, row)).state

    return follow

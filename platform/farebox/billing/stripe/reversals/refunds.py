"""Refunds, asked for here or made at Stripe: the balance goes back with the money, below zero if need be.

Those of payments without a Checkout session are found as well: by their PaymentIntent.
"""

from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount
from farebox.billing.funds import check_amount, lock_purse
from farebox.billing.models_stripe import TopUp, TopUpRefund
from farebox.billing.stripe.account import Account, Json, options
from farebox.billing.stripe.amounts import to_minor
from farebox.billing.stripe.errors import ProcessorRefused
from farebox.billing.stripe.reversals.parts import (
    Part,
    bring_back,
    gone_of,
    note_gone,
    paid_top_up,
    part_of,
    take,
    tax_of,
)
from farebox.billing.stripe.top_ups import lock_top_up
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.money import plain
from farebox.core.outbox import post
from farebox.core.settings import Settings

REFUND = "stripe.refund"
MARK = "farebox_refund"
_STATES = {"succeeded": "succeeded", "failed": "failed", "canceled": "failed"}

log = structlog.get_logger(__name__)


async def order_refund(
    session: AsyncSession, top_up_id: UUID, *, amount: Decimal | None = None
) -> TopUpRefund:
    """Send some of a top-up back to its payer, by default what is left of it; tax goes back in proportion.

    The balance is lower at once, the worker asks Stripe. Raises InvalidAmount for more than was paid, more
    than went back before, or more than is left to spend.
    """
    row = await lock_top_up(session, top_up_id)
    if row.state != "paid":
        raise InvalidAmount(f"The top-up is {row.state}, not paid.")
    gone = await gone_of(session, row.id)
    left = row.amount - gone.credit
    amount = left if amount is None else amount
    check_amount(amount or left, row.currency, "A refund")
    purse = await lock_purse(session, row.organization_id, row.currency)
    most = min(left, purse.prepaid, purse.available)
    if amount <= 0 or amount > most:
        raise InvalidAmount(f"No more than {plain(max(most, Decimal(0)), row.currency)} can go back.")
    made = TopUpRefund(
        id=new_id(),
        organization_id=row.organization_id,
        top_up_id=row.id,
        state="requested",
        credit=amount,
        tax=tax_of(row, gone, amount),
    )
    session.add(made)
    await session.flush()
    await take(session, row, Part(made.credit, made.tax), "refund", "refunds", f"refund {made.id}")
    await post(session, REFUND, {"refund": str(made.id)}, serial_key=str(row.id))
    log.info("refund.ordered", refund=str(made.id), top_up=str(row.id), amount=amount)
    return made


async def send_refund(
    account: Account, database: Database, settings: Settings, payload: dict[str, Any]
) -> None:
    """The handler of the topic. Raises as `Account.ask` where another try can help."""
    async with database.meter_transaction() as session:
        refund = await session.get_one(TopUpRefund, UUID(payload["refund"]))
        row = await session.get_one(TopUp, refund.top_up_id)
    if refund.state != "requested":
        return
    try:
        made = await _find_refund(account, row, refund) or await _make_refund(account, row, refund)
    except ProcessorRefused as refused:
        log.error("refund.refused", refund=str(refund.id), reason=str(refused))
        await _settle(database, row, refund.id, {"id": None, "status": "failed"})
        return
    await _settle(database, row, refund.id, made)


async def _find_refund(account: Account, row: TopUp, refund: TopUpRefund) -> Json | None:
    """The one that was made before, if the answer was lost or this process died."""
    params: Any = {"payment_intent": row.payment_intent, "limit": 100}
    found = await account.list(lambda client: client.v1.refunds.list(params))
    return next((each for each in found if _own(each) == refund.id), None)


async def _make_refund(account: Account, row: TopUp, refund: TopUpRefund) -> Json:
    params: Any = {
        "payment_intent": row.payment_intent,
        "amount": to_minor(refund.credit + refund.tax, row.currency),
        "metadata": {MARK: refund.id.hex},
    }
    return await account.ask(lambda client: client.v1.refunds.create(params, options("refund", refund.id)))


def _own(refund: Json) -> UUID | None:
    text = (refund.get("metadata") or {}).get(MARK)
    return UUID(hex=text) if text else None


async def follow_refund(database: Database, account: Account, refund_id: str) -> str | None:
    """A refund that was made here or at Stripe; None for one of a payment that is not ours."""
    found = await account.ask(lambda client: client.v1.refunds.retrieve(refund_id))
    row = await paid_top_up(database, account, found.get("payment_intent"))
    if row is None:
        return None
    return await _settle(database, row, _own(found), found)


async def follow_refunds_of(database: Database, account: Account, charge_id: str) -> str | None:
    """All refunds of a charge."""
    params: Any = {"charge": charge_id, "limit": 100}
    found = await account.list(lambda client: client.v1.refunds.list(params))
    states = [await follow_refund(database, account, each["id"]) for each in reversed(found)]
    return next((state for state in states if state is not None), None)


async def _settle(database: Database, row: TopUp, own: UUID | None, found: Json) -> str:
    """Bring our row to where Stripe's refund is, and the ledger with it."""
    async with database.meter_transaction() as session:
        row = await lock_top_up(session, row.id)
        refund = await _refund_row(session, row, own, found)
        part, reference = Part(refund.credit, refund.tax), f"refund {refund.id}"
        state = _STATES.get(found["status"], "pending")
        if state == "succeeded" and refund.state != "failed":
            await note_gone(session, row, part, reference, "refund", "refunds")
            refund.state = state
        elif state == "failed" and refund.state != "failed":
            if refund.state == "succeeded":
                await note_gone(session, row, part, f"{reference}, returned", "refund", "refunds", back=True)
            await bring_back(session, row, part, "refund", "refunds", f"{reference}, failed")
            refund.state = state
        elif refund.state == "requested":
            refund.state = "pending"
        await session.flush()
        log.info("refund.moved", refund=str(refund.id), state=refund.state)
        return refund.state


def _named(own: UUID | None, refund_id: str | None) -> ColumnElement[bool]:
    """Our row by either name. One that Stripe refused has none of Stripe's, as others have that wait."""
    names = [TopUpRefund.id == own] if own is not None else []
    names += [TopUpRefund.refund_id == refund_id] if refund_id is not None else []
    return or_(*names)


async def _refund_row(session: AsyncSession, row: TopUp, own: UUID | None, found: Json) -> TopUpRefund:
    query = select(TopUpRefund).where(TopUpRefund.top_up_id == row.id, _named(own, found["id"]))
    known = await session.scalar(query.with_for_update())
    if known is not None:
        known.refund_id = found["id"] or known.refund_id
        return known
    part = part_of(row, await gone_of(session, row.id), found["amount"])
    made = TopUpRefund(
        id=new_id(),
        organization_id=row.organization_id,
        top_up_id=row.id,
        refund_id=found["id"],
        state="pending",
        credit=part.credit,
        tax=part.tax,
    )
    session.add(made)
    await session.flush()
    await take(session, row, part, "refund", "refunds", f"refund {made.id}")
    return made

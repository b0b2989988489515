"""Disputes: a payer's bank takes a payment back at once, and may bring it again when it has decided.

The bank's money movements say how it stands, in whatever order notices of it come.
"""

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models_stripe import TopUp, TopUpDispute
from farebox.billing.stripe.account import Account, Json
from farebox.billing.stripe.amounts import from_minor
from farebox.billing.stripe.reversals.parts import (
    Part,
    bring_back,
    gone_of,
    note_gone,
    paid_top_up,
    part_of,
    take,
)
from farebox.billing.stripe.top_ups import lock_top_up
from farebox.billing.withdrawals import book
from farebox.core.database import Database

_RANKS = {"open": 0, "withdrawn": 1, "reinstated": 2, "lost": 2}

log = structlog.get_logger(__name__)


async def follow_dispute(database: Database, account: Account, dispute_id: str) -> str | None:
    """The bank's money movements say how it stands: one takes the money, another brings it back."""
    found = await account.ask(lambda client: client.v1.disputes.retrieve(dispute_id))
    row = await paid_top_up(database, account, found.get("payment_intent"))
    if row is None:
        return None
    async with database.meter_transaction() as session:
        row = await lock_top_up(session, row.id)
        dispute = await _dispute_row(session, row, found)
        await _move_dispute(session, row, dispute, found)
        await session.flush()
        log.info("dispute.moved", dispute=dispute.id, top_up=str(row.id), state=dispute.state)
        return dispute.state


async def _dispute_row(session: AsyncSession, row: TopUp, found: Json) -> TopUpDispute:
    known = await session.get(TopUpDispute, found["id"], with_for_update=True)
    if known is not None:
        return known
    part = part_of(row, await gone_of(session, row.id), found["amount"])
    made = TopUpDispute(
        id=found["id"],
        organization_id=row.organization_id,
        top_up_id=row.id,
        state="open",
        credit=part.credit,
        tax=part.tax,
    )
    session.add(made)
    await session.flush()
    return made


async def _move_dispute(session: AsyncSession, row: TopUp, dispute: TopUpDispute, found: Json) -> None:
    movements = found.get("balance_transactions") or []
    withdrawn = any(each["amount"] < 0 for each in movements)
    reinstated = any(each["amount"] > 0 for each in movements)
    part, reference = Part(dispute.credit, dispute.tax), f"dispute {dispute.id}"
    state = dispute.state
    if withdrawn:
        await take(session, row, part, "dispute", "disputed", reference)
        state = "withdrawn"
    if reinstated:
        await bring_back(session, row, part, "dispute", "disputed", f"{reference}, reinstated")
        state = "reinstated"
    elif withdrawn and found["status"] == "lost":
        await note_gone(session, row, part, reference, "dispute", "disputed")
        state = "lost"
    dispute.state = max(dispute.state, state, key=_RANKS.__getitem__)
    for movement in movements:
        await _book_fee(session, row, movement, reference)


async def _book_fee(session: AsyncSession, row: TopUp, movement: Json, reference: str) -> None:
    """The bank's fee, or its return, is the operator's."""
    if str(movement["currency"]).upper() == row.currency:
        await book(
            session,
            row.organization_id,
            amount=from_minor(movement["fee"], row.currency),
            currency=row.currency,
            kind="processor_fee",
            debit="processor_fees",
            credit="cash",
            reference=f"{reference}, fee {movement['id']}",
        )

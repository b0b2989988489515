"""Money that goes back to the payer, or is taken back by their bank: the balance may fall below zero.

Sessions come from `Database.meter_transaction`.
"""

from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import lock_purse, pay_off
from farebox.billing.ledger import Transfer, enter, was_entered
from farebox.limits.balances import add_to_balance

log = structlog.get_logger(__name__)


async def withdraw(
    session: AsyncSession,
    organization_id: UUID,
    *,
    amount: Decimal,
    currency: str,
    kind: str,
    account: str,
    reference: str,
) -> bool:
    """Move an amount from what was paid in to `account`, once per reference; what lacks is owed.

    False when it was moved before.
    """
    purse = await lock_purse(session, organization_id, currency)
    legs = (f"{reference}, prepaid", f"{reference}, receivable")
    if not amount or await was_entered(session, organization_id, *legs):
        return False
    prepaid = min(amount, purse.prepaid)
    for source, part, leg in zip(("prepaid", "receivable"), (prepaid, amount - prepaid), legs, strict=True):
        if part:
            await enter(session, organization_id, _transfer(kind, source, account, part, currency, leg))
    await add_to_balance(session, organization_id, amount=-amount, currency=currency)
    log.info("balance.withdrawn", organization_id=str(organization_id), amount=amount, account=account)
    return True


async def restore(
    session: AsyncSession,
    organization_id: UUID,
    *,
    amount: Decimal,
    currency: str,
    kind: str,
    account: str,
    reference: str,
) -> bool:
    """Bring an amount back from `account`, once per reference. What is owed is paid off first."""
    purse = await lock_purse(session, organization_id, currency)
    transfer = _transfer(kind, account, "prepaid", amount, currency, reference) if amount else None
    if transfer is None or not await enter(session, organization_id, transfer):
        return False
    await pay_off(session, organization_id, min(amount, purse.receivable), currency, reference)
    await add_to_balance(session, organization_id, amount=amount, currency=currency)
    log.info("balance.restored", organization_id=str(organization_id), amount=amount, account=account)
    return True


async def book(
    session: AsyncSession,
    organization_id: UUID,
    *,
    amount: Decimal,
    currency: str,
    kind: str,
    debit: str,
    credit: str,
    reference: str,
) -> bool:
    """Enter what moves beside the balance (tax, fees), once per reference; below zero it moves back."""
    if not amount:
        return False
    accounts = (debit, credit) if amount > 0 else (credit, debit)
    transfer = _transfer(kind, *accounts, abs(amount), currency, reference)
    return await enter(session, organization_id, transfer)


def _transfer(kind: str, debit: str, credit: str, amount: Decimal, currency: str, reference: str) -> Transfer:
    return Transfer(
        kind=kind,
        debit_account=debit,
        credit_account=credit,
        amount=amount,
        currency=currency,
        reference=reference,
    )

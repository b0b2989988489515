"""Money paid in and taken back, and the credit line. Sessions come from `Database.meter_transaction`."""

from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount
from farebox.billing.ledger import Transfer, enter, was_entered
from farebox.core.money import is_payable, plain
from farebox.core.settings import LARGEST_AMOUNT
from farebox.limits.balances import Purse, add_to_balance, lock_balance, set_credit_line

MAX_AMOUNT = Decimal(LARGEST_AMOUNT)

log = structlog.get_logger(__name__)


async def top_up(
    session: AsyncSession, *, organization_id: UUID, amount: Decimal, currency: str, reference: str
) -> bool:
    """Take in what was paid, once per organization and reference; False when it was taken in before.

    What was used on the credit line is paid off first. Raises InvalidAmount, and OtherTransfer when the
    reference was used for another amount.
    """
    check_amount(amount, currency, "A top-up")
    purse = await lock_purse(session, organization_id, currency)
    if not await enter(
        session,
        organization_id,
        Transfer(
            kind="top_up",
            debit_account="cash",
            credit_account="prepaid",
            amount=amount,
            currency=currency,
            reference=reference,
        ),
    ):
        return False
    await pay_off(session, organization_id, min(amount, purse.receivable), currency, reference)
    await add_to_balance(session, organization_id, amount=amount, currency=currency)
    log.info("balance.topped_up", organization_id=str(organization_id), amount=amount, currency=currency)
    return True


async def take_back(
    session: AsyncSession, *, organization_id: UUID, amount: Decimal, currency: str, reason: str
) -> bool:
    """Correct a wrong top-up by an entry of its own, once per reason; False when it was done before.

    What is spent stays spent, and what requests under way have reserved stays theirs. Raises InvalidAmount
    for more than what is left of what was paid in.
    """
    check_amount(amount, currency, "A correction")
    purse = await lock_purse(session, organization_id, currency)
    if not await enter(
        session,
        organization_id,
        Transfer(
            kind="adjustment",
            debit_account="prepaid",
            credit_account="cash",
            amount=amount,
            currency=currency,
            reference=reason,
            reason=reason,
        ),
    ):
        return False
    left = min(purse.prepaid, purse.available)
    if amount > left:
        raise InvalidAmount(f"No more than {plain(left, currency)} {currency} is left to take back.")
    await add_to_balance(session, organization_id, amount=-amount, currency=currency)
    log.info("balance.corrected", organization_id=str(organization_id), amount=amount, currency=currency)
    return True


async def grant_credit_line(
    session: AsyncSession, organization_id: UUID, *, amount: Decimal, currency: str
) -> None:
    """Let the balance fall to minus `amount`, for a customer who pays by invoice; 0 takes the line away.

    Raises InvalidAmount for less than what is drawn on it or reserved by requests under way.
    """
    if amount:
        check_amount(amount, currency, "A credit line")
    purse = await lock_purse(session, organization_id, currency)
    drawn = max(purse.receivable, purse.reserved - purse.balance, Decimal(0))
    if amount < drawn:
        raise InvalidAmount(
            f"{plain(drawn, currency)} {currency} of the line is drawn or reserved: it cannot be lower."
        )
    await set_credit_line(session, organization_id, amount=amount, currency=currency)
    log.info("balance.credit_line", organization_id=str(organization_id), amount=amount, currency=currency)


async def pay(
    session: AsyncSession,
    organization_id: UUID,
    *,
    amount: Decimal,
    currency: str,
    account: str,
    reference: str,
) -> bool:
    """Draw a fee from what was paid in, and what lacks from the credit line, once per reference.

    False when it was drawn before, or when both do not reach: then nothing is drawn.
    """
    purse = await lock_purse(session, organization_id, currency)
    prepaid = min(amount, purse.prepaid)
    # What requests have reserved is paid with promotional credit first.
    reserved = max(purse.reserved - purse.promotional, Decimal(0))
    room = purse.prepaid - purse.receivable + purse.credit_line - reserved
    legs = {"prepaid": prepaid, "receivable": amount - prepaid}
    if amount > room or await was_entered(session, organization_id, *fee_references(reference)):
        return False
    for leg, part in legs.items():
        if part:
            await enter(
                session,
                organization_id,
                Transfer(
                    kind="fee",
                    debit_account=leg,
                    credit_account=account,
                    amount=part,
                    currency=currency,
                    reference=f"{reference}, {leg}",
                ),
            )
    await add_to_balance(session, organization_id, amount=-amount, currency=currency)
    log.info("fee.charged", organization_id=str(organization_id), amount=amount, currency=currency)
    return True


def fee_references(reference: str) -> tuple[str, str]:
    """Those of the transfers by which `pay` draws a fee."""
    return f"{reference}, prepaid", f"{reference}, receivable"


async def repay(
    session: AsyncSession,
    organization_id: UUID,
    *,
    amount: Decimal,
    currency: str,
    account: str,
    reference: str,
) -> bool:
    """Give back, of what was earned, by a transfer of its own, once per reference; False when it was before.

    What was drawn on the credit line is paid off first.
    """
    purse = await lock_purse(session, organization_id, currency)
    transfer = Transfer(
        kind="adjustment",
        debit_account=account,
        credit_account="prepaid",
        amount=amount,
        currency=currency,
        reference=reference,
    )
    if not await enter(session, organization_id, transfer):
        return False
    await pay_off(session, organization_id, min(amount, purse.receivable), currency, reference)
    await add_to_balance(session, organization_id, amount=amount, currency=currency)
    return True


async def pay_off(
    session: AsyncSession, organization_id: UUID, amount: Decimal, currency: str, reference: str
) -> None:
    """Let what was paid in settle what was used on the credit line; the balance stays."""
    if amount > 0:
        await enter(
            session,
            organization_id,
            Transfer(
                kind="application",
                debit_account="prepaid",
                credit_account="receivable",
                amount=amount,
                currency=currency,
                reference=f"{reference}, paid off",
            ),
        )


async def lock_purse(session: AsyncSession, organization_id: UUID, currency: str | None) -> Purse:
    """The organization's money, locked. Raises InvalidAmount when it is kept in another currency."""
    purse = await lock_balance(session, organization_id)
    if None not in (currency, purse.currency) and purse.currency != currency:
        raise InvalidAmount(f"The organization's balance is kept in {purse.currency}, not in {currency}.")
    return purse


def check_amount(amount: Decimal, currency: str, what: str) -> None:
    """Raises InvalidAmount unless it is above zero, payable in the currency, and no more than MAX_AMOUNT."""
    if not amount.is_finite() or not 0 < amount <= MAX_AMOUNT or not is_payable(amount, currency):
        raise InvalidAmount(
            f"{what} is a positive amount in what {currency} can be paid in, at most {MAX_AMOUNT}."
        )

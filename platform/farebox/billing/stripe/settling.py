"""A top-up is brought to where its payment stands. Whoever hears of a payment comes here: a webhook, the
sweep, the payer who returns. It is credited once, whoever comes first, and however often.

Stripe is asked before the transaction, and the row is locked in it. Between both, somebody else may have read
later and written earlier. So a state only goes forward, and `paid` is the last.
"""

from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import top_up as take_in
from farebox.billing.models_stripe import TopUp
from farebox.billing.stripe.account import Account, Json
from farebox.billing.stripe.amounts import from_minor, to_minor
from farebox.billing.stripe.automatic.decisions import note_outcome
from farebox.billing.stripe.customers import keep_method
from farebox.billing.stripe.errors import DeadLetter, NotBound, ProcessorRefused
from farebox.billing.stripe.invoices import void_invoice
from farebox.billing.stripe.mails import FAILED, post_mail
from farebox.billing.stripe.payments import Payment, read_intent, read_payment
from farebox.billing.stripe.top_ups import bind, comes_before, find_bound, lock_top_up, marked
from farebox.billing.withdrawals import book
from farebox.core.database import Database, present

log = structlog.get_logger(__name__)


async def follow_top_up(database: Database, account: Account, top_up: TopUp) -> TopUp:
    """Raises as `Account.ask`, and DeadLetter for a payment that is not what was ordered."""
    payment = await read_payment(account, top_up)
    if payment is not None and payment.declined and top_up.state != "requires_action":
        payment = await _void_declined(account, top_up)
    if payment is None:
        return top_up
    async with database.meter_transaction() as session:
        row = await lock_top_up(session, top_up.id)
        await _apply(session, row, payment)
        return row


async def _void_declined(account: Account, top_up: TopUp) -> Payment | None:
    """Nobody is there to try another method, unless the customer was sent to the invoice's page. Should
    somebody have paid it meanwhile, it is read as paid."""
    with suppress(ProcessorRefused):
        await void_invoice(account, top_up)
    return await read_payment(account, top_up)


async def _apply(session: AsyncSession, row: TopUp, payment: Payment) -> None:
    if payment.state == "paid" and row.state != "paid":
        await _credit(session, row, payment)
    elif comes_before(row.state, payment.state):
        row.state, row.failure, row.url = payment.state, payment.failure, payment.url
        if payment.state == "failed" and row.kind == "checkout":
            await post_mail(session, FAILED, row)
        await note_outcome(session, row)
        log.info("top_up.moved", top_up=str(row.id), state=row.state)
    if row.state == "paid" and row.fee is None and payment.fee is not None:
        await _book_fee(session, row, payment.fee)
    await session.flush()


async def _credit(session: AsyncSession, row: TopUp, payment: Payment) -> None:
    """What our row says, whatever was paid in all."""
    ordered = (row.currency, to_minor(row.amount, row.currency))
    if (payment.currency, payment.before_tax) != ordered:
        raise DeadLetter(
            f"top-up {row.id} is of {row.amount} {row.currency}, but {payment.before_tax} minor units of"
            f" {payment.currency} were paid"
        )
    reference = f"stripe {payment.payment_intent or row.invoice_id or row.session_id}"
    await take_in(
        session,
        organization_id=row.organization_id,
        amount=row.amount,
        currency=row.currency,
        reference=reference,
    )
    row.tax = from_minor(payment.tax, row.currency)
    await book(
        session,
        row.organization_id,
        amount=row.tax,
        currency=row.currency,
        kind="tax",
        debit="cash",
        credit="tax",
        reference=f"{reference}, tax",
    )
    row.state, row.failure, row.url = "paid", None, None
    row.payment_intent, row.paid_at = payment.payment_intent, await present(session)
    if row.keeps_method and payment.payment_method is not None:
        await keep_method(session, row.organization_id, payment.payment_method)
    await note_outcome(session, row)
    log.info("top_up.paid", top_up=str(row.id), organization_id=str(row.organization_id), amount=row.amount)


async def _book_fee(session: AsyncSession, row: TopUp, fee: int) -> None:
    """What Stripe kept is the operator's cost: the customer has the whole amount."""
    row.fee = from_minor(fee, row.currency)
    await book(
        session,
        row.organization_id,
        amount=row.fee,
        currency=row.currency,
        kind="processor_fee",
        debit="processor_fees",
        credit="cash",
        reference=f"stripe {row.payment_intent or row.id}, fee",
    )


async def follow_session(database: Database, account: Account, session_id: str) -> str | None:
    """What a Checkout session is about; None for one that is not ours. Raises NotBound."""
    async with database.meter_transaction() as session:
        row = await find_bound(session, session_id=session_id)
    if row is None:
        found = await account.ask(lambda client: client.v1.checkout.sessions.retrieve(session_id))
        row = await _adopt(database, marked(found.get("metadata")), session_id=session_id, url=found["url"])
    return None if row is None else (await follow_top_up(database, account, row)).state


async def follow_invoice(database: Database, account: Account, invoice_id: str) -> str | None:
    """The same of an invoice, be it one that is to be paid or one that Checkout wrote after a payment."""
    async with database.meter_transaction() as session:
        row = await find_bound(session, invoice_id=invoice_id)
    if row is None:
        found = await _read_invoice(account, invoice_id)
        row = await _invoiced(database, marked(found.get("metadata")), invoice_id)
    return None if row is None else (await follow_top_up(database, account, row)).state


async def follow_intent(database: Database, account: Account, payment_intent: str) -> str | None:
    row = await top_up_of(database, account, payment_intent)
    return None if row is None else (await follow_top_up(database, account, row)).state


async def top_up_of(database: Database, account: Account, payment_intent: str) -> TopUp | None:
    """The top-up that an intent pays, whether somebody was there to confirm it or not: off-session ones have
    no Checkout session, and are found through their invoice. None for what is not ours. Raises NotBound."""
    async with database.meter_transaction() as session:
        row = await find_bound(session, payment_intent=payment_intent)
    if row is not None:
        return row
    intent = await read_intent(account, payment_intent)
    name = marked(intent.get("metadata")) or await _marked_on_invoice(account, payment_intent)
    if name is None:
        return None
    async with database.meter_transaction() as session:
        row = await session.get(TopUp, name)
    if row is None or (row.session_id is None and row.invoice_id is None):
        raise NotBound(f"the payment {payment_intent} is of the top-up {name}, which is not bound here")
    return row


async def _marked_on_invoice(account: Account, payment_intent: str) -> UUID | None:
    params: Any = {"payment": {"type": "payment_intent", "payment_intent": payment_intent}}
    for payment in await account.list(lambda client: client.v1.invoice_payments.list(params)):
        invoice = await _read_invoice(account, payment["invoice"])
        if (name := marked(invoice.get("metadata"))) is not None:
            return name
    return None


async def _read_invoice(account: Account, invoice_id: str) -> Json:
    return await account.ask(lambda client: client.v1.invoices.retrieve(invoice_id))


async def _invoiced(database: Database, name: UUID | None, invoice_id: str) -> TopUp | None:
    if name is None:
        return None
    async with database.meter_transaction() as session:
        row = await session.get(TopUp, name)
    if row is not None and row.kind == "automatic":
        return await _adopt(database, name, invoice_id=invoice_id)
    if row is None or row.session_id is None:
        raise NotBound(f"{invoice_id} is of the top-up {name}, which is not bound here")
    return row


async def _adopt(database: Database, name: UUID | None, **identifiers: str | None) -> TopUp | None:
    """Bind what Stripe made and we did not hear of: the answer was lost, or this process died. Only who has
    our key can have marked it. Raises NotBound for a top-up that is not here, or is another object's."""
    if name is None:
        return None
    (kind, identifier), *_ = identifiers.items()
    async with database.meter_transaction() as session:
        row = await session.get(TopUp, name, with_for_update=True)
        if row is None or getattr(row, kind) not in (None, identifier):
            raise NotBound(f"{identifier} is of the top-up {name}, which is not bound to it here")
        return await bind(session, name, **identifiers)

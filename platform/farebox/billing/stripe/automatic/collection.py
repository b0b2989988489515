"""An automatic top-up is collected: an invoice is made, finalised and paid off-session.

Each step looks at what there is first, and is done under a key of our row's. So it may be begun again after
any crash, also when Stripe has forgotten the key (it does after a day).
"""

from typing import Any
from uuid import UUID

import structlog

from farebox.billing.models_stripe import StripeCustomer, TopUp
from farebox.billing.stripe.account import Account, Json, options
from farebox.billing.stripe.amounts import to_minor
from farebox.billing.stripe.automatic.decisions import due, give_up
from farebox.billing.stripe.customers import find_customer, method_on_file
from farebox.billing.stripe.errors import Declined, ProcessorRefused
from farebox.billing.stripe.invoices import read_invoice, void_invoice, withdraw_invoice
from farebox.billing.stripe.payments import intent_of, read_intent
from farebox.billing.stripe.settling import follow_top_up
from farebox.billing.stripe.top_ups import MARK, bind, lock_top_up, marked
from farebox.core.database import Database
from farebox.core.settings import Settings

log = structlog.get_logger(__name__)


async def collect(account: Account, database: Database, settings: Settings, payload: dict[str, Any]) -> None:
    """The handler of the topic. Raises as `Account.ask`, to be called again.

    What Stripe refuses it would refuse for good: the top-up ends there.
    """
    row, customer, wanted = await _standing(database, UUID(payload["top_up"]))
    if row.state != "open":
        return
    try:
        if wanted:
            await _charge(database, account, settings, row, customer)
        else:
            await _leave(database, account, row, "expired")
    except ProcessorRefused as refused:
        log.error("top_up.refused", top_up=str(row.id), reason=refused.reason)
        await _leave(database, account, row, "failed", refused.reason, paused="declined")


async def _standing(database: Database, top_up_id: UUID) -> tuple[TopUp, StripeCustomer | None, bool]:
    """The top-up, who is to pay it, and whether it is still wanted."""
    async with database.meter_transaction() as session:
        row = await lock_top_up(session, top_up_id)
        wanted = await due(session, row.organization_id) is not None
        return row, await find_customer(session, row.organization_id), wanted


async def _charge(
    database: Database, account: Account, settings: Settings, row: TopUp, customer: StripeCustomer | None
) -> None:
    method = await method_on_file(account, customer) if customer is not None else None
    if customer is None or method is None:
        await _leave(
            database, account, row, "failed", "There is no payment method to charge.", paused="no_method"
        )
        return
    invoice = await _open_invoice(database, account, settings, row, customer, method)
    row = await _fresh(database, row)
    if invoice["status"] == "open":
        await _pay(account, row, invoice, method)
    await follow_top_up(database, account, row)


async def _leave(
    database: Database,
    account: Account,
    row: TopUp,
    state: str,
    failure: str | None = None,
    *,
    paused: str | None = None,
) -> None:
    """End what is not to be charged, or not any more; what is paid by now, or being paid, goes on."""
    row = await _fresh(database, row)
    if not await withdraw_invoice(account, row):
        await follow_top_up(database, account, row)
        return
    async with database.meter_transaction() as session:
        await give_up(session, await lock_top_up(session, row.id), state, failure, paused=paused)


async def _fresh(database: Database, row: TopUp) -> TopUp:
    async with database.meter_transaction() as session:
        return await session.get_one(TopUp, row.id)


async def _open_invoice(
    database: Database,
    account: Account,
    settings: Settings,
    row: TopUp,
    customer: StripeCustomer,
    method: str,
) -> Json:
    invoice = await _find_invoice(account, row, customer) or await _make_invoice(
        account, settings, row, customer, method
    )
    async with database.meter_transaction() as session:
        await bind(session, row.id, invoice_id=invoice["id"])
    name = str(invoice["id"])
    if invoice["status"] == "draft" and not invoice["subtotal"]:
        await account.ask(
            lambda client: client.v1.invoice_items.create(
                _item(settings, row, customer, name), options("item", row.id)
            )
        )
    if invoice["status"] == "draft":
        await account.ask(
            lambda client: client.v1.invoices.finalize_invoice(
                name, {"auto_advance": False}, options("finalize", row.id)
            )
        )
    return await read_invoice(account, name)


async def _find_invoice(account: Account, row: TopUp, customer: StripeCustomer) -> Json | None:
    """The one that was made before, if the answer was lost or this process died."""
    if row.invoice_id is not None:
        return await read_invoice(account, row.invoice_id)
    since: Any = {
        "customer": customer.customer_id,
        "created": {"gte": int(row.created_at.timestamp()) - 3600},
        "limit": 100,
    }
    found = await account.list(lambda client: client.v1.invoices.list(since))
    return next((each for each in found if marked(each.get("metadata")) == row.id), None)


async def _make_invoice(
    account: Account, settings: Settings, row: TopUp, customer: StripeCustomer, method: str
) -> Json:
    params: Any = {
        "customer": customer.customer_id,
        "currency": row.currency.lower(),
        "auto_advance": False,
        "collection_method": "charge_automatically",
        "default_payment_method": method,
        "description": "Automatic top-up",
        "metadata": {MARK: row.id.hex},
        "pending_invoice_items_behavior": "exclude",
    }
    if settings.stripe_tax:
        params["automatic_tax"] = {"enabled": True}
    return await account.ask(lambda client: client.v1.invoices.create(params, options("invoice", row.id)))


def _item(settings: Settings, row: TopUp, customer: StripeCustomer, invoice: str) -> Any:
    item: Json = {
        "customer": customer.customer_id,
        "invoice": invoice,
        "amount": to_minor(row.amount, row.currency),
        "currency": row.currency.lower(),
        "description": "Prepaid credit",
    }
    return item | ({"tax_behavior": "exclusive"} if settings.stripe_tax else {})


async def _pay(account: Account, row: TopUp, invoice: Json, method: str) -> None:
    """Ask the bank once. What it wants to ask its customer waits for them; what it declines is void."""
    name = str(invoice["id"])
    intent = await read_intent(account, intent_of(invoice))
    if intent.get("status") in ("requires_action", "processing", "succeeded"):
        return
    params: Any = {"off_session": True, "payment_method": method}
    try:
        if intent.get("last_payment_error") is None:
            await account.ask(lambda client: client.v1.invoices.pay(name, params, options("pay", row.id)))
            return
    except Declined as declined:
        if declined.wants_action:
            return
    await void_invoice(account, row)

"""The invoice of an automatic top-up, as it is read, and as it is taken back before it is paid."""

from typing import Any

from farebox.billing.models_stripe import TopUp
from farebox.billing.stripe.account import Account, Json, options
from farebox.billing.stripe.errors import ProcessorRefused
from farebox.billing.stripe.payments import intent_of, read_intent

_GONE = "resource_missing"


async def read_invoice(account: Account, name: str) -> Json:
    """With its `payments`."""
    params: Any = {"expand": ["payments"]}
    return await account.ask(lambda client: client.v1.invoices.retrieve(name, params))


async def void_invoice(account: Account, top_up: TopUp) -> None:
    """So that it is not paid some time later, beside the next one."""
    name = str(top_up.invoice_id)
    await account.ask(lambda client: client.v1.invoices.void_invoice(name, None, options("void", top_up.id)))


async def withdraw_invoice(account: Account, top_up: TopUp) -> bool:
    """Whether nothing can be charged by it from now on; False where it is paid, or being paid.

    An invoice that is not bound yet is a draft at most, which Stripe never finalises by itself.
    """
    invoice = await _find_invoice(account, top_up)
    if invoice is None:
        return True
    intent = await read_intent(account, intent_of(invoice))
    if invoice["status"] == "paid" or intent.get("status") in ("processing", "succeeded"):
        return False
    name = str(invoice["id"])
    if invoice["status"] == "draft":
        await account.ask(lambda client: client.v1.invoices.delete(name))
    elif invoice["status"] != "void":
        await void_invoice(account, top_up)
    return True


async def _find_invoice(account: Account, top_up: TopUp) -> Json | None:
    """None also for a draft that was deleted."""
    if top_up.invoice_id is None:
        return None
    try:
        return await read_invoice(account, top_up.invoice_id)
    except ProcessorRefused as refused:
        if refused.refusal != _GONE:
            raise
        return None

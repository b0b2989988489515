"""Invoices as clients make, change and settle them."""

from typing import Any

from stripe.params import (
    InvoiceCreateParams,
    InvoiceDeleteParams,
    InvoiceFinalizeInvoiceParams,
    InvoiceLineItemListParams,
    InvoiceListParams,
    InvoiceMarkUncollectibleParams,
    InvoicePayParams,
    InvoiceRetrieveParams,
    InvoiceSendInvoiceParams,
    InvoiceUpdateParams,
    InvoiceVoidInvoiceParams,
)

from tests.stripe_server.invoicing import life
from tests.stripe_server.invoicing.drafts import (
    new_invoice,
    pending_items,
    recount,
    refuse_unless_draft,
    take_in,
)
from tests.stripe_server.payments.payment_methods import method_of
from tests.stripe_server.wire.answers import deleted, page_of, paged
from tests.stripe_server.wire.errors import Json, StripeError, refused
from tests.stripe_server.wire.routing import Call, Family, Params
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_DAY = 24 * 3600
_PLAIN = (
    "account_tax_ids",
    "auto_advance",
    "custom_fields",
    "default_payment_method",
    "description",
    "due_date",
    "effective_at",
    "footer",
    "metadata",
    "number",
    "payment_settings",
    "rendering",
    "statement_descriptor",
)
_ALWAYS = ("metadata", "auto_advance", "default_payment_method")


@family.post("/v1/invoices", InvoiceCreateParams)
def create_invoice(world: World, call: Call) -> Json:
    params = call.params
    if "customer" not in params:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = world.books.referred("customer", params, "customer")
    currency = params.get("currency", "usd").lower()
    values = {name: params[name] or None for name in _PLAIN if name in params and name != "auto_advance"}
    invoice = new_invoice(
        world,
        customer,
        currency,
        **{**values, "metadata": values.get("metadata") or {}},
        **_terms(world, customer, params),
        auto_advance=params.get("auto_advance", False),
        automatic_tax=_tax(params),
    )
    if params.get("pending_invoice_items_behavior", "exclude") == "include":
        for item in pending_items(world, customer["id"], currency):
            take_in(world, invoice, item)
    world.emit("invoice.created", invoice)
    return invoice


def _terms(world: World, customer: Json, params: Params) -> Json:
    """How it is to be paid and by when. Raises StripeError for a term that goes with the other method."""
    method = params.get("collection_method", "charge_automatically")
    dated = "days_until_due" in params or "due_date" in params
    if method == "charge_automatically":
        if dated:
            message = "You can only set a due date if invoice collection method is set to `send_invoice`."
            raise refused(message, param="days_until_due")
        return {"collection_method": method}
    if not dated:
        message = "If invoice collection method is set to `send_invoice`, you must specify a due date."
        raise refused(message, param="days_until_due")
    if "due_date" in params:
        return {"collection_method": method}
    now = world.now(customer["id"])
    return {"collection_method": method, "due_date": now + params["days_until_due"] * _DAY}


def _tax(params: Params) -> Json:
    given = params.get("automatic_tax", {"enabled": False})
    if not given["enabled"]:
        return {"enabled": False}
    return {"enabled": True, "liability": {"type": "self"}, "provider": "stripe"}


@family.get("/v1/invoices", InvoiceListParams)
def list_invoices(world: World, call: Call) -> Json:
    wanted = call.params.get("subscription")
    return page_of(
        world,
        call,
        "invoice",
        "collection_method",
        "customer",
        "status",
        where=lambda invoice: wanted in (None, subscription_of(invoice)),
    )


def subscription_of(invoice: Json) -> Any:
    details = (invoice["parent"] or {}).get("subscription_details")
    return details["subscription"] if details else None


@family.get("/v1/invoices/{id}", InvoiceRetrieveParams)
def retrieve_invoice(world: World, call: Call) -> Json:
    return world.books.get("invoice", call["id"])


@family.post("/v1/invoices/{id}", InvoiceUpdateParams)
def update_invoice(world: World, call: Call) -> Json:
    invoice, params = world.books.get("invoice", call["id"]), call.params
    changed = changes(invoice, params, *_PLAIN)
    if "automatic_tax" in params:
        changed["automatic_tax"] = _tax(params)
    if "collection_method" in params or "days_until_due" in params:
        changed |= _terms(world, world.books.get("customer", invoice["customer"]), params)
    if changed.keys() - set(_ALWAYS):
        refuse_unless_draft(invoice)
    world.change(invoice, "invoice.updated", **changed)
    if invoice["status"] == "draft":
        recount(world, invoice)
    return invoice


@family.delete("/v1/invoices/{id}", InvoiceDeleteParams)
def delete_invoice(world: World, call: Call) -> Json:
    invoice = world.books.get("invoice", call["id"])
    if invoice["status"] != "draft":
        raise refused("You can only delete draft invoices.")
    for item in world.books.oldest_first("invoiceitem", invoice=invoice["id"]):
        world.books.remove("invoiceitem", item["id"])
    world.books.remove("invoice", invoice["id"])
    world.emit("invoice.deleted", invoice)
    return deleted(invoice)


@family.get("/v1/invoices/{id}/lines", InvoiceLineItemListParams)
def list_lines(world: World, call: Call) -> Json:
    invoice = world.books.get("invoice", call["id"])
    return paged(call, world.books.facts[invoice["id"]]["lines"])


@family.post("/v1/invoices/{id}/finalize", InvoiceFinalizeInvoiceParams)
def finalize_invoice(world: World, call: Call) -> Json:
    invoice = world.books.get("invoice", call["id"])
    life.finalize(world, invoice)
    if "auto_advance" in call.params:
        world.change(invoice, auto_advance=call.params["auto_advance"])
    return invoice


@family.post("/v1/invoices/{id}/send", InvoiceSendInvoiceParams)
def send_invoice(world: World, call: Call) -> Json:
    invoice = world.books.get("invoice", call["id"])
    if invoice["collection_method"] != "send_invoice":
        raise refused("You can only manually send an invoice if its collection method is 'send_invoice'.")
    if invoice["status"] == "draft":
        life.finalize(world, invoice)
    world.emit("invoice.sent", invoice)
    return invoice


@family.post("/v1/invoices/{id}/pay", InvoicePayParams)
def pay_invoice(world: World, call: Call) -> Json:
    invoice, params = world.books.get("invoice", call["id"]), call.params
    if invoice["status"] == "draft":
        life.finalize(world, invoice)
    if invoice["status"] not in ("open", "uncollectible"):
        raise _unpayable(invoice)
    off_session = params.get("off_session", True)
    if params.get("paid_out_of_band", False):
        life.pay_out_of_band(world, invoice)
        return invoice
    error = life.collect(world, invoice, _method(world, invoice, params), off_session=off_session)
    if error is not None:
        raise error
    return invoice


def _unpayable(invoice: Json) -> StripeError:
    if invoice["status"] == "paid":
        return refused("Invoice is already paid")
    return refused(f"This invoice can no longer be paid: it is {invoice['status']}.")


def _method(world: World, invoice: Json, params: Params) -> Json:
    if "payment_method" in params:
        return method_of(world, invoice["customer"], params["payment_method"])
    method = life.default_method(world, invoice)
    if method is None:
        raise refused(
            "There is no `default_payment_method` set on this Customer or Invoice. Please provide a payment "
            "method or set a default.",
            code="invoice_no_payment_method",
        )
    return method


@family.post("/v1/invoices/{id}/void", InvoiceVoidInvoiceParams)
def void_invoice(world: World, call: Call) -> Json:
    invoice = world.books.get("invoice", call["id"])
    life.void(world, invoice)
    return invoice


@family.post("/v1/invoices/{id}/mark_uncollectible", InvoiceMarkUncollectibleParams)
def mark_uncollectible(world: World, call: Call) -> Json:
    invoice = world.books.get("invoice", call["id"])
    life.mark_uncollectible(world, invoice)
    return invoice

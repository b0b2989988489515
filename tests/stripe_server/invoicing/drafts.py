"""Invoices while they can still be changed."""

from typing import Any

from tests.stripe_server.invoicing.lines import line_of_item, sums
from tests.stripe_server.wire.answers import listed
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.world.world import World

_HOUR = 3600


def new_invoice(world: World, customer: Json, currency: str, **values: Any) -> Json:
    """A draft without lines. Tells nobody yet: its maker puts lines in first."""
    now = world.now(customer["id"])
    advancing = values.get("auto_advance", False)
    defaults: Json = {
        "account_country": world.settings.country,
        "account_name": "Stripe's stand-in",
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": False,
        "automatic_tax": {"enabled": False},
        "automatically_finalizes_at": now + _HOUR if advancing else None,
        "billing_reason": "manual",
        "collection_method": "charge_automatically",
        "currency": currency,
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "lines": listed([], ""),
        "payment_settings": {},
        "period_end": now,
        "period_start": now,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "draft",
        "status_transitions": {},
        "subtotal": 0,
        "test_clock": customer["test_clock"],
        "total": 0,
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
    }
    invoice = world.add(
        "invoice", customer=customer["id"], **(defaults | _addressee(world, customer) | values)
    )
    world.books.facts[invoice["id"]]["lines"] = []
    recount(world, invoice)
    return invoice


def _addressee(world: World, customer: Json) -> Json:
    ids = world.books.oldest_first("tax_id", customer=customer["id"])
    return {
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [{"type": one["type"], "value": one["value"]} for one in ids],
    }


def recount(world: World, invoice: Json) -> None:
    world.change(invoice, **sums(world, invoice))


def take_in(world: World, invoice: Json, item: Json) -> None:
    """Put an item on a draft. Raises StripeError if it cannot stand there."""
    refuse_unless_draft(invoice)
    if item["customer"] != invoice["customer"] or item["currency"] != invoice["currency"]:
        raise refused(
            "The invoice item is of another customer or currency than the invoice.", param="invoice"
        )
    world.change(item, invoice=invoice["id"])
    world.books.facts[invoice["id"]]["lines"].append(line_of_item(item))
    recount(world, invoice)


def leave_out(world: World, invoice: Json, item: Json) -> None:
    """Take an item off a draft again."""
    refuse_unless_draft(invoice)
    lines = world.books.facts[invoice["id"]]["lines"]
    lines[:] = [line for line in lines if _item_of(line) != item["id"]]
    recount(world, invoice)


def _item_of(line: Json) -> Any:
    details = line["parent"]["invoice_item_details"]
    return details["invoice_item"] if details else None


def refuse_unless_draft(invoice: Json) -> None:
    if invoice["status"] != "draft":
        raise refused(
            "This invoice is no longer editable because it has been finalized.", code="invoice_not_editable"
        )


def pending_items(world: World, customer: str, currency: str) -> list[Json]:
    return world.books.oldest_first("invoiceitem", customer=customer, currency=currency, invoice=None)

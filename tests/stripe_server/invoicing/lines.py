"""The lines of an invoice and what they come to."""

from typing import Any

import stripe

from tests.stripe_server.wire.answers import listed
from tests.stripe_server.wire.errors import Json
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.shapes import complete
from tests.stripe_server.world.world import World

# An invoice shows so many of its lines; the others are fetched page by page.
_SHOWN = 10


def new_line(amount: int, currency: str, **values: Any) -> Json:
    defaults: Json = {
        "id": f"il_{new_token()}",
        "object": "line_item",
        "amount": amount,
        "subtotal": amount,
        "currency": currency,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": 1,
        "taxes": [],
    }
    return complete(stripe.InvoiceLineItem, defaults | values)


def line_of_item(item: Json) -> Json:
    """The line that an invoice item becomes."""
    details = {"invoice_item": item["id"], "proration": item["proration"]}
    return new_line(
        item["amount"],
        item["currency"],
        description=item["description"],
        discountable=item["discountable"],
        invoice=item["invoice"],
        metadata=dict(item["metadata"]),
        parent={"type": "invoice_item_details", "invoice_item_details": details},
        period=item["period"],
        pricing=item["pricing"],
        quantity=item["quantity"],
        quantity_decimal=item["quantity_decimal"],
    )


def pricing_of(price: Json) -> Json:
    return {
        "type": "price_details",
        "price_details": {"price": price["id"], "product": price["product"]},
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def sums(world: World, invoice: Json) -> Json:
    """The fields of a draft that its lines decide, with tax where it is calculated."""
    lines = world.books.facts[invoice["id"]]["lines"]
    taxed = invoice["automatic_tax"]["enabled"]
    for line in lines:
        line["taxes"] = [_tax(world, line)] if taxed else []
    tax = sum(entry["amount"] for line in lines for entry in line["taxes"])
    subtotal = sum(line["amount"] for line in lines)
    total = subtotal + tax
    due = max(total, 0)
    return {
        "amount_due": due,
        "amount_remaining": due,
        "lines": _shown(invoice, lines),
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "total": total,
        "total_excluding_tax": subtotal,
        "total_taxes": [{**_tax(world, {"amount": subtotal}), "amount": tax}] if taxed else [],
    }


def _shown(invoice: Json, lines: list[Json]) -> Json:
    return listed(lines[:_SHOWN], f"/v1/invoices/{invoice['id']}/lines", has_more=len(lines) > _SHOWN)


def _tax(world: World, line: Json) -> Json:
    return {
        "amount": world.tax(line["amount"]),
        "tax_behavior": "exclusive",
        "tax_rate_details": {"tax_rate": f"txr_{world.settings.account}"},
        "taxability_reason": "standard_rated",
        "taxable_amount": line["amount"],
        "type": "tax_rate_details",
    }

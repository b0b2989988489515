"""The invoice that Checkout writes for a payment that has been made."""

from tests.stripe_server.invoicing.drafts import new_invoice, recount
from tests.stripe_server.invoicing.life import mark_paid
from tests.stripe_server.invoicing.lines import new_line, pricing_of
from tests.stripe_server.invoicing.payments import settle_payment, tie
from tests.stripe_server.wire.errors import Json, UnfaithfulAnswer
from tests.stripe_server.world.world import World


def invoice_for(world: World, session: Json, lines: list[Json], intent: Json) -> Json:
    """Numbered and paid. The session has a customer, as Stripe makes one for whom it invoices."""
    customer = world.books.get("customer", session["customer"])
    data = session["invoice_creation"]["invoice_data"]
    invoice = new_invoice(
        world,
        customer,
        intent["currency"],
        automatic_tax=session["automatic_tax"],
        custom_fields=data["custom_fields"],
        description=data["description"],
        footer=data["footer"],
        metadata=dict(data["metadata"] or {}),
    )
    now = world.now(customer["id"])
    world.books.facts[invoice["id"]]["lines"] = [_line(invoice, line, now) for line in lines]
    recount(world, invoice)
    if invoice["total"] != intent["amount"]:
        raise UnfaithfulAnswer(f"an invoice of {invoice['total']} for a payment of {intent['amount']}")
    world.emit("invoice.created", invoice)
    _open(world, invoice, customer, now)
    tie(world, invoice, intent)
    settle_payment(world, invoice, intent)
    mark_paid(world, invoice, intent["amount"])
    return invoice


def _line(invoice: Json, line: Json, now: int) -> Json:
    return new_line(
        line["amount_subtotal"],
        line["currency"],
        description=line["description"],
        invoice=invoice["id"],
        parent={
            "type": "invoice_item_details",
            "invoice_item_details": {"invoice_item": line["id"].replace("li_", "ii_"), "proration": False},
        },
        period={"start": now, "end": now},
        pricing=pricing_of(line["price"]),
        quantity=line["quantity"],
        quantity_decimal=str(line["quantity"]),
    )


def _open(world: World, invoice: Json, customer: Json, now: int) -> None:
    sequence = customer["next_invoice_sequence"]
    world.change(customer, next_invoice_sequence=sequence + 1)
    url = f"{world.settings.url}/i/{invoice['id']}"
    world.change(
        invoice,
        effective_at=now,
        hosted_invoice_url=url,
        invoice_pdf=f"{url}/pdf",
        number=f"{customer['invoice_prefix']}-{sequence:04}",
        status="open",
        status_transitions={**invoice["status_transitions"], "finalized_at": now},
        ending_balance=0,
    )
    world.emit("invoice.finalized", invoice)

"""Credit notes: an invoice is lowered, before it is paid or after."""

from typing import Any

import stripe
from stripe.params import (
    CreditNoteCreateParams,
    CreditNoteLineItemListParams,
    CreditNoteListParams,
    CreditNoteRetrieveParams,
    CreditNoteUpdateParams,
    CreditNoteVoidCreditNoteParams,
)

from tests.stripe_server.invoicing.life import lower_due, raise_due
from tests.stripe_server.reversals.refunds import refund
from tests.stripe_server.wire.answers import listed, page_of, paged
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family, Params
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.shapes import complete
from tests.stripe_server.world.world import World

family = Family()

_WAYS = ("refund_amount", "credit_amount", "out_of_band_amount")


@family.post("/v1/credit_notes", CreditNoteCreateParams)
def create_note(world: World, call: Call) -> Json:
    params = call.params
    invoice = world.books.referred("invoice", params, "invoice")
    lines = _lines(world, invoice, params)
    total = sum(line["amount"] for line in lines)
    _refuse_beyond_invoice(world, invoice, total)
    paid = invoice["status"] == "paid"
    refunds = _refunds(world, invoice, params, total) if paid else []
    note = _new_note(world, invoice, params, lines, refunds)
    if paid:
        _credit(world, invoice, note, params.get("credit_amount", 0))
        after = invoice["post_payment_credit_notes_amount"] + total
        world.change(invoice, post_payment_credit_notes_amount=after)
    else:
        _refuse_ways_before_payment(params)
        lower_due(world, invoice, total)
    params.get("email_type")  # Mails are Stripe's own affair.
    world.emit("credit_note.created", note)
    return note


def _lines(world: World, invoice: Json, params: Params) -> list[Json]:
    if ("lines" in params) == ("amount" in params):
        raise refused("You must pass one of `amount`, `lines` or `shipping_cost`.", param="amount")
    if "amount" in params:
        return [_line(params["amount"], type="custom_line_item", description="Credit")]
    return [_line_given(world, invoice, given) for given in params["lines"]]


def _line_given(world: World, invoice: Json, given: Json) -> Json:
    quantity = given.get("quantity", 1)
    if given["type"] == "custom_line_item":
        return _line(
            given["unit_amount"] * quantity,
            type="custom_line_item",
            description=given.get("description"),
            quantity=quantity,
            unit_amount=given["unit_amount"],
            unit_amount_decimal=str(given["unit_amount"]),
        )
    for line in world.books.facts[invoice["id"]]["lines"]:
        if line["id"] == given["invoice_line_item"]:
            return _line(
                given.get("amount", line["amount"]),
                type="invoice_line_item",
                description=line["description"],
                invoice_line_item=line["id"],
                quantity=quantity,
            )
    raise refused(f"No such invoice line item: '{given['invoice_line_item']}'", code="resource_missing")


def _line(amount: int, **values: Any) -> Json:
    defaults: Json = {
        "id": f"cnli_{new_token()}",
        "object": "credit_note_line_item",
        "amount": amount,
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "tax_rates": [],
        "taxes": [],
    }
    return complete(stripe.CreditNoteLineItem, defaults | values)


def _refuse_beyond_invoice(world: World, invoice: Json, total: int) -> None:
    if invoice["status"] not in ("open", "paid", "uncollectible"):
        raise refused(f"You cannot issue a credit note for an invoice that is {invoice['status']}.")
    notes = world.books.oldest_first("credit_note", invoice=invoice["id"], status="issued")
    left = invoice["total"] - sum(note["total"] for note in notes)
    if invoice["status"] != "paid":
        left = min(left, invoice["amount_remaining"])
    if total <= 0 or total > left:
        message = f"The credit note's total of {total} does not fit into what the invoice has left, {left}."
        raise refused(message, param="amount")


def _refunds(world: World, invoice: Json, params: Params, total: int) -> list[Json]:
    """Money sent back for it. Raises StripeError unless all ways together come to the note's total."""
    given = [
        {"refund": one["refund"], "amount_refunded": one["amount_refunded"]}
        for one in params.get("refunds", [])
    ]
    shared = sum(params.get(way, 0) for way in _WAYS) + sum(one["amount_refunded"] for one in given)
    if shared != total:
        raise refused(
            f"The sum of credit amount, refund amount and out of band amount ({shared}) must equal the post "
            f"payment credit note amount ({total})."
        )
    back = params.get("refund_amount", 0)
    if back:
        intent = world.books.get("payment_intent", world.books.facts[invoice["id"]]["intent"])
        made = refund(world, world.books.get("charge", intent["latest_charge"]), back)
        given.append({"refund": made["id"], "amount_refunded": back})
    return [{**one, "type": "refund"} for one in given]


def _refuse_ways_before_payment(params: Params) -> None:
    for way in (*_WAYS, "refunds"):
        if params.get(way):
            raise refused(f"`{way}` is for invoices that are paid.", param=way)


def _new_note(world: World, invoice: Json, params: Params, lines: list[Json], refunds: list[Json]) -> Json:
    total = sum(line["amount"] for line in lines)
    paid = invoice["status"] == "paid"
    issued = len(world.books.oldest_first("credit_note", invoice=invoice["id"])) + 1
    note = world.add(
        "credit_note",
        customer=invoice["customer"],
        amount=total,
        amount_shipping=0,
        currency=invoice["currency"],
        discount_amount=0,
        discount_amounts=[],
        effective_at=params.get("effective_at", world.now(invoice["customer"])),
        invoice=invoice["id"],
        lines=listed([], ""),
        memo=params.get("memo"),
        metadata=params.get("metadata", {}),
        number=f"{invoice['number']}-CN-{issued:02}",
        out_of_band_amount=params.get("out_of_band_amount"),
        pdf=f"{invoice['hosted_invoice_url']}/credit_notes/{issued}/pdf",
        post_payment_amount=total if paid else 0,
        pre_payment_amount=0 if paid else total,
        pretax_credit_amounts=[],
        reason=params.get("reason"),
        refunds=refunds,
        status="issued",
        subtotal=total,
        subtotal_excluding_tax=total,
        total=total,
        total_excluding_tax=total,
        total_taxes=[],
        type="post_payment" if paid else "pre_payment",
    )
    world.change(note, lines=listed(lines, f"/v1/credit_notes/{note['id']}/lines"))
    return note


def _credit(world: World, invoice: Json, note: Json, amount: int) -> None:
    """What goes to the customer's balance lowers their next invoice."""
    if not amount:
        return
    customer = world.books.get("customer", invoice["customer"])
    line = world.add(
        "customer_balance_transaction",
        customer=customer["id"],
        amount=-amount,
        credit_note=note["id"],
        currency=note["currency"],
        ending_balance=customer["balance"] - amount,
        invoice=invoice["id"],
        type="credit_note",
    )
    world.change(note, customer_balance_transaction=line["id"])
    world.change(customer, "customer.updated", balance=customer["balance"] - amount)


@family.get("/v1/credit_notes", CreditNoteListParams)
def list_notes(world: World, call: Call) -> Json:
    return page_of(world, call, "credit_note", "customer", "invoice")


@family.get("/v1/credit_notes/{id}", CreditNoteRetrieveParams)
def retrieve_note(world: World, call: Call) -> Json:
    return world.books.get("credit_note", call["id"])


@family.get("/v1/credit_notes/{id}/lines", CreditNoteLineItemListParams)
def list_lines(world: World, call: Call) -> Json:
    return paged(call, world.books.get("credit_note", call["id"])["lines"]["data"])


@family.post("/v1/credit_notes/{id}", CreditNoteUpdateParams)
def update_note(world: World, call: Call) -> Json:
    note = world.books.get("credit_note", call["id"])
    world.change(note, "credit_note.updated", **changes(note, call.params, "memo", "metadata"))
    return note


@family.post("/v1/credit_notes/{id}/void", CreditNoteVoidCreditNoteParams)
def void_note(world: World, call: Call) -> Json:
    note = world.books.get("credit_note", call["id"])
    invoice = world.books.get("invoice", note["invoice"])
    if note["status"] == "void" or invoice["status"] != "open":
        raise refused("You can only void credit notes of invoices that are open.")
    world.change(note, status="void", voided_at=world.now(note["customer"]))
    raise_due(world, invoice, note["total"])
    world.emit("credit_note.voided", note)
    return note

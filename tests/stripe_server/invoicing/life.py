"""From draft to open, and from there to paid, void or uncollectible."""

from tests.stripe_server.invoicing.payments import close_payment, open_payment, settle_payment
from tests.stripe_server.payments.collecting import CONFIRMABLE, attempt, cancel, smallest
from tests.stripe_server.wire.errors import Json, StripeError, card_error, refused
from tests.stripe_server.wire.routing import Family
from tests.stripe_server.world.world import World

family = Family()


def finalize(world: World, invoice: Json) -> None:
    """Give it a number and open it for payment; with nothing due it is paid at once.

    Raises StripeError where tax cannot be calculated, and lets the invoice stay a draft.
    """
    if invoice["status"] != "draft":
        raise refused("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    _refuse_untaxable(world, invoice)
    customer = world.books.get("customer", invoice["customer"])
    now = world.now(customer["id"])
    url = f"{world.settings.url}/i/{invoice['id']}"
    world.change(
        invoice,
        automatically_finalizes_at=None,
        effective_at=now,
        hosted_invoice_url=url,
        invoice_pdf=f"{url}/pdf",
        number=_number(world, customer),
        status="open",
        status_transitions={**invoice["status_transitions"], "finalized_at": now},
        **_due(world, invoice, customer),
    )
    if invoice["amount_due"] > 0:
        open_payment(world, invoice)
    world.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        mark_paid(world, invoice)


def _refuse_untaxable(world: World, invoice: Json) -> None:
    tax = invoice["automatic_tax"]
    if not tax["enabled"]:
        return
    if invoice["customer_address"] is not None:
        world.change(invoice, automatic_tax={**tax, "status": "complete"})
        return
    error = refused(
        "The customer's location isn't recognized. Set a valid customer address in order to automatically "
        "calculate tax.",
        code="customer_tax_location_invalid",
    )
    kept = {name: value for name, value in error.fields.items() if value is not None}
    world.change(
        invoice, automatic_tax={**tax, "status": "requires_location_inputs"}, last_finalization_error=kept
    )
    world.emit("invoice.finalization_failed", invoice)
    raise error


def _number(world: World, customer: Json) -> str:
    sequence = customer["next_invoice_sequence"]
    world.change(customer, next_invoice_sequence=sequence + 1)
    return f"{customer['invoice_prefix']}-{sequence:04}"


def _due(world: World, invoice: Json, customer: Json) -> Json:
    """What is left to pay once the customer's balance is counted in; what is too small waits on it."""
    before = customer["balance"]
    owed = invoice["total"] + before
    due = owed if owed >= smallest(invoice["currency"]) else 0
    if before != owed - due:
        _carry_over(world, invoice, customer, owed - due)
    return {
        "amount_due": due,
        "amount_remaining": due,
        "starting_balance": before,
        "ending_balance": owed - due,
    }


def _carry_over(world: World, invoice: Json, customer: Json, balance: int) -> None:
    world.add(
        "customer_balance_transaction",
        customer=customer["id"],
        amount=balance - customer["balance"],
        currency=invoice["currency"],
        ending_balance=balance,
        invoice=invoice["id"],
        type="applied_to_invoice" if customer["balance"] < 0 else "invoice_too_small",
    )
    world.change(customer, "customer.updated", balance=balance)


def default_method(world: World, invoice: Json) -> Json | None:
    customer = world.books.get("customer", invoice["customer"])
    chosen = invoice["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    return world.books.find(chosen) if chosen else None


def collect(
    world: World, invoice: Json, method: Json, *, off_session: bool = True, automatic: bool = False
) -> StripeError | None:
    """Try to have it paid; the error that a request for it is answered with, if any."""
    intent = world.books.get("payment_intent", world.books.facts[invoice["id"]]["intent"])
    tries = invoice["attempt_count"]
    world.change(invoice, attempted=True, attempt_count=tries + 1 if automatic or tries == 0 else tries)
    error = attempt(
        world, intent, method, off_session=off_session, park=True, return_url=invoice["hosted_invoice_url"]
    )
    if intent["status"] != "requires_action":
        return error
    world.emit("invoice.payment_action_required", invoice)
    world.emit("invoice.payment_failed", invoice)
    return card_error(
        "invoice_payment_intent_requires_action",
        "Payment for this invoice requires additional user action before it can be completed successfully. "
        "Payment can be completed using the PaymentIntent associated with the invoice.",
    )


@family.listens("payment_intent.succeeded")
def note_payment(world: World, intent: Json) -> None:
    invoice = _invoice_of(world, intent)
    if invoice is not None and invoice["status"] in ("open", "uncollectible"):
        settle_payment(world, invoice, intent)
        mark_paid(world, invoice, intent["amount_received"])


@family.listens("payment_intent.payment_failed")
def note_failure(world: World, intent: Json) -> None:
    invoice = _invoice_of(world, intent)
    if invoice is not None and invoice["status"] in ("open", "uncollectible"):
        world.emit("invoice.payment_failed", invoice)


def _invoice_of(world: World, intent: Json) -> Json | None:
    identifier = world.books.facts[intent["id"]].get("invoice")
    return world.books.get("invoice", identifier) if identifier else None


def mark_paid(world: World, invoice: Json, amount: int = 0) -> None:
    world.change(
        invoice,
        "invoice.updated",
        amount_paid=invoice["amount_paid"] + amount,
        amount_remaining=0,
        attempted=True,
        auto_advance=False,
        next_payment_attempt=None,
        status="paid",
        status_transitions={**invoice["status_transitions"], "paid_at": world.now(invoice["customer"])},
    )
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)


def pay_out_of_band(world: World, invoice: Json) -> None:
    """Paid elsewhere, they say."""
    _give_up_payment(world, invoice)
    mark_paid(world, invoice, invoice["amount_remaining"])


def void(world: World, invoice: Json) -> None:
    _refuse_status(invoice, "void", "open", "uncollectible")
    _give_up_payment(world, invoice)
    moved = {**invoice["status_transitions"], "voided_at": world.now(invoice["customer"])}
    world.change(invoice, "invoice.updated", status="void", status_transitions=moved, auto_advance=False)
    world.emit("invoice.voided", invoice)


def mark_uncollectible(world: World, invoice: Json) -> None:
    _refuse_status(invoice, "mark uncollectible", "open")
    moved = {**invoice["status_transitions"], "marked_uncollectible_at": world.now(invoice["customer"])}
    world.change(
        invoice, "invoice.updated", status="uncollectible", status_transitions=moved, auto_advance=False
    )
    world.emit("invoice.marked_uncollectible", invoice)


def _refuse_status(invoice: Json, verb: str, *statuses: str) -> None:
    if invoice["status"] not in statuses:
        raise refused(f"You cannot {verb} an invoice with a status of {invoice['status']}.")


def _give_up_payment(world: World, invoice: Json) -> None:
    identifier = world.books.facts[invoice["id"]].get("intent")
    if identifier is None:
        return
    intent = world.books.get("payment_intent", identifier)
    close_payment(world, invoice)
    if intent["status"] in CONFIRMABLE:
        cancel(world, intent, "void_invoice")


def lower_due(world: World, invoice: Json, amount: int) -> None:
    """A credit note before payment: less is left to pay, perhaps nothing."""
    _move_due(world, invoice, -amount)
    if invoice["amount_remaining"] == 0:
        _give_up_payment(world, invoice)
        mark_paid(world, invoice)


def raise_due(world: World, invoice: Json, amount: int) -> None:
    """Such a credit note was void after all."""
    _move_due(world, invoice, amount)


def _move_due(world: World, invoice: Json, amount: int) -> None:
    remaining = invoice["amount_remaining"] + amount
    world.change(
        invoice,
        "invoice.updated",
        amount_due=invoice["amount_due"] + amount,
        amount_remaining=remaining,
        pre_payment_credit_notes_amount=invoice["pre_payment_credit_notes_amount"] - amount,
    )
    if remaining > 0:
        intent = world.books.get("payment_intent", world.books.facts[invoice["id"]]["intent"])
        world.change(intent, amount=remaining)

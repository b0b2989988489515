"""What time does to invoices: drafts that advance are opened and paid, tried again, or fall due."""

from tests.stripe_server.invoicing.life import collect, default_method, finalize
from tests.stripe_server.wire.errors import Json, StripeError
from tests.stripe_server.wire.routing import Family
from tests.stripe_server.world.world import World

family = Family()

_DAY = 24 * 3600
# Stripe tries a failed payment again after so many days, then gives up.
RETRY_DAYS = (3, 5, 7)


@family.due
def advance_drafts(world: World) -> None:
    for invoice in world.books.oldest_first("invoice", status="draft", auto_advance=True):
        at = invoice["automatically_finalizes_at"]
        if at is not None and at <= world.now(invoice["customer"]):
            advance(world, invoice)


def advance(world: World, invoice: Json) -> None:
    """Open it, and collect or send it."""
    try:
        finalize(world, invoice)
    except StripeError:
        world.change(invoice, automatically_finalizes_at=None)
        return
    if invoice["status"] != "open":
        return
    if invoice["collection_method"] == "send_invoice":
        world.emit("invoice.sent", invoice)
    else:
        try_to_collect(world, invoice)


def try_to_collect(world: World, invoice: Json) -> None:
    """An automatic try; another is planned if it fails and there is one left."""
    method = default_method(world, invoice)
    if method is None:
        world.change(invoice, attempted=True, attempt_count=invoice["attempt_count"] + 1)
        world.emit("invoice.payment_failed", invoice)
    else:
        collect(world, invoice, method, automatic=True)
    if invoice["status"] == "open":
        tries = invoice["attempt_count"]
        more = tries <= len(RETRY_DAYS) and invoice["auto_advance"]
        at = world.now(invoice["customer"]) + RETRY_DAYS[tries - 1] * _DAY if more else None
        world.change(invoice, next_payment_attempt=at)


@family.due
def try_again(world: World) -> None:
    for invoice in world.books.oldest_first("invoice", status="open"):
        at = invoice["next_payment_attempt"]
        if at is not None and at <= world.now(invoice["customer"]):
            try_to_collect(world, invoice)


@family.listens("customer.deleted")
def leave_alone(world: World, customer: Json) -> None:
    """Nobody is left to collect from."""
    for invoice in world.books.oldest_first("invoice", customer=customer["id"]):
        world.change(invoice, auto_advance=False, next_payment_attempt=None)


@family.due
def tell_overdue(world: World) -> None:
    for invoice in world.books.oldest_first("invoice", status="open"):
        facts = world.books.facts[invoice["id"]]
        due = invoice["due_date"]
        if due is not None and due < world.now(invoice["customer"]) and not facts.get("overdue"):
            facts["overdue"] = True
            world.emit("invoice.overdue", invoice)

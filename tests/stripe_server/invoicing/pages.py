"""The hosted page of an invoice, where its customer pays it."""

from html import escape

from tests.stripe_server.invoicing.life import collect
from tests.stripe_server.payments.banks import CARDS, GOOD, card_numbered
from tests.stripe_server.payments.payment_methods import new_card
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.pages import Fields, Page, SentOn, Shown, button, choice, form
from tests.stripe_server.world.world import World


def shown(world: World, identifier: str) -> Shown:
    return _invoice_page(world.books.get("invoice", identifier))


def _invoice_page(invoice: Json, error: str = "") -> Shown:
    alert = f'<p role="alert">{escape(error)}</p>' if error else ""
    amount = f"{invoice['amount_remaining']} {invoice['currency']}"
    body = f"{alert}<p>{escape(invoice['status'])}: {escape(amount)} due</p>"
    if invoice["status"] in ("open", "uncollectible"):
        cards = {card.number: f"{card.number} {token}" for token, card in CARDS.items()}
        body += form(choice("card", "Card", cards), button("pay", "Pay"))
    return Shown(f"Invoice {invoice['number'] or ''}", body, 402 if error else 200)


def posted(world: World, identifier: str, fields: Fields) -> Shown | SentOn:
    invoice = world.books.get("invoice", identifier)
    if invoice["status"] not in ("open", "uncollectible"):
        raise refused(f"This invoice is {invoice['status']}.")
    card = card_numbered(fields.get("card", GOOD.number)) or GOOD
    error = collect(world, invoice, new_card(world, card), off_session=False)
    intent = world.books.get("payment_intent", world.books.facts[identifier]["intent"])
    if intent["next_action"] is not None:
        return SentOn(str(intent["next_action"]["redirect_to_url"]["url"]))
    return _invoice_page(invoice, "" if error is None else str(error))


PAGES = [Page("/i", shown, posted)]

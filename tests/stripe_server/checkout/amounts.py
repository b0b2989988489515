"""The lines of a Checkout session and what they come to, with tax on top once it is known where to."""

import stripe

from tests.stripe_server.billing.catalogue import price_in, total
from tests.stripe_server.invoicing.tax import refuse_inclusive
from tests.stripe_server.payments.collecting import smallest
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.shapes import complete
from tests.stripe_server.world.world import World


def lines_of(world: World, params: Json, currency: str | None = None) -> list[Json]:
    """Raises StripeError for lines that a session of this mode cannot have."""
    given = params["line_items"]
    if not given:
        raise refused("Missing required param: line_items.", param="line_items", code="parameter_missing")
    lines = [_line(world, item, f"line_items[{index}]") for index, item in enumerate(given)]
    _refuse_mixture(params["mode"], lines, currency)
    return lines


def _line(world: World, item: Json, where: str) -> Json:
    price, quantity = price_in(world, item, where), item.get("quantity", 1)
    amount = total(price, quantity)
    values = {
        "id": f"li_{new_token()}",
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": world.books.get("product", price["product"])["name"],
        "metadata": item.get("metadata", {}),
        "price": price,
        "quantity": quantity,
    }
    left_out = {"discounts", "taxes"}
    return {name: it for name, it in complete(stripe.LineItem, values).items() if name not in left_out}


def _refuse_mixture(mode: str, lines: list[Json], currency: str | None) -> None:
    currencies = {line["currency"] for line in lines} | ({currency} if currency else set())
    if len(currencies) > 1:
        raise refused("All line items must have the same currency.", param="line_items")
    recurring = [line["price"]["type"] == "recurring" for line in lines]
    if mode == "payment" and any(recurring):
        message = "You specified `payment` mode but passed a recurring price."
        raise refused(message, param="line_items")
    if mode == "subscription" and not any(recurring):
        message = "You must provide at least one recurring price in `subscription` mode when using prices."
        raise refused(message, param="line_items")


def refuse_too_little(lines: list[Json]) -> None:
    """Raises StripeError for a sum that no card can carry."""
    least = smallest(lines[0]["currency"])
    if sum(line["amount_total"] for line in lines) < least:
        message = f"The Checkout Session's total amount due must add up to at least {least}."
        raise refused(message, param="line_items", code="amount_too_small")


def put_tax(world: World, lines: list[Json]) -> None:
    for line in lines:
        refuse_inclusive(line["price"]["tax_behavior"])
        line["amount_tax"] = world.tax(line["amount_subtotal"])
        line["amount_total"] = line["amount_subtotal"] + line["amount_tax"]


def totals(lines: list[Json]) -> Json:
    """The session's fields that its lines decide."""
    return {
        "amount_subtotal": sum(line["amount_subtotal"] for line in lines),
        "amount_total": sum(line["amount_total"] for line in lines),
        "currency": lines[0]["currency"],
        "total_details": {
            "amount_discount": 0,
            "amount_shipping": 0,
            "amount_tax": sum(line["amount_tax"] for line in lines),
        },
    }

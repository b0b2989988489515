"""Invoice items: amounts that wait for an invoice, or stand on a draft."""

from decimal import Decimal
from typing import Any

from stripe.params import (
    InvoiceItemCreateParams,
    InvoiceItemDeleteParams,
    InvoiceItemListParams,
    InvoiceItemRetrieveParams,
    InvoiceItemUpdateParams,
)

from tests.stripe_server.billing.catalogue import new_price
from tests.stripe_server.invoicing.drafts import leave_out, take_in
from tests.stripe_server.invoicing.lines import pricing_of
from tests.stripe_server.invoicing.tax import refuse_inclusive
from tests.stripe_server.wire.answers import deleted, page_of
from tests.stripe_server.wire.errors import Json, StripeError, refused
from tests.stripe_server.wire.routing import Call, Family, Params
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_PLAIN = ("description", "discountable", "metadata")


@family.post("/v1/invoiceitems", InvoiceItemCreateParams)
def create_item(world: World, call: Call) -> Json:
    params = call.params
    invoice = world.books.referred("invoice", params, "invoice") if "invoice" in params else None
    item = new_item(
        world, _customer(world, params, invoice)["id"], **_amounts(world, params), **_plain(world, params)
    )
    if invoice is not None:
        try:
            take_in(world, invoice, item)
        except StripeError:
            world.books.remove("invoiceitem", item["id"])
            raise
    world.emit("invoiceitem.created", item)
    if invoice is not None:
        world.emit("invoice.updated", invoice)
    return item


def new_item(world: World, customer: str, **values: Any) -> Json:
    """A pending item; tells nobody."""
    now = world.now(customer)
    holder = world.books.get("customer", customer)
    defaults: Json = {
        "date": now,
        "discountable": values["amount"] >= 0,
        "discounts": [],
        "invoice": None,
        "net_amount": values["amount"],
        "period": {"start": now, "end": now},
        "proration": False,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": holder["test_clock"],
    }
    return world.add("invoiceitem", customer=customer, **(defaults | values))


def _customer(world: World, params: Params, invoice: Json | None) -> Json:
    if "customer" in params:
        return world.books.referred("customer", params, "customer")
    if invoice is None:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    return world.books.get("customer", invoice["customer"])


def _plain(world: World, params: Params) -> Json:
    values: Json = {name: params[name] for name in (*_PLAIN, "period") if name in params}
    values["metadata"] = values.get("metadata") or {}
    refuse_inclusive(params.get("tax_behavior"))
    params.get("tax_code")  # All goods have the account's one rate.
    return values


def _amounts(world: World, params: Params) -> Json:
    """Amount, currency, quantity and pricing, from an amount, a unit amount or a price."""
    if "amount" in params:
        for other in ("quantity", "quantity_decimal", "unit_amount_decimal", "pricing", "price_data"):
            if other in params:
                raise refused(f"You may only specify one of these parameters: amount, {other}.", param=other)
        return {"amount": params["amount"], "currency": _currency(params)}
    quantity = Decimal(params.get("quantity", params.get("quantity_decimal", 1)))
    counted = {"quantity": int(quantity), "quantity_decimal": format(quantity.normalize(), "f")}
    if "unit_amount_decimal" in params:
        unit = Decimal(params["unit_amount_decimal"])
        return {"amount": _times(unit, quantity), "currency": _currency(params), **counted}
    price = _price(world, params)
    amount = _times(Decimal(price["unit_amount_decimal"]), quantity)
    return {"amount": amount, "currency": price["currency"], "pricing": pricing_of(price), **counted}


def _currency(params: Params) -> str:
    if "currency" not in params:
        raise refused("Missing required param: currency.", param="currency", code="parameter_missing")
    return str(params["currency"]).lower()


def _times(unit: Decimal, quantity: Decimal) -> int:
    return int((unit * quantity).to_integral_value())


def _price(world: World, params: Params) -> Json:
    if "price_data" in params:
        return new_price(world, params["price_data"], active=False)
    if "price" not in params.get("pricing", {}):
        raise refused("You must pass either `amount`, `pricing[price]` or `price_data`.", param="amount")
    return world.books.get("price", params["pricing"]["price"], "pricing[price]")


@family.get("/v1/invoiceitems", InvoiceItemListParams)
def list_items(world: World, call: Call) -> Json:
    pending = call.params.get("pending")
    return page_of(
        world,
        call,
        "invoiceitem",
        "customer",
        "invoice",
        where=lambda item: pending is None or (item["invoice"] is None) == pending,
    )


@family.get("/v1/invoiceitems/{id}", InvoiceItemRetrieveParams)
def retrieve_item(world: World, call: Call) -> Json:
    return world.books.get("invoiceitem", call["id"])


@family.post("/v1/invoiceitems/{id}", InvoiceItemUpdateParams)
def update_item(world: World, call: Call) -> Json:
    item = world.books.get("invoiceitem", call["id"])
    invoice = world.books.find(item["invoice"] or "")
    if invoice is not None:
        leave_out(world, invoice, item)
    changed = changes(item, call.params, *_PLAIN, "amount", "period")
    world.change(item, **changed, net_amount=changed.get("amount", item["amount"]))
    if invoice is not None:
        take_in(world, invoice, item)
    return item


@family.delete("/v1/invoiceitems/{id}", InvoiceItemDeleteParams)
def delete_item(world: World, call: Call) -> Json:
    item = world.books.get("invoiceitem", call["id"])
    invoice = world.books.find(item["invoice"] or "")
    if invoice is not None:
        leave_out(world, invoice, item)
    world.books.remove("invoiceitem", item["id"])
    world.emit("invoiceitem.deleted", item)
    return deleted(item)

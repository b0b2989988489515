"""Products and their prices: flat amounts per unit, once or each period."""

from decimal import Decimal
from typing import Any

from stripe.params import (
    PriceCreateParams,
    PriceListParams,
    PriceRetrieveParams,
    PriceUpdateParams,
    ProductCreateParams,
    ProductDeleteParams,
    ProductListParams,
    ProductRetrieveParams,
    ProductUpdateParams,
)

from tests.stripe_server.wire.answers import deleted, page_of
from tests.stripe_server.wire.errors import Json, UnfaithfulAnswer, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_OF_PRODUCTS = (
    "active",
    "description",
    "images",
    "marketing_features",
    "metadata",
    "name",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
)


@family.post("/v1/products", ProductCreateParams)
def create_product(world: World, call: Call) -> Json:
    params = call.params
    product = new_product(world, {name: params[name] for name in (*_OF_PRODUCTS, "id") if name in params})
    if "default_price_data" in params:
        price = new_price(world, {**params["default_price_data"], "product": product["id"]})
        world.change(product, default_price=price["id"])
    world.emit("product.created", product)
    return product


def new_product(world: World, given: Json) -> Json:
    defaults: Json = {
        "active": True,
        "images": [],
        "marketing_features": [],
        "type": "service",
        "updated": world.now(),
    }
    return world.add("product", **(defaults | given))


@family.get("/v1/products", ProductListParams)
def list_products(world: World, call: Call) -> Json:
    ids = call.params.get("ids")
    names = ("active", "type", "url", "shippable")
    return page_of(world, call, "product", *names, where=lambda row: ids is None or row["id"] in ids)


@family.get("/v1/products/{id}", ProductRetrieveParams)
def retrieve_product(world: World, call: Call) -> Json:
    return world.books.get("product", call["id"])


@family.post("/v1/products/{id}", ProductUpdateParams)
def update_product(world: World, call: Call) -> Json:
    product = world.books.get("product", call["id"])
    changed = changes(product, call.params, *_OF_PRODUCTS, "default_price")
    world.change(product, "product.updated", updated=world.now(), **changed)
    return product


@family.delete("/v1/products/{id}", ProductDeleteParams)
def delete_product(world: World, call: Call) -> Json:
    product = world.books.get("product", call["id"])
    if world.books.oldest_first("price", product=product["id"]):
        raise refused("This product cannot be deleted because it has one or more user-created prices.")
    world.books.remove("product", product["id"])
    world.emit("product.deleted", product)
    return deleted(product)


@family.post("/v1/prices", PriceCreateParams)
def create_price(world: World, call: Call) -> Json:
    given = {name: call.params[name] for name in list(call.params)}
    price = new_price(world, given)
    world.emit("price.created", price)
    return price


def new_price(world: World, given: Json, *, active: bool = True) -> Json:
    """A price, inline or not. Raises StripeError for one that lacks its amount or product."""
    given = dict(given)
    for tiered in ("tiers", "tiers_mode", "transform_quantity", "currency_options", "custom_unit_amount"):
        if tiered in given:
            raise UnfaithfulAnswer(f"prices with {tiered} are not served")
    product = _product_for(world, given)
    amount = _amount(given)
    recurring = given.pop("recurring", None)
    given.pop("transfer_lookup_key", None)
    values: Json = {
        "active": active,
        "billing_scheme": "per_unit",
        "tax_behavior": "unspecified",
        "type": "one_time" if recurring is None else "recurring",
        **given,
        "currency": given["currency"].lower(),
        "product": product["id"],
        "recurring": recurring and {"interval_count": 1, "usage_type": "licensed", **recurring},
        "unit_amount": int(amount) if amount == amount.to_integral_value() else None,
        "unit_amount_decimal": format(amount.normalize(), "f"),
    }
    return world.add("price", **values)


def _product_for(world: World, given: Json) -> Json:
    data = given.pop("product_data", None)
    if data is not None:
        return new_product(world, data)
    if "product" not in given:
        raise refused("You must specify either `product` or `product_data`.", param="product")
    return world.books.referred("product", given, "product")


def _amount(given: Json) -> Decimal:
    if ("unit_amount" in given) == ("unit_amount_decimal" in given):
        raise refused("You must specify one of `unit_amount` and `unit_amount_decimal`.", param="unit_amount")
    return Decimal(given.pop("unit_amount") if "unit_amount" in given else given.pop("unit_amount_decimal"))


@family.get("/v1/prices", PriceListParams)
def list_prices(world: World, call: Call) -> Json:
    keys = call.params.get("lookup_keys")
    names = ("active", "currency", "product", "type")
    return page_of(world, call, "price", *names, where=lambda row: keys is None or row["lookup_key"] in keys)


@family.get("/v1/prices/{id}", PriceRetrieveParams)
def retrieve_price(world: World, call: Call) -> Json:
    return world.books.get("price", call["id"])


@family.post("/v1/prices/{id}", PriceUpdateParams)
def update_price(world: World, call: Call) -> Json:
    price = world.books.get("price", call["id"])
    names = ("active", "lookup_key", "metadata", "nickname", "tax_behavior")
    changed: dict[str, Any] = changes(price, call.params, *names)
    world.change(price, "price.updated", **changed)
    return price


def total(price: Json, quantity: int) -> int:
    """Whole minor units for so many of them."""
    return int((Decimal(price["unit_amount_decimal"]) * quantity).to_integral_value())


def price_in(world: World, given: Json, where: str) -> Json:
    """The price of a line, by id or made of `price_data`. Raises StripeError if the line has neither."""
    if "price" in given:
        return world.books.referred("price", {f"{where}[price]": given["price"]}, f"{where}[price]")
    if "price_data" not in given:
        raise refused(
            f"Missing required param: {where}[price].", param=f"{where}[price]", code="parameter_missing"
        )
    return new_price(world, given["price_data"], active=False)

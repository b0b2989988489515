"""Customers, their tax ids and their payment methods."""

from typing import Any

from stripe.params import (
    CustomerBalanceTransactionCreateParams,
    CustomerBalanceTransactionListParams,
    CustomerCreateParams,
    CustomerDeleteParams,
    CustomerListParams,
    CustomerPaymentMethodListParams,
    CustomerRetrieveParams,
    CustomerTaxIdCreateParams,
    CustomerTaxIdDeleteParams,
    CustomerTaxIdListParams,
    CustomerTaxIdRetrieveParams,
    CustomerUpdateParams,
)

from tests.stripe_server.payments.payment_methods import attach, refuse_unattachable, usable_method
from tests.stripe_server.wire.answers import deleted, listed, page_of
from tests.stripe_server.wire.errors import Json, missing, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.world import World

family = Family()

_PLAIN = ("address", "description", "email", "name", "phone", "preferred_locales", "shipping", "balance")
_TAXED = ("tax_exempt", "invoice_prefix", "next_invoice_sequence", "invoice_settings", "metadata")


@family.post("/v1/customers", CustomerCreateParams)
def create_customer(world: World, call: Call) -> Json:
    params = call.params
    method = usable_method(world, params["payment_method"]) if "payment_method" in params else None
    if method is not None:
        refuse_unattachable(world, method)
    customer = new_customer(world, test_clock=_clock_in(world, params))
    world.change(customer, **changes(customer, params, *_PLAIN, *_TAXED))
    world.emit("customer.created", customer)
    if method is not None:
        attach(world, method, customer["id"])
    for datum in params.get("tax_id_data", []):
        _add_tax_id(world, customer, datum)
    return customer


def new_customer(world: World, **values: Any) -> Json:
    """A customer with nothing but what is given; tells nobody."""
    defaults: Json = {
        "balance": 0,
        "delinquent": False,
        "invoice_prefix": new_token(8).upper(),
        "invoice_settings": {},
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
    }
    clock = world.books.find(values.get("test_clock") or "")
    return world.books.add("customer", clock["frozen_time"] if clock else world.now(), **(defaults | values))


def _clock_in(world: World, params: Json) -> str | None:
    if "test_clock" not in params:
        return None
    return str(world.books.referred("test_helpers.test_clock", params, "test_clock")["id"])


@family.get("/v1/customers", CustomerListParams)
def list_customers(world: World, call: Call) -> Json:
    return page_of(world, call, "customer", "email", "test_clock")


@family.get("/v1/customers/{id}", CustomerRetrieveParams)
def retrieve_customer(world: World, call: Call) -> Json:
    return world.books.facts[call["id"]].get("deleted") or world.books.get("customer", call["id"])


@family.post("/v1/customers/{id}", CustomerUpdateParams)
def update_customer(world: World, call: Call) -> Json:
    customer = world.books.get("customer", call["id"])
    settings = call.params.get("invoice_settings") or {}
    if settings.get("default_payment_method"):
        _refuse_strangers_method(world, settings["default_payment_method"], customer["id"])
    changed = changes(customer, call.params, *_PLAIN, *_TAXED)
    world.change(customer, "customer.updated" if changed else None, **changed)
    return customer


def _refuse_strangers_method(world: World, method: str, customer: str) -> None:
    if world.books.get("payment_method", method)["customer"] != customer:
        message = "The customer does not have a payment method with the ID " + method
        raise refused(message, param="invoice_settings[default_payment_method]", code="resource_missing")


@family.delete("/v1/customers/{id}", CustomerDeleteParams)
def delete_customer(world: World, call: Call) -> Json:
    customer = world.books.get("customer", call["id"])
    world.emit("customer.deleted", customer)
    for method in world.books.oldest_first("payment_method", customer=customer["id"]):
        world.change(method, customer=None)
    world.books.remove("customer", customer["id"])
    world.books.facts[customer["id"]]["deleted"] = deleted(customer)
    return deleted(customer)


@family.get("/v1/customers/{customer}/payment_methods", CustomerPaymentMethodListParams)
def list_customers_methods(world: World, call: Call) -> Json:
    world.books.get("customer", call["customer"], "customer")
    return page_of(world, call, "payment_method", "type", customer=call["customer"])


@family.post("/v1/customers/{customer}/tax_ids", CustomerTaxIdCreateParams)
def create_tax_id(world: World, call: Call) -> Json:
    customer = world.books.get("customer", call["customer"], "customer")
    return _add_tax_id(world, customer, {"type": call.params["type"], "value": call.params["value"]})


def _add_tax_id(world: World, customer: Json, datum: Json) -> Json:
    tax_id = world.add(
        "tax_id",
        customer=customer["id"],
        owner={"type": "customer", "customer": customer["id"]},
        type=datum["type"],
        value=datum["value"],
        country=datum["value"][:2] if datum["type"] == "eu_vat" else None,
        verification={"status": "pending"},
    )
    world.emit("customer.tax_id.created", tax_id)
    return tax_id


@family.get("/v1/customers/{customer}/tax_ids", CustomerTaxIdListParams)
def list_tax_ids(world: World, call: Call) -> Json:
    world.books.get("customer", call["customer"], "customer")
    return page_of(world, call, "tax_id", customer=call["customer"])


@family.get("/v1/customers/{customer}/tax_ids/{id}", CustomerTaxIdRetrieveParams)
def retrieve_tax_id(world: World, call: Call) -> Json:
    return _tax_id_of(world, call)


@family.delete("/v1/customers/{customer}/tax_ids/{id}", CustomerTaxIdDeleteParams)
def delete_tax_id(world: World, call: Call) -> Json:
    tax_id = _tax_id_of(world, call)
    world.books.remove("tax_id", tax_id["id"])
    world.emit("customer.tax_id.deleted", tax_id)
    return deleted(tax_id)


def _tax_id_of(world: World, call: Call) -> Json:
    tax_id = world.books.get("tax_id", call["id"])
    if tax_id["customer"] != call["customer"]:
        raise missing("tax id", call["id"])
    return tax_id


@family.post("/v1/customers/{customer}/balance_transactions", CustomerBalanceTransactionCreateParams)
def adjust_balance(world: World, call: Call) -> Json:
    params, customer = call.params, world.books.get("customer", call["customer"], "customer")
    balance = customer["balance"] + params["amount"]
    line = world.add(
        "customer_balance_transaction",
        customer=customer["id"],
        amount=params["amount"],
        currency=params["currency"].lower(),
        description=params.get("description"),
        ending_balance=balance,
        metadata=params.get("metadata") or {},
        type="adjustment",
    )
    world.change(customer, "customer.updated", balance=balance)
    return line


@family.get("/v1/customers/{customer}/balance_transactions", CustomerBalanceTransactionListParams)
def list_balance(world: World, call: Call) -> Json:
    world.books.get("customer", call["customer"], "customer")
    return page_of(world, call, "customer_balance_transaction", "invoice", customer=call["customer"])


@family.included("customer", "tax_ids")
def tax_ids(world: World, customer: Json) -> Json:
    rows = world.books.oldest_first("tax_id", customer=customer["id"])
    return listed(rows, f"/v1/customers/{customer['id']}/tax_ids")


@family.included("customer", "subscriptions")
def subscriptions(world: World, customer: Json) -> Json:
    rows = world.books.oldest_first("subscription", customer=customer["id"])
    return listed(rows, f"/v1/customers/{customer['id']}/subscriptions")

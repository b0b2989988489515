"""Credit grants: amounts that metered usage draws on before it is paid for."""

from typing import Any

import stripe
from stripe.params.billing import (
    CreditBalanceSummaryRetrieveParams,
    CreditGrantCreateParams,
    CreditGrantExpireParams,
    CreditGrantListParams,
    CreditGrantRetrieveParams,
    CreditGrantUpdateParams,
    CreditGrantVoidGrantParams,
)

from tests.stripe_server.wire.answers import page_of
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.shapes import complete
from tests.stripe_server.world.world import World

family = Family()

_KIND, _PATH = "billing.credit_grant", "/v1/billing/credit_grants"
_MIDDLE_PRIORITY = 50


@family.post(_PATH, CreditGrantCreateParams)
def create_grant(world: World, call: Call) -> Json:
    params = call.params
    if "customer" not in params:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = world.books.referred("customer", params, "customer")
    now = world.now(customer["id"])
    grant = world.add(
        _KIND,
        customer=customer["id"],
        amount=params["amount"],
        applicability_config=params["applicability_config"],
        category=params.get("category", "paid"),
        effective_at=params.get("effective_at", now),
        expires_at=params.get("expires_at"),
        metadata=params.get("metadata", {}),
        name=params.get("name"),
        priority=params.get("priority", _MIDDLE_PRIORITY),
        test_clock=customer["test_clock"],
        updated=now,
    )
    world.emit("billing.credit_grant.created", grant)
    return grant


@family.get(_PATH, CreditGrantListParams)
def list_grants(world: World, call: Call) -> Json:
    return page_of(world, call, _KIND, "customer")


@family.get(_PATH + "/{id}", CreditGrantRetrieveParams)
def retrieve_grant(world: World, call: Call) -> Json:
    return world.books.get(_KIND, call["id"])


@family.post(_PATH + "/{id}", CreditGrantUpdateParams)
def update_grant(world: World, call: Call) -> Json:
    grant = world.books.get(_KIND, call["id"])
    return _changed(world, grant, **changes(grant, call.params, "expires_at", "metadata"))


@family.post(_PATH + "/{id}/expire", CreditGrantExpireParams)
def expire_grant(world: World, call: Call) -> Json:
    grant = world.books.get(_KIND, call["id"])
    return _changed(world, grant, expires_at=world.now(grant["customer"]))


@family.post(_PATH + "/{id}/void", CreditGrantVoidGrantParams)
def void_grant(world: World, call: Call) -> Json:
    grant = world.books.get(_KIND, call["id"])
    if grant["voided_at"] is not None:
        raise refused("This credit grant is void already.")
    return _changed(world, grant, voided_at=world.now(grant["customer"]))


def _changed(world: World, grant: Json, **changed: Any) -> Json:
    now = world.now(grant["customer"])
    world.change(grant, "billing.credit_grant.updated", updated=now, **changed)
    return grant


@family.get("/v1/billing/credit_balance_summary", CreditBalanceSummaryRetrieveParams)
def retrieve_summary(world: World, call: Call) -> Json:
    """What the customer's grants hold. Nothing here draws on them."""
    customer = world.books.referred("customer", call.params, "customer")
    wanted = call.params["filter"].get("credit_grant")
    now = world.now(customer["id"])
    sums: dict[str, int] = {}
    for grant in world.books.oldest_first(_KIND, customer=customer["id"]):
        money = grant["amount"]["monetary"]
        if wanted in (None, grant["id"]) and _holds(grant, now):
            sums[money["currency"]] = sums.get(money["currency"], 0) + money["value"]
    balances = [_balance(currency, value) for currency, value in sums.items()]
    values: Json = {
        "object": "billing.credit_balance_summary",
        "balances": balances,
        "customer": customer["id"],
        "livemode": False,
    }
    return complete(stripe.billing.CreditBalanceSummary, values)


def _holds(grant: Json, now: int) -> bool:
    begun = grant["effective_at"] <= now
    return begun and grant["voided_at"] is None and (grant["expires_at"] is None or grant["expires_at"] > now)


def _balance(currency: str, value: int) -> Json:
    amount = {"type": "monetary", "monetary": {"currency": currency, "value": value}}
    return {"available_balance": amount, "ledger_balance": amount}

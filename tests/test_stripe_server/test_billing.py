"""The portal, meters, credit grants, the catalogue."""

import time
from typing import Any, cast

import httpx
import pytest
import stripe
from stripe import StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer, types_of


def test_a_customer_changes_their_card_in_the_portal(client: StripeClient) -> None:
    customer = payer(client)
    old = cast(Any, customer.invoice_settings).default_payment_method
    session = client.v1.billing_portal.sessions.create(
        {"customer": customer.id, "return_url": "https://shop.example/billing"}
    )
    assert "Add a card" in httpx.get(session.url).text
    httpx.post(session.url, data={"action": "add", "card": "5555555555554444"})
    httpx.post(session.url, data={"action": "remove", "method": old})
    (kept,) = client.v1.customers.payment_methods.list(customer.id).data
    settings: Any = client.v1.customers.retrieve(customer.id).invoice_settings
    assert (cast(Any, kept.card).brand, settings.default_payment_method) == ("mastercard", kept.id)
    back = httpx.post(session.url, data={"action": "return"})
    assert back.headers["location"] == "https://shop.example/billing"
    assert types_of(client)[-2:] == ["customer.updated", "payment_method.detached"]


def test_a_portal_allows_what_it_is_configured_for(client: StripeClient) -> None:
    configuration = client.v1.billing_portal.configurations.create(
        {
            "features": {
                "payment_method_update": {"enabled": True},
                "invoice_history": {"enabled": True},
                "customer_update": {"enabled": True, "allowed_updates": ["tax_id", "address"]},
            },
            "default_return_url": "https://shop.example/billing",
        }
    )
    assert not configuration.features.subscription_cancel.enabled
    customer = client.v1.customers.create({})
    session = client.v1.billing_portal.sessions.create(
        {"customer": customer.id, "configuration": configuration.id}
    )
    assert session.return_url == "https://shop.example/billing"
    client.v1.billing_portal.configurations.update(configuration.id, {"active": False})
    assert client.v1.billing_portal.configurations.list({"active": True}).data == []
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.billing_portal.sessions.create({"customer": "cus_nobody"})


@pytest.fixture
def meter(client: StripeClient) -> stripe.billing.Meter:
    return client.v1.billing.meters.create(
        {
            "display_name": "Tokens",
            "event_name": "tokens",
            "default_aggregation": {"formula": "sum"},
        }
    )


def event(client: StripeClient, customer: str, value: str, **params: Any) -> stripe.billing.MeterEvent:
    payload = {"stripe_customer_id": customer, "value": value}
    given: Any = {"event_name": "tokens", "payload": payload, **params}
    return client.v1.billing.meter_events.create(given)


def test_usage_is_counted_once_for_each_identifier(client: StripeClient, meter: stripe.billing.Meter) -> None:
    customer = client.v1.customers.create({}).id
    now = int(time.time())
    event(client, customer, "30", identifier="row-1", timestamp=now - 60)
    event(client, customer, "12", identifier="row-2", timestamp=now - 60)
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        event(client, customer, "30", identifier="row-1")
    (summary,) = client.v1.billing.meters.event_summaries.list(
        meter.id, {"customer": customer, "start_time": now - 3600, "end_time": now}
    ).data
    assert summary.aggregated_value == 42


def test_identifiers_are_forgotten_after_a_day(
    client: StripeClient, stripe_server: StripeServer, meter: stripe.billing.Meter
) -> None:
    event(client, "cus_1", "1", identifier="row-1")
    stripe_server.control.advance(24 * 3600)
    event(client, "cus_1", "1", identifier="row-1")


@pytest.mark.parametrize("value", ["1.5", "many", ""])
def test_usage_is_a_whole_number(client: StripeClient, meter: stripe.billing.Meter, value: str) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        event(client, "cus_1", value)


@pytest.mark.parametrize("seconds", [-36 * 24 * 3600, 600])
def test_usage_is_neither_old_nor_to_come(
    client: StripeClient, meter: stripe.billing.Meter, seconds: int
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        event(client, "cus_1", "1", timestamp=int(time.time()) + seconds)
    assert refusal.value.param == "timestamp"


def test_usage_needs_a_meter_that_is_on(client: StripeClient, meter: stripe.billing.Meter) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.billing.meters.create(
            {"display_name": "x", "event_name": "tokens", "default_aggregation": {"formula": "count"}}
        )
    assert client.v1.billing.meters.deactivate(meter.id).status == "inactive"
    with pytest.raises(stripe.InvalidRequestError, match="No active meter"):
        event(client, "cus_1", "1")
    client.v1.billing.meters.reactivate(meter.id)
    event(client, "cus_1", "1")


def test_grants_add_up_until_they_are_over(client: StripeClient) -> None:
    customer = client.v1.customers.create({}).id
    grants = [
        client.v1.billing.credit_grants.create(
            {
                "customer": customer,
                "category": "paid",
                "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": value}},
                "applicability_config": {"scope": {"price_type": "metered"}},
            }
        )
        for value in (1000, 200, 30)
    ]
    client.v1.billing.credit_grants.void_grant(grants[1].id)
    client.v1.billing.credit_grants.expire(grants[2].id)
    whole: Any = {"customer": customer, "filter": {"type": "applicability_scope"}}
    summary: Any = client.v1.billing.credit_balance_summary.retrieve(whole)
    assert [balance.available_balance.monetary.value for balance in summary.balances] == [1000]
    assert types_of(client).count("billing.credit_grant.updated") == 2


def test_products_and_prices_are_kept(client: StripeClient) -> None:
    product = client.v1.products.create(
        {"name": "Plan", "default_price_data": {"currency": "usd", "unit_amount": 5}}
    )
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.products.delete(product.id)
    price = client.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount_decimal": cast(Any, "0.25"),
            "lookup_key": "a",
        }
    )
    assert (price.unit_amount, str(price.unit_amount_decimal), price.type) == (None, "0.25", "one_time")
    assert [one.id for one in client.v1.prices.list({"lookup_keys": ["a"]}).data] == [price.id]
    assert not client.v1.prices.update(price.id, {"active": False}).active
    changed = client.v1.products.update(product.id, {"description": "All of it"})
    assert (changed.description, changed.default_price) == ("All of it", product.default_price)

"""Subscriptions through their periods, on a test clock."""

from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest
import stripe
from stripe import StripeClient, Subscription

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer, types_of

DAY = 24 * 3600
HOUR = 3600


def instant(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


START = instant(2026, 1, 31)


class Clock:
    """A customer's own time, from the last of January 2026."""

    def __init__(self, client: StripeClient) -> None:
        self._client = client
        self.id = client.v1.test_helpers.test_clocks.create({"frozen_time": START}).id

    def to(self, time: int) -> None:
        self._client.v1.test_helpers.test_clocks.advance(self.id, {"frozen_time": time})


@pytest.fixture
def clock(client: StripeClient) -> Clock:
    return Clock(client)


@pytest.fixture
def plan(client: StripeClient) -> str:
    """Twenty dollars a month."""
    return price(client, 2000)


def price(client: StripeClient, amount: int, interval: Any = "month") -> str:
    product = client.v1.products.create({"name": "Plan"})
    made = client.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": amount,
            "recurring": {"interval": interval},
        }
    )
    return made.id


def subscribed(
    client: StripeClient, clock: Clock, plan: str, method: str = "pm_card_visa", **params: Any
) -> Subscription:
    customer = payer(client, method, test_clock=clock.id)
    given: Any = {"customer": customer.id, "items": [{"price": plan}], **params}
    return client.v1.subscriptions.create(given)


def item_of(subscription: Subscription) -> Any:
    (item,) = cast(Any, subscription)["items"].data
    return item


def bills(client: StripeClient, subscription: Subscription) -> list[stripe.Invoice]:
    """Oldest first."""
    return client.v1.invoices.list({"subscription": subscription.id}).data[::-1]


def test_a_subscription_is_paid_at_its_start(client: StripeClient, clock: Clock, plan: str) -> None:
    made = subscribed(client, clock, plan, metadata={"org": "1"}, expand=["latest_invoice.payments"])
    assert (made.status, made.start_date, made.metadata["org"]) == ("active", START, "1")
    item = item_of(made)
    assert (item.current_period_start, item.current_period_end) == (START, instant(2026, 2, 28))
    invoice = cast(Any, made.latest_invoice)
    assert (invoice.status, invoice.total, invoice.billing_reason) == ("paid", 2000, "subscription_create")
    assert invoice.parent.subscription_details.subscription == made.id
    assert len(invoice.payments.data) == 1
    told = [name for name in types_of(client) if name.startswith("customer.subscription")]
    assert told == ["customer.subscription.created", "customer.subscription.updated"]


def test_each_period_has_its_bill_an_hour_later(client: StripeClient, clock: Clock, plan: str) -> None:
    made = subscribed(client, clock, plan)
    clock.to(instant(2026, 2, 28))
    first, second = bills(client, made)
    assert (second.status, second.billing_reason) == ("draft", "subscription_cycle")
    clock.to(instant(2026, 2, 28, 2))
    assert bills(client, made)[1].status == "paid"
    clock.to(instant(2026, 5, 1))
    item = item_of(client.v1.subscriptions.retrieve(made.id))
    assert (item.current_period_start, item.current_period_end) == (
        instant(2026, 4, 30),
        instant(2026, 5, 31),
    )
    periods = [bill.lines.data[0].period for bill in bills(client, made)]
    assert [period.start for period in periods] == [
        START,
        instant(2026, 2, 28),
        instant(2026, 3, 31),
        instant(2026, 4, 30),
    ]
    assert [period.end for period in periods[:-1]] == [period.start for period in periods[1:]]


def test_who_does_not_pay_falls_behind_and_recovers(
    client: StripeClient, stripe_server: StripeServer, clock: Clock, plan: str
) -> None:
    made = subscribed(client, clock, plan)
    stripe_server.control.decline()
    clock.to(instant(2026, 2, 28, 2))
    assert client.v1.subscriptions.retrieve(made.id).status == "past_due"
    clock.to(instant(2026, 3, 4))
    assert client.v1.subscriptions.retrieve(made.id).status == "active"
    assert [bill.attempt_count for bill in bills(client, made)] == [1, 2]


def test_who_never_pays_loses_it(
    client: StripeClient, stripe_server: StripeServer, clock: Clock, plan: str
) -> None:
    made = subscribed(client, clock, plan)
    stripe_server.control.decline(times=4)
    clock.to(instant(2026, 3, 25))
    lost = client.v1.subscriptions.retrieve(made.id)
    assert (lost.status, cast(Any, lost.cancellation_details).reason) == ("canceled", "payment_failed")
    assert types_of(client).count("invoice.payment_failed") == 4


def test_a_first_payment_that_fails_leaves_it_incomplete_for_a_day(
    client: StripeClient, clock: Clock, plan: str
) -> None:
    made = subscribed(client, clock, plan, "pm_card_chargeCustomerFail")
    assert made.status == "incomplete"
    clock.to(START + DAY)
    assert client.v1.subscriptions.retrieve(made.id).status == "incomplete_expired"
    assert bills(client, made)[0].status == "void"


def test_a_first_payment_can_be_insisted_on(client: StripeClient, clock: Clock, plan: str) -> None:
    with pytest.raises(stripe.CardError):
        subscribed(client, clock, plan, "pm_card_chargeCustomerFail", payment_behavior="error_if_incomplete")
    assert client.v1.subscriptions.list({"status": "all"}).data == []
    assert not [name for name in types_of(client) if name.startswith(("customer.subscription", "invoice"))]


def test_a_first_payment_can_be_left_to_the_payer(client: StripeClient, clock: Clock, plan: str) -> None:
    made = subscribed(client, clock, plan, payment_behavior="default_incomplete")
    assert made.status == "incomplete"
    client.v1.invoices.pay(cast(str, made.latest_invoice))
    assert client.v1.subscriptions.retrieve(made.id).status == "active"


def test_nobody_can_be_charged_without_a_method(client: StripeClient, plan: str) -> None:
    customer = client.v1.customers.create({})
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": plan}]})
    assert refusal.value.code == "resource_missing"
    invoiced = client.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": plan}],
            "collection_method": "send_invoice",
            "days_until_due": 14,
        }
    )
    assert invoiced.status == "active"


def test_it_ends_with_its_period_or_at_once(client: StripeClient, clock: Clock, plan: str) -> None:
    later, now = subscribed(client, clock, plan), subscribed(client, clock, plan)
    marked = client.v1.subscriptions.update(later.id, {"cancel_at_period_end": True})
    assert (marked.status, marked.cancel_at) == ("active", instant(2026, 2, 28))
    ended = client.v1.subscriptions.cancel(now.id, {"cancellation_details": {"comment": "Enough"}})
    assert (ended.status, ended.ended_at) == ("canceled", START)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.subscriptions.cancel(now.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.subscriptions.update(now.id, {"cancel_at_period_end": True})
    clock.to(instant(2026, 3, 15))
    over = client.v1.subscriptions.retrieve(later.id)
    assert (over.status, over.ended_at) == ("canceled", instant(2026, 2, 28))
    assert len(bills(client, later)) == 1
    assert types_of(client).count("customer.subscription.deleted") == 2


def test_an_end_can_be_taken_back(client: StripeClient, clock: Clock, plan: str) -> None:
    made = subscribed(client, clock, plan)
    client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    kept = client.v1.subscriptions.update(made.id, {"cancel_at_period_end": False})
    assert (kept.cancel_at, kept.canceled_at) == (None, None)
    clock.to(instant(2026, 3, 1))
    assert client.v1.subscriptions.retrieve(made.id).status == "active"


def test_a_dearer_plan_is_made_up_for_with_the_next_bill(
    client: StripeClient, clock: Clock, plan: str
) -> None:
    made = subscribed(client, clock, plan)
    clock.to(START + 14 * DAY)
    dear = price(client, 5000)
    changed = client.v1.subscriptions.update(made.id, {"items": [{"id": item_of(made).id, "price": dear}]})
    assert item_of(changed).price.id == dear
    pending = client.v1.invoice_items.list({"pending": True}).data
    assert sorted(item.amount for item in pending) == [-1000, 2500]
    clock.to(instant(2026, 2, 28, 2))
    assert bills(client, made)[1].total == 5000 + 1500


def test_a_change_can_be_billed_at_once_or_not_made_up_for(
    client: StripeClient, clock: Clock, plan: str
) -> None:
    made, dear = subscribed(client, clock, plan), price(client, 5000)
    clock.to(START + 14 * DAY)
    items: Any = [{"id": item_of(made).id, "price": dear}]
    client.v1.subscriptions.update(made.id, {"items": items, "proration_behavior": "always_invoice"})
    latest = bills(client, made)[-1]
    assert (latest.status, latest.total, latest.billing_reason) == ("paid", 1500, "subscription_update")
    back: Any = [{"id": item_of(made).id, "price": plan}]
    client.v1.subscriptions.update(made.id, {"items": back, "proration_behavior": "none"})
    assert client.v1.invoice_items.list({"pending": True}).data == []


def test_another_interval_begins_at_once(client: StripeClient, clock: Clock, plan: str) -> None:
    made, yearly = subscribed(client, clock, plan), price(client, 20000, "year")
    clock.to(START + 14 * DAY)
    items: Any = [{"id": item_of(made).id, "price": yearly}]
    changed = client.v1.subscriptions.update(made.id, {"items": items})
    assert item_of(changed).current_period_start == START + 14 * DAY
    assert bills(client, made)[-1].total == 20000 - 1000


def test_a_trial_is_free_and_told_of_before_it_ends(client: StripeClient, clock: Clock, plan: str) -> None:
    made = subscribed(client, clock, plan, trial_period_days=14)
    assert (made.status, made.trial_end) == ("trialing", START + 14 * DAY)
    assert bills(client, made)[0].total == 0
    clock.to(START + 12 * DAY)
    assert types_of(client).count("customer.subscription.trial_will_end") == 1
    clock.to(START + 14 * DAY + 2 * HOUR)
    assert client.v1.subscriptions.retrieve(made.id).status == "active"
    assert (bills(client, made)[1].status, bills(client, made)[1].total) == ("paid", 2000)


def test_a_trial_without_a_method_can_pause(client: StripeClient, clock: Clock, plan: str) -> None:
    customer = client.v1.customers.create({"test_clock": clock.id})
    made = client.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": plan}],
            "trial_period_days": 7,
            "trial_settings": {"end_behavior": {"missing_payment_method": "pause"}},
        }
    )
    clock.to(START + 8 * DAY)
    assert client.v1.subscriptions.retrieve(made.id).status == "paused"
    kept = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id}).id
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": kept}})
    assert client.v1.subscriptions.resume(made.id).status == "active"
    told = types_of(client)
    assert {"customer.subscription.paused", "customer.subscription.resumed"} <= set(told)


def test_items_have_quantities(client: StripeClient, clock: Clock, plan: str) -> None:
    customer = payer(client, test_clock=clock.id)
    made = client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": plan, "quantity": 3}]}
    )
    assert bills(client, made)[0].total == 6000
    client.v1.subscription_items.update(item_of(made).id, {"quantity": 1, "proration_behavior": "none"})
    assert client.v1.subscription_items.list({"subscription": made.id}).data[0].quantity == 1
    found = client.v1.subscriptions.list({"customer": customer.id, "price": plan}).data
    assert [one.id for one in found] == [made.id]


def test_a_subscription_can_be_bought_at_checkout(client: StripeClient, plan: str) -> None:
    customer = client.v1.customers.create({})
    session = client.v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer.id,
            "line_items": [{"price": plan, "quantity": 1}],
            "subscription_data": {"metadata": {"org": "1"}},
            "success_url": "https://shop.example/",
        }
    )
    assert session.amount_total == 2000
    assert httpx.post(str(session.url), data={"action": "decline"}).status_code == 402
    assert client.v1.subscriptions.list({"status": "all"}).data == []
    httpx.post(str(session.url), data={"action": "pay"})
    bought: Any = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription", "invoice"]})
    assert (bought.status, bought.payment_status, bought.payment_intent) == ("complete", "paid", None)
    assert (bought.subscription.status, bought.subscription.metadata["org"]) == ("active", "1")
    assert bought.invoice.status == "paid"
    assert types_of(client)[-1] == "checkout.session.completed"


def test_a_clock_goes_forward_only_and_takes_its_customers_along(client: StripeClient, clock: Clock) -> None:
    customer = client.v1.customers.create({"test_clock": clock.id})
    assert customer.created == START
    with pytest.raises(stripe.InvalidRequestError):
        clock.to(START)
    client.v1.test_helpers.test_clocks.delete(clock.id)
    assert cast(Any, client.v1.customers.retrieve(customer.id)).deleted


def test_it_ends_with_its_customer(client: StripeClient, clock: Clock, plan: str) -> None:
    made = subscribed(client, clock, plan)
    client.v1.customers.delete(cast(str, made.customer))
    assert client.v1.subscriptions.retrieve(made.id).status == "canceled"
    clock.to(START + 90 * DAY)
    assert len(bills(client, made)) == 1


def test_without_a_clock_the_servers_own_time_renews(
    client: StripeClient, stripe_server: StripeServer, plan: str
) -> None:
    customer = payer(client)
    made = client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": plan}]})
    stripe_server.control.advance(32 * DAY)
    assert [bill.status for bill in bills(client, made)] == ["paid", "paid"]

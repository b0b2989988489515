"""Invoices from their items to the end they come to."""

from typing import Any, cast

import httpx
import pytest
import stripe
from stripe import Invoice, StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer, types_of

DAY = 24 * 3600


def draft(client: StripeClient, customer: stripe.Customer, *amounts: int, **params: Any) -> Invoice:
    """An invoice with an item for each amount, still open to change."""
    given: Any = {"customer": customer.id, "auto_advance": False, "metadata": {"bill": "1"}, **params}
    invoice = client.v1.invoices.create(given)
    for amount in amounts:
        client.v1.invoice_items.create(
            {"customer": customer.id, "invoice": invoice.id, "amount": amount, "currency": "usd"}
        )
    return client.v1.invoices.retrieve(invoice.id)


def opened(client: StripeClient, customer: stripe.Customer, *amounts: int, **params: Any) -> Invoice:
    return client.v1.invoices.finalize_invoice(draft(client, customer, *amounts, **params).id)


def test_a_draft_counts_what_is_put_on_it(client: StripeClient) -> None:
    customer = payer(client)
    invoice = draft(client, customer, 1000, 250)
    assert (invoice.status, invoice.total, invoice.amount_due, invoice.number) == ("draft", 1250, 1250, None)
    first = client.v1.invoice_items.list({"invoice": invoice.id}).data[-1]
    client.v1.invoice_items.update(first.id, {"amount": 500, "description": "Tokens"})
    assert client.v1.invoices.retrieve(invoice.id).total == 750
    client.v1.invoice_items.delete(first.id)
    assert client.v1.invoices.retrieve(invoice.id).total == 250
    client.v1.invoices.delete(invoice.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.retrieve(invoice.id)


def test_items_wait_for_an_invoice_that_takes_them_in(client: StripeClient) -> None:
    customer = payer(client)
    client.v1.invoice_items.create(
        {"customer": customer.id, "currency": "usd", "quantity": 3, "unit_amount_decimal": cast(Any, "33.5")}
    )
    apart = client.v1.invoices.create({"customer": customer.id})
    assert apart.total == 0
    invoice = client.v1.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    assert invoice.total == 100
    assert client.v1.invoice_items.list({"pending": True}).data == []


def test_an_invoice_is_opened_and_paid_off_session(client: StripeClient) -> None:
    invoice = opened(client, payer(client), 2000)
    assert (invoice.status, invoice.amount_remaining) == ("open", 2000)
    assert str(invoice.number).endswith("-0001")
    assert httpx.get(str(invoice.hosted_invoice_url)).status_code == 200
    paid = client.v1.invoices.pay(invoice.id, {"off_session": True, "expand": ["payments"]})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 2000, 0)
    (payment,) = cast(Any, paid.payments).data
    assert (payment.status, payment.amount_paid) == ("paid", 2000)
    intent = client.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.status, intent.amount) == ("succeeded", 2000)
    assert types_of(client)[-6:] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        client.v1.invoices.pay(invoice.id)


def test_what_is_opened_can_no_longer_be_changed(client: StripeClient) -> None:
    customer = payer(client)
    invoice = opened(client, customer, 2000)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.invoice_items.create(
            {"customer": customer.id, "invoice": invoice.id, "amount": 1, "currency": "usd"}
        )
    assert refusal.value.code == "invoice_not_editable"
    assert client.v1.invoice_items.list({"pending": True}).data == []
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.update(invoice.id, {"description": "x"})
    assert client.v1.invoices.update(invoice.id, {"metadata": {"b": "2"}}).metadata is not None
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.delete(invoice.id)


def test_an_invoice_that_is_declined_stays_open(client: StripeClient) -> None:
    invoice = opened(client, payer(client, "pm_card_chargeCustomerFail"), 2000)
    with pytest.raises(stripe.CardError) as refusal:
        client.v1.invoices.pay(invoice.id, {"off_session": True})
    assert refusal.value.code == "card_declined"
    after = client.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.attempted, after.attempt_count) == ("open", True, 1)
    assert types_of(client)[-1] == "invoice.payment_failed"


def test_a_bank_that_asks_leaves_the_hosted_page_to_its_customer(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    customer = payer(client)
    invoice = opened(client, customer, 2000)
    stripe_server.control.require_authentication(off_session_only=True)
    with pytest.raises(stripe.CardError) as refusal:
        client.v1.invoices.pay(invoice.id, {"off_session": True})
    assert refusal.value.code == "invoice_payment_intent_requires_action"
    assert "invoice.payment_action_required" in types_of(client)
    waiting = client.v1.invoices.retrieve(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
    assert waiting.status == "open"
    assert cast(Any, waiting.payments).data[0].payment.payment_intent.status == "requires_action"
    httpx.post(str(waiting.hosted_invoice_url), data={"action": "pay"})
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_an_invoice_without_a_method_cannot_be_paid(client: StripeClient) -> None:
    customer = client.v1.customers.create({})
    invoice = opened(client, customer, 2000)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.invoices.pay(invoice.id)
    assert refusal.value.code == "invoice_no_payment_method"
    assert client.v1.invoices.pay(invoice.id, {"paid_out_of_band": True}).status == "paid"


def test_an_invoice_can_be_given_up_or_void(client: StripeClient) -> None:
    customer = payer(client)
    given_up, void = opened(client, customer, 2000), opened(client, customer, 3000)
    assert client.v1.invoices.mark_uncollectible(given_up.id).status == "uncollectible"
    assert client.v1.invoices.void_invoice(void.id).status == "void"
    for action in (client.v1.invoices.void_invoice, client.v1.invoices.mark_uncollectible):
        with pytest.raises(stripe.InvalidRequestError):
            action(void.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.pay(void.id)
    assert client.v1.invoices.pay(given_up.id).status == "paid"
    (payment,) = client.v1.invoice_payments.list({"invoice": void.id}).data
    assert payment.status == "canceled"
    told = client.v2.core.events.list({"object_id": payment.id}).data
    assert [event.type for event in told] == ["v1.invoice_payment.canceled"]
    assert {"invoice.voided", "invoice.marked_uncollectible"} <= set(types_of(client))


def test_nothing_due_is_paid_at_once_and_too_little_waits(client: StripeClient) -> None:
    customer = payer(client)
    assert opened(client, customer).status == "paid"
    small = opened(client, customer, 30)
    assert (small.status, small.amount_due, small.ending_balance) == ("paid", 0, 30)
    assert client.v1.customers.retrieve(customer.id).balance == 30
    assert opened(client, customer, 1000).amount_due == 1030


def test_credit_on_a_customers_balance_lowers_the_next_invoice(client: StripeClient) -> None:
    customer = payer(client)
    client.v1.customers.balance_transactions.create(customer.id, {"amount": -1500, "currency": "usd"})
    invoice = opened(client, customer, 1000)
    assert (invoice.status, invoice.amount_due, invoice.ending_balance) == ("paid", 0, -500)
    listed = client.v1.customers.balance_transactions.list(customer.id).data
    assert [(line.type, line.amount) for line in listed] == [
        ("applied_to_invoice", 1000),
        ("adjustment", -1500),
    ]


def test_tax_is_put_on_each_line(client: StripeClient, stripe_server: StripeServer) -> None:
    stripe_server.control.set_tax_rate("0.2")
    customer = payer(client, address={"country": "GB"})
    invoice = opened(client, customer, 1000, 500, automatic_tax={"enabled": True})
    assert (invoice.subtotal, invoice.total, invoice.amount_due) == (1500, 1800, 1800)
    assert invoice.automatic_tax.status == "complete"
    assert [line.taxes[0].amount for line in invoice.lines.data if line.taxes] == [200, 100]
    assert [tax.amount for tax in invoice.total_taxes or []] == [300]


def test_goods_have_tax_codes_and_one_rate(client: StripeClient) -> None:
    customer = payer(client, address={"country": "GB"})
    invoice = draft(client, customer, automatic_tax={"enabled": True})
    client.v1.invoice_items.create(
        {
            "customer": customer.id,
            "invoice": invoice.id,
            "amount": 1000,
            "currency": "usd",
            "tax_behavior": "exclusive",
            "tax_code": "txcd_10103001",
        }
    )
    assert client.v1.invoices.retrieve(invoice.id).total == 1100


def test_tax_without_a_place_lets_nothing_be_opened(client: StripeClient) -> None:
    invoice = draft(client, payer(client), 1000, automatic_tax={"enabled": True})
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.invoices.finalize_invoice(invoice.id)
    assert refusal.value.code == "customer_tax_location_invalid"
    after = client.v1.invoices.retrieve(invoice.id)
    assert (after.status, cast(Any, after.last_finalization_error).code) == ("draft", refusal.value.code)
    assert types_of(client)[-1] == "invoice.finalization_failed"


def test_an_invoice_that_is_sent_falls_due(client: StripeClient, stripe_server: StripeServer) -> None:
    customer = client.v1.customers.create({})
    invoice = draft(client, customer, 1000, collection_method="send_invoice", days_until_due=14)
    sent = client.v1.invoices.send_invoice(invoice.id)
    assert (sent.status, sent.due_date) == ("open", invoice.created + 14 * DAY)
    stripe_server.control.advance(15 * DAY)
    assert types_of(client)[-2:] == ["invoice.sent", "invoice.overdue"]
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.create({"customer": customer.id, "collection_method": "send_invoice"})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.create({"customer": customer.id, "days_until_due": 14})


def test_an_invoice_that_advances_is_paid_after_an_hour_and_tried_again(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    good = draft(client, payer(client), 1000, auto_advance=True)
    bad = draft(client, payer(client, "pm_card_chargeCustomerFail"), 1000, auto_advance=True)
    stripe_server.control.advance(3601)
    assert client.v1.invoices.retrieve(good.id).status == "paid"
    tried = client.v1.invoices.retrieve(bad.id)
    assert (tried.status, tried.attempt_count) == ("open", 1)
    assert tried.next_payment_attempt is not None
    stripe_server.control.advance(3 * DAY)
    assert client.v1.invoices.retrieve(bad.id).attempt_count == 2


def test_nothing_is_collected_from_who_is_gone(client: StripeClient, stripe_server: StripeServer) -> None:
    customer = payer(client, "pm_card_chargeCustomerFail")
    tried = draft(client, customer, 1000, auto_advance=True)
    stripe_server.control.advance(3601)
    waiting = draft(client, customer, 1000, auto_advance=True)
    client.v1.customers.delete(customer.id)
    stripe_server.control.advance(10 * DAY)
    assert client.v1.invoices.retrieve(tried.id).attempt_count == 1
    assert client.v1.invoices.retrieve(waiting.id).status == "draft"


def test_long_invoices_show_their_first_lines_and_list_the_others(client: StripeClient) -> None:
    invoice = draft(client, payer(client), *([100] * 12))
    assert (len(invoice.lines.data), invoice.lines.has_more, invoice.total) == (10, True, 1200)
    assert len(list(client.v1.invoices.line_items.list(invoice.id, {"limit": 5}).auto_paging_iter())) == 12


@pytest.mark.parametrize(
    "params",
    [
        {"currency": "usd"},
        {"amount": 100},
        {"amount": 100, "currency": "usd", "quantity": 2},
        {"amount": 1.5, "currency": "usd"},
        {"amount": 100, "currency": "usd", "price": "price_1"},
    ],
)
def test_an_item_says_what_it_costs_in_one_way(client: StripeClient, params: Any) -> None:
    customer = client.v1.customers.create({})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoice_items.create(cast(Any, {"customer": customer.id, **params}))

"""Checkout sessions from their making to the page that ends them."""

from typing import Any, cast

import httpx
import pytest
import stripe
from stripe import StripeClient

from tests.stripe_server.server import StripeServer
from tests.stripe_server.wire.errors import StripeError
from tests.test_stripe_server.orders import CANCEL, line, payer, top_up, types_of


def press(url: str, **fields: str) -> httpx.Response:
    return httpx.post(url, data=fields)


def session_of(client: StripeClient, identifier: str, *expand: str) -> Any:
    return client.v1.checkout.sessions.retrieve(identifier, {"expand": list(expand)})


def test_a_session_waits_unpaid_with_a_page(client: StripeClient) -> None:
    session = top_up(client, client_reference_id="order-1", metadata={"order": "1"})
    assert session.id.startswith("cs_test_")
    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    assert (session.amount_subtotal, session.amount_total, session.currency) == (5000, 5000, "usd")
    page = httpx.get(str(session.url))
    assert page.status_code == 200
    assert "5000 usd" in page.text


def test_who_pays_is_sent_on_to_the_success_url(client: StripeClient) -> None:
    session = top_up(client)
    answer = press(str(session.url), action="pay")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"https://shop.example/paid?session={session.id}"
    paid = session_of(client, session.id, "payment_intent.latest_charge.balance_transaction")
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    charge = paid.payment_intent.latest_charge
    assert (charge.amount, charge.balance_transaction.fee) == (5000, 175)
    assert types_of(client) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    assert press(str(session.url or f"{answer.url}"), action="pay").status_code == 400


def test_who_is_declined_stays_and_may_try_again(client: StripeClient) -> None:
    session = top_up(client)
    declined = press(str(session.url), action="decline")
    assert declined.status_code == 402
    assert "Your card was declined" in declined.text
    after = session_of(client, session.id)
    assert (after.status, after.payment_status) == ("open", "unpaid")
    press(str(session.url), action="pay")
    assert session_of(client, session.id).payment_intent == after.payment_intent
    assert types_of(client).count("payment_intent.created") == 1
    assert types_of(client).count("payment_intent.payment_failed") == 1


def test_who_goes_back_leaves_it_open(client: StripeClient) -> None:
    session = top_up(client)
    assert press(str(session.url), action="abandon").headers["location"] == CANCEL
    assert session_of(client, session.id).status == "open"


@pytest.mark.parametrize("said", ["bank_pays", "bank_refuses"])
def test_a_bank_may_answer_days_later(client: StripeClient, said: str) -> None:
    session = top_up(client)
    press(str(session.url), action="pay", method="us_bank_account")
    waiting = session_of(client, session.id)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    assert types_of(client)[-1] == "checkout.session.completed"
    page = f"{str(session.url)}"
    press(page, action=said)
    after = session_of(client, session.id)
    paid = said == "bank_pays"
    assert after.payment_status == ("paid" if paid else "unpaid")
    last = "async_payment_succeeded" if paid else "async_payment_failed"
    assert types_of(client)[-1] == f"checkout.session.{last}"


@pytest.mark.parametrize("method", ["alipay", "wechat_pay"])
def test_other_methods_pay_at_once(client: StripeClient, method: str) -> None:
    session = top_up(client)
    press(str(session.url), action="pay", method=method)
    paid = session_of(client, session.id, "payment_intent.payment_method")
    assert paid.payment_status == "paid"
    assert paid.payment_intent.payment_method.type == method


def test_who_must_authenticate_does_so_on_the_banks_page(client: StripeClient) -> None:
    session = top_up(client)
    bank = press(str(session.url), action="pay", card="4000002760003184").headers["location"]
    assert session_of(client, session.id).status == "open"
    assert "Agree" in httpx.get(bank).text
    back = press(bank, action="agree")
    assert back.headers["location"].endswith(session.id)
    assert session_of(client, session.id).payment_status == "paid"


def test_a_session_expires_after_a_day_or_when_told_to(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    told, left = top_up(client), top_up(client)
    assert client.v1.checkout.sessions.expire(told.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.checkout.sessions.expire(told.id)
    assert session_of(client, left.id).status == "open"
    stripe_server.control.advance(24 * 3600 + 1)
    assert session_of(client, left.id).status == "expired"
    assert types_of(client) == ["checkout.session.expired"] * 2
    assert press(f"{stripe_server.url}/c/pay/{left.id}", action="pay").status_code == 400


def test_tax_comes_on_top_once_it_is_known_where_to(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    stripe_server.control.set_tax_rate("0.19")
    session = top_up(client, automatic_tax={"enabled": True})
    assert (session.amount_total, session.automatic_tax.status) == (5000, "requires_location_inputs")
    press(str(session.url), action="pay")
    paid = session_of(client, session.id, "line_items")
    assert (paid.amount_subtotal, paid.amount_total, paid.total_details.amount_tax) == (5000, 5950, 950)
    assert paid.line_items.data[0].amount_tax == 950
    located = client.v1.customers.create({"address": {"country": "DE", "postal_code": "10115"}})
    known = top_up(client, automatic_tax={"enabled": True}, customer=located.id)
    assert (known.amount_subtotal, known.amount_total) == (5000, 5950)


def test_tax_for_a_customer_from_nowhere_needs_leave_to_save_the_address(client: StripeClient) -> None:
    customer = client.v1.customers.create({})
    params: Any = {"automatic_tax": {"enabled": True}, "customer": customer.id}
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        top_up(client, **params)
    assert refusal.value.code == "customer_tax_location_invalid"
    session = top_up(client, **params, customer_update={"address": "auto"})
    press(str(session.url), action="pay")
    address = client.v1.customers.retrieve(customer.id).address
    assert address is not None
    assert address.country == "US"


def test_who_agrees_to_it_is_kept_for_later_payments(client: StripeClient) -> None:
    customer = client.v1.customers.create({})
    session = top_up(
        client,
        customer=customer.id,
        payment_intent_data={"setup_future_usage": "off_session", "metadata": {"order": "1"}},
        consent_collection={"payment_method_reuse_agreement": {"position": "auto"}},
    )
    press(str(session.url), action="pay")
    intent = session_of(client, session.id, "payment_intent").payment_intent
    assert intent.metadata["order"] == "1"
    (kept,) = client.v1.customers.payment_methods.list(customer.id).data
    assert intent.payment_method == kept.id
    assert "payment_method.attached" in types_of(client)


def test_a_guest_has_no_customer_unless_one_is_needed(client: StripeClient) -> None:
    guest, always = top_up(client), top_up(client, customer_creation="always")
    for session in (guest, always):
        press(str(session.url), action="pay", email="pat@example.com")
    assert session_of(client, guest.id).customer is None
    assert session_of(client, guest.id).customer_details.email == "pat@example.com"
    assert session_of(client, always.id, "customer").customer.email == "pat@example.com"


def test_a_paid_session_can_have_an_invoice(client: StripeClient) -> None:
    session = top_up(
        client,
        automatic_tax={"enabled": True},
        invoice_creation={"enabled": True, "invoice_data": {"metadata": {"order": "1"}}},
    )
    press(str(session.url), action="pay")
    paid = session_of(client, session.id, "invoice.payments")
    assert (paid.invoice.status, paid.invoice.total, paid.invoice.metadata["order"]) == ("paid", 5500, "1")
    assert (paid.invoice.amount_paid, paid.invoice.amount_remaining) == (5500, 0)
    (payment,) = paid.invoice.payments.data
    assert payment.payment.payment_intent == paid.payment_intent
    listed = client.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": paid.payment_intent}}
    )
    assert [one.invoice for one in listed.data] == [paid.invoice.id]
    last = types_of(client)
    assert last[-1] == "checkout.session.completed"
    assert "invoice.paid" in last


def test_a_method_can_be_kept_without_a_payment(client: StripeClient) -> None:
    customer = client.v1.customers.create({})
    session = client.v1.checkout.sessions.create(
        {"mode": "setup", "currency": "usd", "customer": customer.id, "success_url": "https://shop.example/"}
    )
    press(str(session.url), action="pay")
    kept = session_of(client, session.id, "setup_intent")
    assert (kept.status, kept.payment_status) == ("complete", "no_payment_required")
    (method,) = client.v1.customers.payment_methods.list(customer.id).data
    assert (kept.setup_intent.status, kept.setup_intent.payment_method) == ("succeeded", method.id)
    assert types_of(client)[-1] == "checkout.session.completed"


def test_an_expired_session_gives_up_its_payment(client: StripeClient) -> None:
    session = top_up(client)
    press(str(session.url), action="decline")
    client.v1.checkout.sessions.expire(session.id)
    expired = session_of(client, session.id, "payment_intent")
    assert expired.payment_intent.status == "canceled"
    assert types_of(client)[-2:] == ["payment_intent.canceled", "checkout.session.expired"]


def test_who_pays_in_their_own_currency_changes_no_amount(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    fixed = top_up(client, adaptive_pricing={"enabled": False})
    with pytest.raises(StripeError):
        stripe_server.control.pay_checkout(fixed.id, currency="eur")
    session = top_up(client)
    stripe_server.control.pay_checkout(session.id, currency="eur")
    paid = session_of(client, session.id)
    assert (paid.amount_total, paid.currency) == (5000, "usd")
    shown = paid.presentment_details
    assert (shown.presentment_amount, shown.presentment_currency) == (4600, "eur")


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"mode": "setup"}, "line_items"),
    ({"subscription_data": {"description": "x"}}, "subscription_data"),
    ({"success_url": "shop.example"}, "success_url"),
    ({"customer": "cus_1", "customer_email": "a@example.com"}, "customer_email"),
    ({"line_items": [line(), line(currency="eur")]}, "line_items"),
    ({"line_items": [{"quantity": 1}]}, "line_items[0][price]"),
    ({"customer": "cus_nobody"}, "customer"),
    ({"expires_at": 4_000_000_000}, "expires_at"),
    ({"expires_at": 1}, "expires_at"),
    ({"line_items": [line(49)]}, "line_items"),
]


@pytest.mark.parametrize(("params", "param"), MISFITS, ids=lambda value: str(value)[:30])
def test_parameters_that_do_not_fit_together_are_refused(
    client: StripeClient, params: dict[str, Any], param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        top_up(client, **params)
    assert refusal.value.param == param


def test_zero_decimal_currencies_have_no_minor_units(client: StripeClient) -> None:
    session = top_up(client, line_items=[line(5000, "jpy")])
    assert (session.amount_total, session.currency) == (5000, "jpy")


def test_prices_of_the_catalogue_can_be_bought(client: StripeClient) -> None:
    product = client.v1.products.create({"name": "Credit"})
    price = client.v1.prices.create({"product": product.id, "currency": "usd", "unit_amount": 1000})
    session = top_up(client, line_items=[{"price": price.id, "quantity": 3}])
    assert session.amount_total == 3000
    (bought,) = client.v1.checkout.sessions.line_items.list(session.id).data
    assert (cast(Any, bought.price).id, bought.quantity, bought.description) == (price.id, 3, "Credit")


def test_sessions_are_found_by_their_payer_and_payment(client: StripeClient) -> None:
    customer = payer(client)
    session, _ = top_up(client, customer=customer.id), top_up(client)
    press(str(session.url), action="pay")
    intent = session_of(client, session.id).payment_intent
    assert [one.id for one in client.v1.checkout.sessions.list({"customer": customer.id}).data] == [
        session.id
    ]
    assert [one.id for one in client.v1.checkout.sessions.list({"payment_intent": intent}).data] == [
        session.id
    ]
    assert len(client.v1.checkout.sessions.list({"status": "open"}).data) == 1

"""Payment intents, setup intents and the methods they are paid with."""

from typing import Any, cast

import httpx
import pytest
import stripe
from stripe import PaymentIntent, StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer, types_of


def off_session(client: StripeClient, customer: stripe.Customer, amount: int = 2000) -> PaymentIntent:
    settings = cast(Any, customer.invoice_settings)
    return client.v1.payment_intents.create(
        {
            "amount": amount,
            "currency": "usd",
            "customer": customer.id,
            "payment_method": settings.default_payment_method,
            "confirm": True,
            "off_session": True,
        }
    )


def test_a_kept_card_pays_while_its_holder_is_away(client: StripeClient) -> None:
    intent = off_session(client, payer(client))
    assert (intent.status, intent.amount_received) == ("succeeded", 2000)
    charge = client.v1.charges.retrieve(cast(str, intent.latest_charge))
    assert (charge.paid, charge.captured, charge.amount) == (True, True, 2000)
    movement = client.v1.balance_transactions.retrieve(cast(str, charge.balance_transaction))
    assert (movement.amount, movement.fee, movement.net) == (2000, 88, 1912)


@pytest.mark.parametrize(
    ("method", "code", "decline_code"),
    [
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
        ("pm_card_authenticationRequired", "authentication_required", "authentication_required"),
    ],
)
def test_a_refusal_tells_what_to_ask_the_payer(
    client: StripeClient, method: str, code: str, decline_code: str
) -> None:
    customer = payer(client, method)
    with pytest.raises(stripe.CardError) as refusal:
        off_session(client, customer)
    error = refusal.value.error
    assert error is not None
    assert (refusal.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    intent = client.v1.payment_intents.retrieve(cast(Any, error.payment_intent).id)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert cast(Any, intent.last_payment_error).code == code
    assert types_of(client)[-2:] == ["charge.failed", "payment_intent.payment_failed"]
    assert client.v1.charges.retrieve(cast(Any, error).charge).status == "failed"


def test_an_intent_declined_can_be_paid_with_another_card(client: StripeClient) -> None:
    customer = payer(client, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError) as refusal:
        off_session(client, customer)
    intent = cast(Any, refusal.value.error).payment_intent.id
    paid = client.v1.payment_intents.confirm(
        intent, {"payment_method": "pm_card_visa", "return_url": "https://shop.example/"}
    )
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)
    with pytest.raises(stripe.InvalidRequestError) as repeated:
        client.v1.payment_intents.confirm(intent, {"payment_method": "pm_card_visa", "off_session": True})
    assert repeated.value.code == "payment_intent_unexpected_state"


def test_a_payer_who_is_there_can_authenticate(client: StripeClient, stripe_server: StripeServer) -> None:
    intent = client.v1.payment_intents.create(
        {
            "amount": 2000,
            "currency": "usd",
            "payment_method": "pm_card_authenticationRequired",
            "confirm": True,
            "return_url": "https://shop.example/back",
        }
    )
    assert intent.status == "requires_action"
    redirect = cast(Any, intent.next_action).redirect_to_url
    back = httpx.post(redirect.url, data={"action": "agree"})
    assert back.headers["location"] == "https://shop.example/back"
    assert client.v1.payment_intents.retrieve(intent.id).status == "succeeded"
    assert "payment_intent.requires_action" in types_of(client)


def test_a_bank_asks_for_its_customer_when_it_is_told_to(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    customer = payer(client)
    stripe_server.control.require_authentication(off_session_only=True)
    with pytest.raises(stripe.CardError) as refusal:
        off_session(client, customer)
    assert refusal.value.code == "authentication_required"
    assert off_session(client, customer).status == "succeeded"


def test_confirming_needs_a_way_back_or_an_absent_payer(client: StripeClient) -> None:
    params: Any = {"amount": 2000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.payment_intents.create(params)
    assert refusal.value.param == "return_url"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.create({"amount": 2000, "currency": "usd", "off_session": True})
    params["automatic_payment_methods"] = {"enabled": True, "allow_redirects": "never"}
    assert client.v1.payment_intents.create(params).status == "succeeded"


@pytest.mark.parametrize(("amount", "code"), [(49, "amount_too_small"), (100_000_000, "amount_too_large")])
def test_amounts_that_no_card_carries_are_refused(client: StripeClient, amount: int, code: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.payment_intents.create({"amount": amount, "currency": "usd"})
    assert refusal.value.code == code


def test_an_intent_can_be_changed_until_it_is_paid_and_canceled_too(client: StripeClient) -> None:
    intent = client.v1.payment_intents.create({"amount": 2000, "currency": "usd"})
    changed = client.v1.payment_intents.update(intent.id, {"amount": 3000, "metadata": {"a": "b"}})
    assert (changed.amount, changed.metadata["a"]) == (3000, "b")
    canceled = client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.cancel(intent.id)


def test_a_setup_keeps_a_card_for_later(client: StripeClient) -> None:
    customer = client.v1.customers.create({})
    setup = client.v1.setup_intents.create({"customer": customer.id, "usage": "off_session"})
    done = client.v1.setup_intents.confirm(setup.id, {"payment_method": "pm_card_visa"})
    assert done.status == "succeeded"
    (kept,) = client.v1.customers.payment_methods.list(customer.id, {"type": "card"}).data
    assert (kept.id, cast(Any, kept.card).last4) == (done.payment_method, "4242")
    assert types_of(client)[-2:] == ["payment_method.attached", "setup_intent.succeeded"]


def test_a_card_once_authenticated_pays_off_session(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    customer = client.v1.customers.create({})
    setup = client.v1.setup_intents.create(
        {
            "customer": customer.id,
            "payment_method": "pm_card_authenticationRequiredOnSetup",
            "confirm": True,
            "return_url": "https://shop.example/back",
        }
    )
    assert setup.status == "requires_action"
    stripe_server.control.authenticate(setup.id)
    done = client.v1.setup_intents.retrieve(setup.id)
    assert done.status == "succeeded"
    settings: Any = {"invoice_settings": {"default_payment_method": done.payment_method}}
    assert off_session(client, client.v1.customers.update(customer.id, settings)).status == "succeeded"


def test_a_setup_can_fail(client: StripeClient) -> None:
    with pytest.raises(stripe.CardError):
        client.v1.setup_intents.create({"payment_method": "pm_card_visa_chargeDeclined", "confirm": True})
    assert types_of(client)[-1] == "setup_intent.setup_failed"
    (setup,) = client.v1.setup_intents.list().data
    assert (setup.status, cast(Any, setup.last_setup_error).code) == (
        "requires_payment_method",
        "card_declined",
    )
    assert client.v1.setup_intents.cancel(setup.id).status == "canceled"


def test_a_detached_method_pays_nothing_more_and_is_no_default(client: StripeClient) -> None:
    customer = payer(client)
    method = cast(Any, customer.invoice_settings).default_payment_method
    client.v1.payment_methods.detach(method)
    assert (
        cast(Any, client.v1.customers.retrieve(customer.id).invoice_settings).default_payment_method is None
    )
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_methods.attach(method, {"customer": customer.id})
    assert "payment_method.detached" in types_of(client)


def test_a_bank_tells_of_a_new_card_by_itself(client: StripeClient, stripe_server: StripeServer) -> None:
    method = cast(Any, payer(client).invoice_settings).default_payment_method
    stripe_server.control.renew_card(method, last4="1881")
    assert cast(Any, client.v1.payment_methods.retrieve(method).card).last4 == "1881"
    assert types_of(client)[-1] == "payment_method.automatically_updated"


def test_somebody_elses_method_is_not_to_be_used(client: StripeClient) -> None:
    theirs, other = payer(client), client.v1.customers.create({})
    method = cast(Any, theirs.invoice_settings).default_payment_method
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.payment_intents.create(
            {
                "amount": 2000,
                "currency": "usd",
                "customer": other.id,
                "payment_method": method,
                "confirm": True,
                "off_session": True,
            }
        )
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.update(other.id, {"invoice_settings": {"default_payment_method": method}})


def test_a_method_that_nobody_keeps_pays_once(client: StripeClient) -> None:
    method = client.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    params: Any = {
        "amount": 2000,
        "currency": "usd",
        "payment_method": method.id,
        "confirm": True,
        "return_url": "https://shop.example/",
    }
    assert client.v1.payment_intents.create(params).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        client.v1.payment_intents.create(params)


def test_cards_have_numbers_that_tell_what_they_do(client: StripeClient) -> None:
    card: Any = {"number": "4000000000000341", "exp_month": 12, "exp_year": 2099}
    made: Any = client.v1.payment_methods.create({"type": "card", "card": card})
    assert (made.card.last4, made.card.brand) == ("0341", "visa")
    wrong: Any = {"type": "card", "card": {**card, "number": "4111"}}
    with pytest.raises(stripe.CardError) as refusal:
        client.v1.payment_methods.create(wrong)
    assert refusal.value.code == "incorrect_number"


def test_a_customer_can_be_changed_and_deleted(client: StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Pat", "metadata": {"a": "1", "b": "2"}})
    changed: Any = client.v1.customers.update(customer.id, {"name": "", "metadata": {"a": "", "c": "3"}})
    assert (changed.name, changed.metadata.to_dict()) == (None, {"b": "2", "c": "3"})
    assert cast(Any, client.v1.customers.update(customer.id, {"metadata": ""}).metadata).to_dict() == {}
    assert cast(Any, client.v1.customers.delete(customer.id)).deleted
    assert cast(Any, client.v1.customers.retrieve(customer.id)).deleted
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.update(customer.id, {"name": "Pat"})
    assert types_of(client) == [
        "customer.created",
        "customer.updated",
        "customer.updated",
        "customer.deleted",
    ]


def test_tax_ids_belong_to_a_customer(client: StripeClient) -> None:
    customer = client.v1.customers.create({})
    tax_id = client.v1.customers.tax_ids.create(customer.id, {"type": "eu_vat", "value": "DE123456789"})
    shown = client.v1.customers.retrieve(customer.id, {"expand": ["tax_ids"]})
    assert [one.id for one in cast(Any, shown.tax_ids).data] == [tax_id.id]
    client.v1.customers.tax_ids.delete(customer.id, tax_id.id)
    assert client.v1.customers.tax_ids.list(customer.id).data == []
    assert types_of(client)[-2:] == ["customer.tax_id.created", "customer.tax_id.deleted"]

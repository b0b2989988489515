"""The same key has the same answer, and no second effect."""

import threading
from typing import Any

import pytest
import stripe
from stripe import StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer, top_up


def test_a_repeated_request_is_answered_again_and_done_once(client: StripeClient) -> None:
    options: Any = {"idempotency_key": "order-1"}
    first = client.v1.customers.create({"email": "a@example.com"}, options)
    second = client.v1.customers.create({"email": "a@example.com"}, options)
    assert second.id == first.id
    assert second.last_response is not None
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert first.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert second.last_response.headers["Original-Request"] == first.last_response.headers["Request-Id"]
    assert len(client.v1.customers.list().data) == 1


def test_the_key_of_another_request_is_refused(client: StripeClient) -> None:
    options: Any = {"idempotency_key": "order-1"}
    client.v1.customers.create({"email": "a@example.com"}, options)
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"email": "b@example.com"}, options)
    with pytest.raises(stripe.IdempotencyError):
        client.v1.products.create({"name": "Credit"}, options)


def test_a_refusal_of_the_bank_is_answered_again_too(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    customer = payer(client)
    stripe_server.control.decline()
    params: Any = {
        "amount": 500,
        "currency": "usd",
        "customer": customer.id,
        "payment_method": customer.invoice_settings.default_payment_method,  # type: ignore[union-attr]
        "confirm": True,
        "off_session": True,
    }
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            client.v1.payment_intents.create(params, {"idempotency_key": "charge-1"})
    assert len(client.v1.payment_intents.list().data) == 1
    assert client.v1.payment_intents.create(params, {"idempotency_key": "charge-2"}).status == "succeeded"


def test_what_was_refused_for_its_parameters_may_be_mended(client: StripeClient) -> None:
    options: Any = {"idempotency_key": "order-1"}
    misspelt: Any = {"emial": "a@example.com"}
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create(misspelt, options)
    assert client.v1.customers.create({"email": "a@example.com"}, options).email == "a@example.com"


def test_a_key_in_use_is_a_conflict(client: StripeClient, stripe_server: StripeServer) -> None:
    stripe_server.control.fail("hang", path="/v1/checkout/sessions")
    sessions: list[str] = []
    options: Any = {"idempotency_key": "order-1"}

    def first() -> None:
        sessions.append(top_up(stripe_server.client(), client_reference_id="1", options=options).id)

    thread = threading.Thread(target=first)
    thread.start()
    stripe_server.control.wait_until_hanging()
    with pytest.raises(stripe.APIError) as conflict:
        top_up(client, client_reference_id="1", options=options)
    assert conflict.value.http_status == 409
    stripe_server.control.resume()
    thread.join()
    assert top_up(client, client_reference_id="1", options=options).id == sessions[0]


def test_keys_are_forgotten_after_a_day(client: StripeClient, stripe_server: StripeServer) -> None:
    options: Any = {"idempotency_key": "order-1"}
    first = client.v1.customers.create({}, options)
    stripe_server.control.advance(24 * 3600 + 1)
    assert client.v1.customers.create({}, options).id != first.id

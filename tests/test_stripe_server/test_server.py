"""The stand-in as others use it: started, stopped, and strict about what it cannot do."""

from typing import Any

import pytest
import stripe

from tests.stripe_server.server import StripeServer


async def test_it_starts_and_stops_where_a_loop_runs() -> None:
    async with StripeServer() as stripe_server:
        assert stripe_server.api_key.startswith("sk_test_")
        made = stripe_server.client().v1.customers.create({})
        assert stripe_server.control.thing(made.id) is not None
    with pytest.raises(stripe.APIConnectionError):
        stripe_server.client().v1.customers.list()


def test_a_parameter_that_it_would_pass_over_fails_the_test() -> None:
    params: Any = {"amount": 2000, "currency": "usd", "capture_method": "manual"}
    with (
        pytest.raises(AssertionError, match="does not serve capture_method"),
        StripeServer() as stripe_server,
        pytest.raises(stripe.APIError, match="does not serve capture_method"),
    ):
        stripe_server.client().v1.payment_intents.create(params)


def test_each_has_an_account_of_its_own() -> None:
    with StripeServer() as one, StripeServer() as other:
        made = one.client().v1.customers.create({})
        with pytest.raises(stripe.AuthenticationError):
            other.client(api_key=one.api_key).v1.customers.list()
        with pytest.raises(stripe.InvalidRequestError):
            other.client().v1.customers.retrieve(made.id)


def test_what_was_asked_is_on_record() -> None:
    with StripeServer() as stripe_server:
        stripe_server.client().v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "key-1"})
        (seen,) = stripe_server.control.requests("/v1/customers")
        assert (seen["method"], seen["status"], seen["idempotency_key"]) == ("POST", 200, "key-1")
        assert seen["params"] == {"email": "a@example.com"}
        assert [customer["email"] for customer in stripe_server.control.things("customer")] == [
            "a@example.com"
        ]

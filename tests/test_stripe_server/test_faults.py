"""What goes wrong on demand, and what is left of it."""

import threading

import httpx
import pytest
import stripe
from stripe import RequestsClient, StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer, top_up


def test_a_server_error_before_the_work_leaves_nothing(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    stripe_server.control.fail("server_error")
    with pytest.raises(stripe.APIError) as failure:
        client.v1.customers.create({})
    assert failure.value.http_status == 500
    assert client.v1.customers.list().data == []


def test_the_work_is_done_though_its_answer_is_lost(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    stripe_server.control.fail("lost_answer", method="post", path="/v1/customers")
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create({}, {"idempotency_key": "a"})
    (made,) = client.v1.customers.list().data
    assert client.v1.customers.create({}, {"idempotency_key": "a"}).id == made.id


def test_an_answer_can_be_lost_again_and_again(client: StripeClient, stripe_server: StripeServer) -> None:
    stripe_server.control.fail("lost_answer", method="post", times=2)
    for _ in range(2):
        with pytest.raises(stripe.APIConnectionError):
            client.v1.customers.create({}, {"idempotency_key": "a"})
    assert client.v1.customers.create({}, {"idempotency_key": "a"}).id.startswith("cus_")
    assert len(client.v1.customers.list().data) == 1


def test_a_lost_answer_is_asked_for_again_by_the_client_itself(stripe_server: StripeServer) -> None:
    client = stripe_server.client(max_network_retries=1)
    stripe_server.control.fail("lost_answer", method="post", path="/v1/customers")
    made = client.v1.customers.create({})
    assert [customer.id for customer in client.v1.customers.list().data] == [made.id]


def test_a_server_error_after_the_work_is_its_answer_from_then_on(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    stripe_server.control.fail("server_error_after", path="/v1/customers")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            client.v1.customers.create({}, {"idempotency_key": "a"})
    assert len(client.v1.customers.list().data) == 1


def test_a_dropped_connection_leaves_nothing(client: StripeClient, stripe_server: StripeServer) -> None:
    stripe_server.control.fail("drop")
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create({})
    assert client.v1.customers.list().data == []


def test_too_many_requests_say_when_to_come_back(client: StripeClient, stripe_server: StripeServer) -> None:
    stripe_server.control.fail("rate_limit", retry_after=7)
    with pytest.raises(stripe.RateLimitError) as refusal:
        client.v1.customers.list()
    assert (refusal.value.headers or {})["Retry-After"] == "7"


def test_a_conflict_goes_away_by_itself(stripe_server: StripeServer) -> None:
    stripe_server.control.fail("conflict", times=2)
    with pytest.raises(stripe.APIError) as conflict:
        stripe_server.client().v1.customers.create({})
    assert (conflict.value.http_status, conflict.value.code) == (409, None)
    assert stripe_server.client(max_network_retries=1).v1.customers.create({}).id.startswith("cus_")


def test_a_fault_waits_for_the_request_that_it_is_meant_for(
    client: StripeClient, stripe_server: StripeServer
) -> None:
    stripe_server.control.fail("server_error", method="post", path="/v1/checkout/*", skip=1)
    client.v1.customers.create({})
    top_up(client)
    with pytest.raises(stripe.APIError):
        top_up(client)
    top_up(client)


def test_who_gives_up_on_a_request_that_hangs_has_nothing(stripe_server: StripeServer) -> None:
    impatient = RequestsClient(timeout=0.2)
    stripe_server.control.fail("hang")
    with pytest.raises(stripe.APIConnectionError):
        stripe_server.client(http_client=impatient).v1.customers.create({}, {"idempotency_key": "a"})
    impatient.close()  # type: ignore[no-untyped-call]
    client = stripe_server.client()
    assert client.v1.customers.list().data == []
    assert client.v1.customers.create({}, {"idempotency_key": "a"}).id.startswith("cus_")


def test_a_request_that_hangs_goes_on_when_it_may(stripe_server: StripeServer) -> None:
    made: list[str] = []
    stripe_server.control.fail("hang_after")
    thread = threading.Thread(target=lambda: made.append(stripe_server.client().v1.customers.create({}).id))
    thread.start()
    stripe_server.control.wait_until_hanging()
    (customer,) = stripe_server.client().v1.customers.list().data
    assert made == []
    stripe_server.control.resume()
    thread.join()
    assert made == [customer.id]


def test_a_bank_declines_when_it_is_told_to(client: StripeClient, stripe_server: StripeServer) -> None:
    customer = payer(client)
    settings = customer.invoice_settings
    assert settings is not None
    stripe_server.control.decline(decline_code="insufficient_funds", off_session_only=True)
    with pytest.raises(stripe.CardError) as refusal:
        client.v1.payment_intents.create(
            {
                "amount": 500,
                "currency": "usd",
                "customer": customer.id,
                "payment_method": str(settings.default_payment_method),
                "confirm": True,
                "off_session": True,
            }
        )
    assert refusal.value.code == "card_declined"
    assert refusal.value.error is not None
    assert refusal.value.error.decline_code == "insufficient_funds"


def test_orders_are_taken_over_http_too(client: StripeClient, stripe_server: StripeServer) -> None:
    order = {"kind": "server_error", "path": "/v1/customers"}
    assert httpx.post(f"{stripe_server.url}/_control/fail", json=order).status_code == 200
    with pytest.raises(stripe.APIError):
        client.v1.customers.list()
    seen = httpx.post(f"{stripe_server.url}/_control/requests", json={}).json()
    assert [(one["path"], one["status"]) for one in seen] == [("/v1/customers", 500)]
    assert httpx.post(f"{stripe_server.url}/_control/submit", json={}).status_code == 400
    assert httpx.post(f"{stripe_server.url}/_control/fail", json={"sort": "x"}).status_code == 400

"""Pages of lists, what `expand` puts into answers, and errors as they arrive."""

from typing import Any

import pytest
import stripe
from stripe import StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer


def test_a_list_is_read_page_by_page_the_newest_first(client: StripeClient) -> None:
    made = [client.v1.customers.create({}).id for _ in range(7)][::-1]
    first = client.v1.customers.list({"limit": 3})
    assert ([one.id for one in first.data], first.has_more) == (made[:3], True)
    rest = client.v1.customers.list({"limit": 10, "starting_after": made[2]})
    assert ([one.id for one in rest.data], rest.has_more) == (made[3:], False)
    back = client.v1.customers.list({"limit": 2, "ending_before": made[3]})
    assert ([one.id for one in back.data], back.has_more) == (made[1:3], True)
    assert [one.id for one in client.v1.customers.list({"limit": 2}).auto_paging_iter()] == made
    backwards = client.v1.customers.list({"limit": 2, "ending_before": made[-1]})
    assert [one.id for one in backwards.auto_paging_iter()] == made[:-1][::-1]


def test_lists_of_v2_know_their_neighbours(client: StripeClient) -> None:
    made = [client.v1.customers.create({}).id for _ in range(7)][::-1]
    first = client.v2.core.events.list({"limit": 3, "types": ["v1.customer.created"]})
    assert len(first.data) == 3
    every: list[Any] = list(first.auto_paging_iter())
    assert [event.related_object.id for event in every] == made


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 101}, {"starting_after": "cus_nobody"}])
def test_a_page_that_cannot_be_is_refused(client: StripeClient, params: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.list(params)


def test_a_list_can_be_narrowed(client: StripeClient, stripe_server: StripeServer) -> None:
    old = client.v1.customers.create({"email": "a@example.com"})
    stripe_server.control.advance(100)
    new = client.v1.customers.create({"email": "b@example.com"})
    later = client.v1.customers.list({"created": {"gt": old.created}})
    assert [one.id for one in later.data] == [new.id]
    assert [one.id for one in client.v1.customers.list({"email": "a@example.com"}).data] == [old.id]


def test_what_is_asked_for_stands_in_place_of_its_id(client: StripeClient) -> None:
    customer = payer(client)
    plain: Any = client.v1.customers.retrieve(customer.id)
    assert isinstance(plain.invoice_settings.default_payment_method, str)
    path = "invoice_settings.default_payment_method"
    whole: Any = client.v1.customers.retrieve(customer.id, {"expand": [path]})
    assert whole.invoice_settings.default_payment_method.card.last4 == "4242"
    listed: Any = client.v1.customers.list({"expand": [f"data.{path}"]})
    assert listed.data[0].invoice_settings.default_payment_method.object == "payment_method"
    again: Any = client.v1.customers.retrieve(customer.id)
    assert isinstance(again.invoice_settings.default_payment_method, str)


@pytest.mark.parametrize("path", ["no_such_field", "a.b.c.d.e"])
def test_what_cannot_be_expanded_is_refused(client: StripeClient, path: str) -> None:
    customer = client.v1.customers.create({})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.retrieve(customer.id, {"expand": [path]})


def test_an_error_has_all_that_stripe_says(client: StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.customers.retrieve("cus_nobody")
    error = refusal.value.error
    assert error is not None
    assert (error.type, error.code, error.param) == ("invalid_request_error", "resource_missing", "id")
    assert error.message == "No such customer: 'cus_nobody'"
    assert str(refusal.value.request_id).startswith("req_")
    assert str(refusal.value.request_id) in str(error.request_log_url)

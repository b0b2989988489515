"""The check of all answers, which the client of the other tests makes, finds what is amiss."""

from typing import Any

import pytest
from stripe import StripeClient

from tests.test_stripe_server.answers import check_answer, check_object


@pytest.fixture
def customer(client: StripeClient) -> dict[str, Any]:
    made: dict[str, Any] = client.v1.customers.create({"email": "a@example.com"}).to_dict()
    check_object(made, "V1")
    return made


@pytest.mark.parametrize(
    "spoilt",
    [
        {"favourite_colour": "blue"},
        {"created": "yesterday"},
        {"created": 1.5},
        {"livemode": 0},
        {"id": "pi_1"},
        {"object": "person_of_interest"},
        {"invoice_settings": {"default_payment_method": None, "colour": "blue"}},
        {"balance": "12"},
    ],
)
def test_a_field_too_many_or_of_another_type_is_found(
    customer: dict[str, Any], spoilt: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError):
        check_object({**customer, **spoilt}, "V1")


def test_a_field_too_few_is_found(customer: dict[str, Any]) -> None:
    del customer["created"]
    with pytest.raises(AssertionError, match="created"):
        check_object(customer, "V1")


def test_an_error_of_the_stand_in_itself_is_found() -> None:
    with pytest.raises(AssertionError):
        check_answer({"error": {"message": "x", "type": "unfaithful"}}, 599)


def test_fields_that_stripe_leaves_out_are_left_out(client: StripeClient, customer: dict[str, Any]) -> None:
    assert "tax_ids" not in customer
    assert client.v1.customers.retrieve(customer["id"], {"expand": ["tax_ids"]}).tax_ids is not None

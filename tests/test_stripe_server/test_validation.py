"""What is sent is held against the types that the `stripe` package publishes."""

import re
from typing import Any, cast
from urllib.parse import urlencode

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe import StripeClient
from stripe._encode import _api_encode

from tests.stripe_server.families import FAMILIES
from tests.stripe_server.server import StripeServer
from tests.stripe_server.wire.errors import StripeError
from tests.stripe_server.wire.forms import decode_form
from tests.stripe_server.wire.routing import Router
from tests.stripe_server.wire.validation import validator
from tests.test_stripe_server.orders import line, top_up

ROUTER = Router(FAMILIES)


@pytest.mark.parametrize("route", ROUTER.routes, ids=lambda route: f"{route.method} {route.template}")
def test_every_request_has_a_judge_that_refuses_what_it_does_not_know(route: Any) -> None:
    json = route.method == "POST" and route.template.startswith("/v2/")
    with pytest.raises(ValueError, match=r"Extra inputs are not permitted"):
        validator(route.params, json=json).validate_python({"no_such_parameter": "1"})


def test_a_request_of_the_package_finds_its_route() -> None:
    fixed = ROUTER.find("GET", "/v1/checkout/sessions/cs_test_1/line_items")
    assert fixed is not None
    assert fixed[1] == {"id": "cs_test_1"}
    assert ROUTER.find("PUT", "/v1/customers") is None


NAMES = st.text("abcdefghij_0123456789", min_size=1, max_size=8)
LEAVES = st.text('ab é漢 &=[]%+;"\n', max_size=20)
TREES = st.recursive(
    LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=4), max_leaves=12
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_forms_are_read_as_the_package_writes_them(params: dict[str, Any]) -> None:
    form = urlencode(list(_api_encode(params))).replace("%5B", "[").replace("%5D", "]")
    assert decode_form(form) == params


def test_lists_are_hashes_with_numbers_until_a_type_says_more() -> None:
    form = urlencode(list(_api_encode({"a": [{"b": ["x", "y"]}, {"b": []}]})))
    assert decode_form(form) == {"a": {"0": {"b": {"0": "x", "1": "y"}}}}
    assert decode_form("expand[]=customer&expand[]=lines") == {"expand": {"0": "customer", "1": "lines"}}


@pytest.mark.parametrize("form", ["a=1&a[b]=2", "a[b]=2&a=1", "[a]=1", "a[=1", "a]b=1"])
def test_keys_that_are_no_path_are_refused(form: str) -> None:
    with pytest.raises(StripeError):
        decode_form(form)


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"payment_method_types": ["card"]}, "payment_method_types", "parameter_unknown"),
    ({"line_itmes": ["x"]}, "line_itmes", "parameter_unknown"),
    ({"mode": "pay"}, "mode", None),
    (
        {"payment_intent_data": {"setup_future_usage": "later"}},
        "payment_intent_data[setup_future_usage]",
        None,
    ),
    ({"line_items": [{**line(), "quantity": "one"}]}, "line_items[0][quantity]", "parameter_invalid_integer"),
    ({"line_items": [{**line(), "quantity": 1.5}]}, "line_items[0][quantity]", "parameter_invalid_integer"),
    ({"line_items": [{**line(), "qty": 1}]}, "line_items[0][qty]", "parameter_unknown"),
    ({"line_items": line()}, "line_items", "parameter_invalid_array"),
    ({"automatic_tax": {"enabled": "yes"}}, "automatic_tax[enabled]", "parameter_invalid_boolean"),
    ({"automatic_tax": {"liability": {"type": "self"}}}, "automatic_tax[enabled]", "parameter_missing"),
    ({"client_reference_id": ""}, "client_reference_id", "parameter_invalid_empty"),
    ({"metadata": {"a": "x" * 501}}, "metadata", None),
    ({"metadata": {"k" * 41: "x"}}, "metadata", None),
    ({"metadata": {f"k{n}": "x" for n in range(51)}}, "metadata", None),
]


@pytest.mark.parametrize(
    ("params", "param", "code"), REFUSED, ids=lambda value: re.sub(r"\W+", "-", str(value))[:40]
)
def test_a_wrong_parameter_is_refused_by_its_name(
    client: StripeClient, params: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        top_up(client, **params)
    assert refusal.value.http_status == 400
    assert refusal.value.param == param
    if code is not None:
        assert refusal.value.code == code


def test_a_missing_parameter_is_named(client: StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.payment_intents.create(cast(Any, {"currency": "usd"}))
    assert (refusal.value.param, refusal.value.code) == ("amount", "parameter_missing")


def test_v2_takes_json_with_types_of_its_own(client: StripeClient) -> None:
    params = {
        "name": "hooks",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": "v1.customer.created",
        "webhook_endpoint": {"url": "http://127.0.0.1:1/"},
    }
    with pytest.raises(stripe.InvalidRequestError):
        client.v2.core.event_destinations.create(cast(Any, params))


def test_only_the_accounts_own_test_key_opens(stripe_server: StripeServer) -> None:
    for key in ("sk_test_somebody_elses", "sk_live_" + "x" * 24):
        with pytest.raises(stripe.AuthenticationError) as refusal:
            stripe_server.client(api_key=key).v1.customers.list()
        assert refusal.value.http_status == 401


def test_another_version_of_the_api_is_not_spoken(stripe_server: StripeServer) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Invalid Stripe API version"):
        stripe_server.client(stripe_version="2020-08-27").v1.customers.list()


def test_another_account_is_not_to_be_read(stripe_server: StripeServer) -> None:
    for other in ({"stripe_account": "acct_other"}, {"stripe_context": "acct_other"}):
        with pytest.raises(stripe.PermissionError) as refusal:
            stripe_server.client(**other).v1.customers.list()
        assert refusal.value.http_status == 403


def test_an_unknown_address_and_an_unknown_id_are_404(client: StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        client.v1.customers.retrieve("cus_nobody")
    assert (unknown.value.http_status, unknown.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        client.v1.payouts.list()

"""Holds every answer that comes back against the classes that the `stripe` package reads it with."""

import json
import typing
from decimal import Decimal
from types import NoneType
from typing import Any

import stripe
import typing_extensions as te
from stripe import RequestsClient, StripeObject
from stripe._object_classes import get_object_class

# Source: the examples in Stripe's API reference.
PREFIXES = {
    "balance_transaction": "txn_",
    "billing.credit_grant": "credgr_",
    "billing.meter": "mtr_",
    "billing_portal.configuration": "bpc_",
    "billing_portal.session": "bps_",
    "charge": "ch_",
    "checkout.session": "cs_test_",
    "credit_note": "cn_",
    "credit_note_line_item": "cnli_",
    "customer": "cus_",
    "customer_balance_transaction": "cbtxn_",
    "dispute": "du_",
    "event": "evt_",
    "invoice": "in_",
    "invoice_payment": "inpay_",
    "invoiceitem": "ii_",
    "item": "li_",
    "line_item": "il_",
    "payment_intent": "pi_",
    "payment_method": "pm_",
    "plan": "price_",
    "price": "price_",
    "product": "prod_",
    "refund": "re_",
    "setup_intent": "seti_",
    "subscription": "sub_",
    "subscription_item": "si_",
    "tax_id": "txi_",
    "test_helpers.test_clock": "clock_",
    "v2.core.event": "evt_test_",
    "v2.core.event_destination": "ed_test_",
    "webhook_endpoint": "we_",
}
_NOT_FIELDS = frozenset({"OBJECT_NAME", "deleted"})


class CheckedClient(RequestsClient):
    """The package's own transport, which raises AssertionError for an answer that Stripe would not give."""

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, **more: Any) -> Any:
        answer = super().request(method, url, headers, post_data, **more)
        body, status, _ = answer
        check_answer(json.loads(body), status, v2="/v2/" in url)
        return answer


def check_answer(body: dict[str, Any], status: int, *, v2: bool = False) -> None:
    """Raises AssertionError."""
    if status != 200:
        error = body["error"]
        assert isinstance(error["message"], str)
        assert error["type"] in {"api_error", "card_error", "idempotency_error", "invalid_request_error"}
    elif v2 and "data" in body:
        for entry in body["data"]:
            check_object(entry, "V2")
    else:
        check_object(body, "V2" if v2 else "V1")


def check_object(thing: dict[str, Any], mode: Any) -> None:
    """An object with a name of its own."""
    if thing.get("deleted") is True:
        assert thing.keys() == {"id", "object", "deleted"}
    elif thing["object"] == "list":
        assert thing.keys() == {"object", "data", "has_more", "url"}
        for entry in thing["data"]:
            check_object(entry, mode)
    elif not (mode == "V2" and thing.keys() == {"id", "object"}):
        assert thing.get("id", "").startswith(PREFIXES.get(thing["object"], ""))
        klass = get_object_class(mode, thing["object"])
        assert klass is not StripeObject, thing["object"]
        check_fields(klass, thing, mode)


def check_fields(klass: type[StripeObject], thing: dict[str, Any], mode: Any) -> None:
    hints = {name: hint for name, hint in klass.__annotations__.items() if name[0] != "_"}
    known = hints.keys() - _NOT_FIELDS
    more = {"related_object"} if klass is stripe.v2.core.Event else set()
    assert thing.keys() - more <= known, (klass.__qualname__, thing.keys() - known)
    for name in known:
        where = f"{klass.__qualname__}.{name}"
        if not _may_lack(hints[name]):
            assert name in thing, where
        if name in thing:
            assert _fits(hints[name], thing[name]), (where, thing[name])
            _check_inside(klass, name, thing[name], mode)


def _may_lack(hint: Any) -> bool:
    return hint.startswith("Optional[") if isinstance(hint, str) else NoneType in te.get_args(hint)


def _check_inside(klass: type[StripeObject], name: str, value: Any, mode: Any) -> None:
    inner = getattr(klass, "_inner_class_types", {}).get(name)
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict) and inner is not None:
            check_fields(inner, entry, mode)
        elif isinstance(entry, dict) and "object" in entry:
            check_object(entry, mode)


def _fits(hint: Any, value: Any) -> bool:
    origin = te.get_origin(hint)
    if hint in (int, str, bool, float, NoneType):
        return type(value) is hint
    if hint is Decimal:
        return isinstance(value, str) and Decimal(value).is_finite()
    if origin is typing.Literal:
        return value in te.get_args(hint)
    if origin is typing.Union:
        return any(_fits(choice, value) for choice in te.get_args(hint))
    if origin is list:
        (inner,) = te.get_args(hint)
        return isinstance(value, list) and all(_fits(inner, entry) for entry in value)
    # What is left are objects, by their class or by its name.
    return isinstance(value, dict)

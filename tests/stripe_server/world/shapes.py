"""Complete objects, held against the classes that the `stripe` package reads them with.

A class says which fields an object has, and which of them may be null. It does not say which of those are
left out of an answer rather than sent as null: the sample resources of Stripe's OpenAPI repository do, and
`_LEFT_OUT` has what they lack. Clients see the difference: a field left out raises AttributeError.
"""

import typing
from dataclasses import dataclass
from types import NoneType
from typing import Any

import stripe
from stripe import StripeObject

from tests.stripe_server.wire.errors import Json, UnfaithfulAnswer

_OUT: dict[type[StripeObject], str] = {
    stripe.Charge: "authorization_code level3 presentment_details radar_options refunds transfer",
    stripe.Customer: "business_name cash_balance customer_account individual_name "
    "invoice_credit_balance sources subscriptions tax tax_ids",
    stripe.Dispute: "intended_submission_method network_reason_code",
    stripe.Event: "account context",
    stripe.Event.Data: "previous_attributes",
    stripe.Invoice: "amount_paid_off_stripe confirmation_secret payments status_details threshold_reason",
    stripe.InvoiceItem: "frozen_fields invoicing_rules proration_details",
    stripe.PaymentIntent: "allowed_payment_method_types hooks payment_details payment_record "
    "presentment_details",
    stripe.PaymentMethod: "radar_options",
    stripe.Price: "currency_options tiers",
    stripe.Product: "tax_details",
    stripe.Refund: "description failure_balance_transaction failure_reason instructions_email next_action "
    "pending_reason presentment_details",
    stripe.SetupIntent: "allowed_payment_method_types attach_to_self customer_account managed_payments",
    stripe.Subscription: "presentment_details status_details",
    stripe.SubscriptionItem: "billed_until current_trial",
    stripe.WebhookEndpoint: "secret",
    stripe.checkout.Session: "allowed_payment_method_types branding_settings excluded_payment_method_types "
    "line_items name_collection optional_items presentment_details redirect_on_completion return_url "
    "tax_id_collection",
    stripe.billing_portal.Session: "after_expiration",
    stripe.v2.core.EventDestination: "amazon_eventbridge azure_event_grid snapshot_api_version "
    "status_details",
    stripe.v2.core.EventDestination.WebhookEndpoint: "signing_secret url",
}
_LEFT_OUT = {klass: frozenset(names.split()) for klass, names in _OUT.items()}

# Told apart by `type`: of the types' hashes, only the one that has its name is sent.
_BY_TYPE = frozenset({stripe.PaymentMethod})

# Hold what there is to say, and no nulls.
_SPARSE = frozenset(
    {
        stripe.Charge.PaymentMethodDetails,
        stripe.Dispute.PaymentMethodDetails,
        stripe.Invoice.LastFinalizationError,
        stripe.Refund.DestinationDetails,
        stripe.PaymentIntent.AmountDetails,
        stripe.PaymentIntent.LastPaymentError,
        stripe.PaymentIntent.NextAction,
        stripe.PaymentIntent.PaymentMethodOptions,
        stripe.SetupIntent.LastSetupError,
        stripe.SetupIntent.NextAction,
        stripe.SetupIntent.PaymentMethodOptions,
        stripe.checkout.Session.PaymentMethodOptions,
    }
)


@dataclass(frozen=True)
class Field:
    required: bool
    left_out: bool
    inner: type[StripeObject] | None


_KNOWN: dict[type[StripeObject], dict[str, Field]] = {}


def fields(klass: type[StripeObject]) -> dict[str, Field]:
    """The fields that one class knows, without those that only objects deleted since have."""
    if klass not in _KNOWN:
        _KNOWN[klass] = _fields(klass)
    return _KNOWN[klass]


def _fields(klass: type[StripeObject]) -> dict[str, Field]:
    inner: dict[str, Any] = getattr(klass, "_inner_class_types", {})
    left_out = _LEFT_OUT.get(klass, frozenset())
    return {
        name: Field(
            required=not _nullable(hint),
            left_out=name in left_out
            or (_nullable(hint) and (klass in _SPARSE or (klass in _BY_TYPE and name in inner))),
            inner=inner.get(name),
        )
        for name, hint in klass.__annotations__.items()
        if not name.startswith("_") and name not in ("OBJECT_NAME", "deleted")
    }


def _nullable(hint: Any) -> bool:
    if isinstance(hint, str):
        return hint.startswith("Optional[")
    return NoneType in typing.get_args(hint)


def complete(klass: type[StripeObject], values: Json) -> Json:
    """The values with all that a client may look for. Raises UnfaithfulAnswer for fields amiss."""
    known = fields(klass)
    _refuse_unknown(klass, known, values)
    filled: Json = {}
    for name, field in known.items():
        if name in values:
            filled[name] = _inside(field.inner, values[name])
        elif field.required:
            raise UnfaithfulAnswer(f"{klass.__qualname__} lacks {name}")
        elif not field.left_out:
            filled[name] = None
    return filled


def completed(klass: type[StripeObject], changes: Json) -> Json:
    """Some fields' new values, each as complete as in a new object."""
    known = fields(klass)
    _refuse_unknown(klass, known, changes)
    return {name: _inside(known[name].inner, value) for name, value in changes.items()}


def _refuse_unknown(klass: type[StripeObject], known: dict[str, Field], values: Json) -> None:
    unknown = values.keys() - known.keys()
    if unknown:
        raise UnfaithfulAnswer(f"{klass.__qualname__} knows no {', '.join(sorted(unknown))}")


def _inside(inner: type[StripeObject] | None, value: Any) -> Any:
    if inner is None:
        return value
    if isinstance(value, list):
        return [_inside(inner, entry) for entry in value]
    return complete(inner, value) if isinstance(value, dict) else value

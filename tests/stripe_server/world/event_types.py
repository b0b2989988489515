"""The names of events: Stripe sends some as snapshots, some as thin notices, most as both."""

from typing import get_args

import stripe
from stripe.events._event_classes import get_v2_event_notification_class
from stripe.v2.core._event import UnknownEventNotification

THIN_PREFIX = "v1."

SNAPSHOTS = frozenset(get_args(stripe.Event.__annotations__["type"]))


def has_thin_form(thin_type: str) -> bool:
    """Whether Stripe has a thin event of that name, as the package lists them."""
    return get_v2_event_notification_class(thin_type) is not UnknownEventNotification


def is_known(event_type: str) -> bool:
    return event_type in SNAPSHOTS or has_thin_form(THIN_PREFIX + event_type)

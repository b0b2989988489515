"""The two forms in which Stripe tells of an event. Of both, only the names of things are read.

What else a form holds changes with Stripe's versions, and is none of our business: a payment must not be
lost because of a field that has gone.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from farebox.billing.stripe.events.signatures import NotFromStripe

_THIN = "v2.core.event"
_V1 = "v1."


class Thing(msgspec.Struct, frozen=True):
    id: str | None = None


class Data(msgspec.Struct, frozen=True):
    object: Thing


class Sent(msgspec.Struct, frozen=True):
    """Both forms in one; unknown fields are left."""

    id: str
    object: str
    type: str
    livemode: bool
    related_object: Thing | None = None
    data: Data | Any = None
    account: str | None = None
    context: str | Any = None


@dataclass(frozen=True)
class Notice:
    """`type` is without the prefix of thin events. `foreign` says that it is of another account's things."""

    id: str
    type: str
    object_id: str | None
    live: bool
    foreign: bool


def is_thin(body: bytes) -> bool:
    """Which secret to judge by; what cannot be read is judged as a snapshot, and refused."""
    try:
        return msgspec.json.decode(body, type=_Form).object == _THIN
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


class _Form(msgspec.Struct):
    object: str


def read_notice(text: str) -> Notice:
    """Raises NotFromStripe for what is no event: signed it may be."""
    try:
        sent = msgspec.json.decode(text.encode(), type=Sent)
        thing = sent.related_object if sent.object == _THIN else _data(sent).object
    except (msgspec.MsgspecError, RecursionError):
        raise NotFromStripe from None
    if "\0" in f"{sent.id}{sent.type}{thing and thing.id}":  # which Postgres refuses
        raise NotFromStripe
    return Notice(
        id=sent.id,
        type=sent.type.removeprefix(_V1),
        object_id=thing.id if thing is not None else None,
        live=sent.livemode,
        foreign=bool(sent.account or sent.context),
    )


def _data(sent: Sent) -> Data:
    return msgspec.convert(sent.data, Data)

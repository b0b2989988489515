"""What the payment routes say of themselves in the API reference; see `core.openapi.documentation`."""

from farebox.billing.errors import InvalidAmount
from farebox.billing.stripe.api.schemas import (
    AutoTopUpShown,
    BillingPortal,
    NewAutoTopUp,
    NewTopUp,
    TopUpList,
    TopUpShown,
)
from farebox.billing.stripe.errors import (
    KeyReused,
    NotSwitchedOn,
    ProcessorAway,
    ProcessorRefused,
    UnknownTopUp,
)
from farebox.core.errors import BadRequest, FareboxError, Forbidden
from farebox.core.openapi.documentation import BODY_ERRORS, SERVER_ERRORS, Content, Documentation, Reply
from farebox.keys.errors import DuplicateHeader, InsufficientScope, InvalidApiKey

_ID = "topup_0199d3ef10b87c02935f6d2a9be4c771"
_NOON = 1764590400
_TOP_UP = TopUpShown(
    id=_ID,
    kind="checkout",
    state="open",
    amount="25.00",
    tax="0.00",
    currency="usd",
    save_payment_method=False,
    url="https://checkout.stripe.com/c/pay/cs_test_a1",
    failure=None,
    created_at=_NOON,
    expires_at=_NOON + 82_800,
    paid_at=None,
)
_AUTO = AutoTopUpShown(
    enabled=True,
    threshold="5.00",
    amount="25.00",
    monthly_ceiling="100.00",
    spent_this_month="25.00",
    currency="usd",
    paused=None,
)
_OWNER_ONLY: tuple[FareboxError, ...] = (
    DuplicateHeader(),
    InvalidApiKey(),
    InsufficientScope("admin"),
    Forbidden("Only a key of an owner of the organization may do this.", code="not_an_owner"),
    NotSwitchedOn(),
    *SERVER_ERRORS,
)
_AMOUNT = InvalidAmount("A top-up is at least 5.00 and at most 10000.00 USD.")
_AT_STRIPE = (ProcessorRefused("amount too small", None), ProcessorAway("APIConnectionError"))


def _reply(description: str, kind: type, example: object, status: int = 200) -> list[Reply]:
    content = Content(kind=kind, examples={"example": example})
    return [Reply(description=description, status=status, contents=[content])]


ORDER_TOP_UP = Documentation(
    request={"25 dollars": NewTopUp(amount="25.00", save_payment_method=True)},
    fields={
        "amount": "What the balance rises by, as a string; tax may come on top.",
        "save_payment_method": "Let automatic top-up use the payment method from now on.",
    },
    replies=_reply("The top-up, with the address where to pay it.", TopUpShown, _TOP_UP, 201),
    errors=(_AMOUNT, KeyReused(), *BODY_ERRORS, *_OWNER_ONLY, *_AT_STRIPE),
    security="apiKey",
)
TOP_UPS = Documentation(
    values={"limit": 20, "after": _ID},
    replies=_reply(
        "A page of top-ups.",
        TopUpList,
        TopUpList(data=[_TOP_UP], first_id=_ID, last_id=_ID, has_more=False),
    ),
    errors=(
        BadRequest("`limit` must be at most 100.", param="limit", code="invalid_value"),
        UnknownTopUp(),
        *_OWNER_ONLY,
    ),
    security="apiKey",
)
TOP_UP = Documentation(
    values={"top_up_id": _ID},
    replies=_reply("The top-up.", TopUpShown, _TOP_UP),
    errors=(UnknownTopUp(), *_OWNER_ONLY),
    security="apiKey",
)
AUTO_TOP_UP = Documentation(
    replies=_reply("As it is set.", AutoTopUpShown, _AUTO), errors=_OWNER_ONLY, security="apiKey"
)
SAVE_AUTO_TOP_UP = Documentation(
    request={
        "25 dollars below 5": NewAutoTopUp(
            enabled=True, threshold="5.00", amount="25.00", monthly_ceiling="100.00"
        )
    },
    fields={
        "threshold": "Below this balance, a top-up begins.",
        "amount": "What the balance rises by.",
        "monthly_ceiling": "The most that automatic top-ups come to in a UTC month.",
    },
    replies=_reply("As it is set now.", AutoTopUpShown, _AUTO),
    errors=(_AMOUNT, *BODY_ERRORS, *_OWNER_ONLY),
    security="apiKey",
)
BILLING_PORTAL = Documentation(
    replies=_reply(
        "The page's address.",
        BillingPortal,
        BillingPortal(url="https://billing.stripe.com/p/session/test_a1"),
        201,
    ),
    errors=(*_OWNER_ONLY, *_AT_STRIPE),
    security="apiKey",
)

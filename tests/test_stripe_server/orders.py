"""Things to ask of Stripe again and again."""

from collections.abc import Sequence
from typing import Any, cast

from stripe import Customer, StripeClient
from stripe.checkout import Session

SUCCESS = "https://shop.example/paid?session={CHECKOUT_SESSION_ID}"
CANCEL = "https://shop.example/cart"


def line(amount: int = 5000, currency: str = "usd") -> dict[str, Any]:
    price = {"currency": currency, "unit_amount": amount, "product_data": {"name": "Credit"}}
    return {"quantity": 1, "price_data": price}


def top_up(client: StripeClient, *, options: Any = None, **params: Any) -> Session:
    """A session to buy credit for 50 dollars."""
    given = {
        "mode": "payment",
        "success_url": SUCCESS,
        "cancel_url": CANCEL,
        "line_items": [line()],
        **params,
    }
    return client.v1.checkout.sessions.create(cast(Any, given), options)


def payer(client: StripeClient, method: str = "pm_card_visa", **params: Any) -> Customer:
    """A customer whose method is kept and the default."""
    customer = client.v1.customers.create(cast(Any, {"email": "payer@example.com", **params}))
    kept = client.v1.payment_methods.attach(method, {"customer": customer.id})
    return client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": kept.id}})


def types_of(client: StripeClient) -> Sequence[str]:
    """Of all events, oldest first."""
    return [event.type for event in client.v1.events.list({"limit": 100}).auto_paging_iter()][::-1]

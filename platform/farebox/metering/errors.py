"""What admission answers when it says no.

ModelNotFound          404  unknown, removed, unpriced, or not allowed to this key: all look alike
LimitReached                a limit of a scope refused
├── QuotaExceeded      402  prepaid balance or monthly cap; waiting does not help
├── OtherCurrency      402  the model is priced in another currency than the balance is kept in
└── RateLimitExceeded  429  requests/min, tokens/min or concurrency; says which, and when it frees
Contended              503  somebody else keeps the account's rows locked
"""

import math
from decimal import Decimal
from uuid import UUID

from farebox.core.errors import FareboxError, InsufficientQuota, NotFound, RateLimited, Unavailable
from farebox.core.money import plain
from farebox.metering.quotas import Quotas

_LIMIT_NAMES = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "concurrent_requests": "concurrent requests",
    "monthly_cap": "monthly spend cap",
    "balance": "prepaid balance",
}


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"The model `{model_id[:100]}` does not exist or you do not have access to it.", param="model"
        )


class LimitReached(FareboxError):
    """Which limit refused (a column of `meter_scope`), and of which kind of scope.

    Admission adds whose scope it is, and what is left of the rates.
    """

    limit: str
    scope: str
    scope_id: UUID | None = None
    organization_id: UUID | None = None
    quotas: Quotas = Quotas()


class QuotaExceeded(LimitReached, InsufficientQuota):
    """The worst case of the request (prompt and whole output) does not fit into what is left."""

    def __init__(self, scope: str, limit: str, value: Decimal, cost: Decimal, currency: str) -> None:
        name = _LIMIT_NAMES[limit]
        advice = "Add funds" if limit == "balance" else "Raise the cap"
        super().__init__(
            f"The {scope}'s {name} of {plain(value, currency)} {currency} does not cover this request's"
            f" maximum cost of {plain(cost, currency)} {currency} on top of what is spent and reserved."
            f" {advice}, or lower `max_tokens`.",
            headers={"x-should-retry": "false"},
        )
        self.limit = limit
        self.scope = scope


class OtherCurrency(LimitReached, InsufficientQuota):
    limit = "currency"
    scope = "organization"

    def __init__(self, currency: str) -> None:
        super().__init__(
            f"The model is priced in {currency}, and the organization's balance is in another currency.",
            headers={"x-should-retry": "false"},
        )


class RateLimitExceeded(LimitReached, RateLimited):
    """`retry_after` is in seconds; infinite when the request can never fit under the limit."""

    def __init__(self, scope: str, limit: str, value: Decimal, retry_after: float) -> None:
        head = f"The {scope}'s limit of {value} {_LIMIT_NAMES[limit]} is reached."
        if math.isinf(retry_after):
            super().__init__(
                f"{head} This request is larger than the limit itself: retrying cannot help.",
                headers={"x-should-retry": "false"},
            )
        else:
            super().__init__(
                f"{head} Try again in {retry_after:.1f} s.",
                headers={
                    "Retry-After": str(max(1, math.ceil(retry_after))),
                    "retry-after-ms": str(math.ceil(retry_after * 1000)),
                    "x-should-retry": "true",
                },
            )
        self.limit = limit
        self.scope = scope
        self.retry_after = retry_after


class Contended(Unavailable):
    def __init__(self) -> None:
        super().__init__("The account is busy; please try again.")

"""Top-ups as clients see them. Amounts that are sent are strings, `"25.00"`: no reader makes them floats."""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from farebox.billing.models_stripe import AutoTopUp, TopUp
from farebox.billing.stripe.checkout import PREFIX
from farebox.core.ids import external
from farebox.core.money import plain

AmountText = Annotated[str, Meta(max_length=30)]
State = Literal["open", "processing", "requires_action", "failed", "expired", "paid"]


class NewTopUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /v1/organization/top_ups takes."""

    amount: AmountText
    save_payment_method: bool = False


class TopUpShown(msgspec.Struct, frozen=True, kw_only=True):
    """A top-up. `url` is where to pay it, as long as it can be; times are Unix seconds."""

    id: str
    object: Literal["organization.top_up"] = "organization.top_up"
    kind: Literal["checkout", "automatic"]
    state: State
    amount: str
    tax: str
    currency: str
    save_payment_method: bool
    url: str | None
    failure: str | None
    created_at: int
    expires_at: int
    paid_at: int | None


class TopUpList(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first; `last_id` goes into the parameter `after`."""

    object: Literal["list"] = "list"
    data: list[TopUpShown]
    first_id: str | None
    last_id: str | None
    has_more: bool


class NewAutoTopUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What POST /v1/organization/auto_top_up takes."""

    enabled: bool
    threshold: AmountText
    amount: AmountText
    monthly_ceiling: AmountText


class AutoTopUpShown(msgspec.Struct, frozen=True, kw_only=True):
    """`paused` says why nothing is tried: `declined`, `requires_action` or `no_method`."""

    object: Literal["organization.auto_top_up"] = "organization.auto_top_up"
    enabled: bool
    threshold: str | None
    amount: str | None
    monthly_ceiling: str | None
    spent_this_month: str
    currency: str
    paused: Literal["declined", "requires_action", "no_method"] | None


class BillingPortal(msgspec.Struct, frozen=True, kw_only=True):
    """A page of Stripe's for payment methods, invoices and tax ids; good for a few minutes."""

    object: Literal["organization.billing_portal"] = "organization.billing_portal"
    url: str


class TopUpsParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What GET /v1/organization/top_ups takes."""

    limit: Annotated[int, Meta(ge=1, le=100, description="Top-ups on a page.")] = 20
    after: Annotated[str | None, Meta(description="`last_id` of the page before.")] = None


def show_top_up(row: TopUp) -> TopUpShown:
    return TopUpShown(
        id=external(PREFIX, row.id),
        kind=row.kind,  # type: ignore[arg-type]  # the table's constraint
        state=row.state,  # type: ignore[arg-type]  # the table's constraint
        amount=plain(row.amount, row.currency),
        tax=plain(row.tax, row.currency),
        currency=row.currency.lower(),
        save_payment_method=row.keeps_method,
        url=row.url if row.state in ("open", "requires_action") else None,
        failure=row.failure,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        paid_at=int(row.paid_at.timestamp()) if row.paid_at is not None else None,
    )


def show_auto_top_up(row: AutoTopUp | None, spent: Decimal, currency: str) -> AutoTopUpShown:
    """Nothing was set yet: it is off."""
    currency = currency if row is None else row.currency

    def told(amount: Decimal | None) -> str | None:
        return None if amount is None else plain(amount, currency)

    return AutoTopUpShown(
        enabled=row is not None and row.enabled,
        threshold=told(row.threshold if row is not None else None),
        amount=told(row.amount if row is not None else None),
        monthly_ceiling=told(row.monthly_ceiling if row is not None else None),
        spent_this_month=plain(spent, currency),
        currency=currency.lower(),
        paused=row.paused if row is not None else None,  # type: ignore[arg-type]  # the table's constraint
    )

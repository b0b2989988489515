"""POST /webhooks/stripe: where Stripe tells what has happened."""

from typing import Any

from litestar import Response, Router, post
from litestar.connection import Request
from litestar.di import NamedDependency

from farebox.billing.stripe.account import Account, switched_on
from farebox.billing.stripe.events.inbox import store
from farebox.billing.stripe.events.notices import Notice, is_thin, read_notice
from farebox.billing.stripe.events.processing import NO_MATTER, follower_of
from farebox.billing.stripe.events.signatures import check_signature, secrets_for
from farebox.core.database import Database
from farebox.core.settings import Settings


@post("/webhooks/stripe", status_code=200, include_in_schema=False)
async def webhook(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    account: NamedDependency[Account | None],
) -> Response[dict[str, bool]]:
    """200 when the notice is stored, and not before: until then, Stripe tells it again.

    Raises NotSwitchedOn, PayloadTooLarge, NotFromStripe, and Unavailable when Postgres is away.
    """
    own = switched_on(account)
    body = await request.body()
    secrets = secrets_for(settings, thin=is_thin(body))
    text = check_signature(body, request.headers.getall("stripe-signature", []), secrets)
    notice = read_notice(text)
    async with database.meter_transaction() as session:
        new = await store(session, notice, _why_ignored(own, notice))
    return Response({"received": True, "new": new})


def _why_ignored(own: Account, notice: Notice) -> str | None:
    if notice.live != own.live:
        return "It is of the other mode than the key: test and live are apart."
    if notice.foreign:
        return "It is of another account's things."
    return NO_MATTER if follower_of(notice.type) is None else None


router = Router(path="/", route_handlers=[webhook])

"""/v1/organization/top_ups, auto_top_up and billing_portal, for an owner's key with the scope `admin`."""

from decimal import Decimal
from typing import Annotated, Any

from litestar import Router, get, post
from litestar.connection import Request
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody, QueryParameter

from farebox.billing.errors import InvalidAmount
from farebox.billing.stripe.account import Account, switched_on
from farebox.billing.stripe.api.documentation import (
    AUTO_TOP_UP,
    BILLING_PORTAL,
    ORDER_TOP_UP,
    SAVE_AUTO_TOP_UP,
    TOP_UP,
    TOP_UPS,
)
from farebox.billing.stripe.api.schemas import (
    AutoTopUpShown,
    BillingPortal,
    NewAutoTopUp,
    NewTopUp,
    TopUpList,
    TopUpShown,
    show_auto_top_up,
    show_top_up,
)
from farebox.billing.stripe.automatic.decisions import (
    find_auto_top_up,
    save_auto_top_up,
    spent_this_month,
)
from farebox.billing.stripe.checkout import PREFIX, open_checkout
from farebox.billing.stripe.errors import UnknownTopUp
from farebox.billing.stripe.portal import open_portal
from farebox.billing.stripe.top_ups import find_top_up, list_top_ups, order_top_up
from farebox.core.database import Database
from farebox.core.errors import BadRequest, Forbidden, NotFound
from farebox.core.ids import internal
from farebox.core.money import read_plain
from farebox.core.settings import Settings
from farebox.keys.dependencies import require_scope
from farebox.keys.service import Principal
from farebox.keys.tokens import Keyring
from farebox.tenants.audit import record
from farebox.tenants.members import role_in

_MAX_KEY = 255


class NotAnOwner(Forbidden):
    code = "not_an_owner"

    def __init__(self) -> None:
        super().__init__("Only a key of an owner of the organization may do this.")


async def provide_owner(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    keyring: NamedDependency[Keyring],
) -> Principal:
    """Who pays. Raises InvalidApiKey, InsufficientScope, and NotAnOwner."""
    principal = await require_scope("admin")(request, database, keyring)
    async with database.transaction(organization_id=principal.organization_id) as session:
        role = (
            None
            if principal.user_id is None
            else await role_in(session, principal.organization_id, principal.user_id)
        )
    if role != "owner":
        raise NotAnOwner
    return principal


@post(
    "/top_ups",
    status_code=201,
    operation_id="createTopUp",
    summary="Order a top-up, to be paid on a page of Stripe's",
    opt={"documentation": ORDER_TOP_UP},
)
async def create_top_up(
    request: Request[Any, Any, Any],
    data: JSONBody[NewTopUp],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    account: NamedDependency[Account | None],
    owner: NamedDependency[Principal],
) -> TopUpShown:
    """The same `Idempotency-Key` gets the same top-up. Without one, an open one that is alike does."""
    stripe = switched_on(account)
    amount = read_amount(data.amount, "amount")
    async with database.meter_transaction() as session:
        row = await order_top_up(
            session,
            owner.organization_id,
            amount=amount,
            settings=settings,
            keeps_method=data.save_payment_method,
            client_key=_client_key(request),
        )
    return show_top_up(await open_checkout(database, stripe, settings, row))


@get(
    "/top_ups",
    operation_id="listTopUps",
    summary="The organization's top-ups, newest first",
    opt={"documentation": TOP_UPS},
)
async def top_ups(
    database: NamedDependency[Database],
    account: NamedDependency[Account | None],
    owner: NamedDependency[Principal],
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    after: Annotated[str | None, QueryParameter(max_length=50)] = None,
) -> TopUpList:
    """Those by hand and the automatic ones; takes an owner's key with the scope `admin`."""
    switched_on(account)
    last = None if after is None else _internal(after)
    async with database.transaction(organization_id=owner.organization_id) as session:
        rows = await list_top_ups(session, owner.organization_id, limit=limit + 1, after=last)
    shown = [show_top_up(row) for row in rows[:limit]]
    return TopUpList(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(rows) > limit,
    )


@get(
    "/top_ups/{top_up_id:str}",
    operation_id="getTopUp",
    summary="A top-up",
    opt={"documentation": TOP_UP},
)
async def top_up(
    top_up_id: FromPath[str],
    database: NamedDependency[Database],
    account: NamedDependency[Account | None],
    owner: NamedDependency[Principal],
) -> TopUpShown:
    """As it stands here: Stripe is not asked."""
    switched_on(account)
    async with database.transaction(organization_id=owner.organization_id) as session:
        return show_top_up(await find_top_up(session, owner.organization_id, _internal(top_up_id)))


@get(
    "/auto_top_up",
    operation_id="getAutoTopUp",
    summary="Automatic top-up",
    opt={"documentation": AUTO_TOP_UP},
)
async def auto_top_up(
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    account: NamedDependency[Account | None],
    owner: NamedDependency[Principal],
) -> AutoTopUpShown:
    """As it is set, and what the month's automatic top-ups come to so far."""
    switched_on(account)
    async with database.transaction(organization_id=owner.organization_id) as session:
        row = await find_auto_top_up(session, owner.organization_id)
        spent = await spent_this_month(session, owner.organization_id)
    return show_auto_top_up(row, spent, settings.currency)


@post(
    "/auto_top_up",
    status_code=200,
    operation_id="setAutoTopUp",
    summary="Set automatic top-up",
    opt={"documentation": SAVE_AUTO_TOP_UP},
)
async def set_auto_top_up(
    data: JSONBody[NewAutoTopUp],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    account: NamedDependency[Account | None],
    owner: NamedDependency[Principal],
) -> AutoTopUpShown:
    """Saving it anew also ends a pause."""
    switched_on(account)
    amounts = {
        name: read_amount(getattr(data, name), name) for name in ("threshold", "amount", "monthly_ceiling")
    }
    async with database.meter_transaction() as session:
        row = await save_auto_top_up(
            session, owner.organization_id, settings, enabled=data.enabled, **amounts
        )
        await record(
            session,
            organization_id=owner.organization_id,
            actor_id=owner.user_id,
            action="auto_top_up.saved",
            target="auto_top_up",
            detail={"enabled": data.enabled} | {name: str(value) for name, value in amounts.items()},
        )
        spent = await spent_this_month(session, owner.organization_id)
    return show_auto_top_up(row, spent, settings.currency)


@post(
    "/billing_portal",
    status_code=201,
    operation_id="createBillingPortal",
    summary="Open Stripe's page for payment methods and invoices",
    opt={"documentation": BILLING_PORTAL},
)
async def billing_portal(
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    account: NamedDependency[Account | None],
    owner: NamedDependency[Principal],
) -> BillingPortal:
    """Payment methods, invoices and tax ids; nothing that is sold can be cancelled there."""
    url = await open_portal(database, switched_on(account), settings, owner.organization_id)
    return BillingPortal(url=url)


def read_amount(text: str, name: str) -> Decimal:
    """Raises InvalidAmount that names the field."""
    try:
        return read_plain(text)
    except ValueError:
        raise InvalidAmount("An amount is a plain decimal number such as `25.00`.", param=name) from None


def _internal(text: str) -> Any:
    try:
        return internal(PREFIX, text)
    except NotFound:
        raise UnknownTopUp from None


def _client_key(request: Request[Any, Any, Any]) -> str | None:
    """Raises BadRequest for what is no key."""
    keys = request.headers.getall("idempotency-key", [])
    if not keys:
        return None
    if len(keys) > 1 or not 0 < len(keys[0]) <= _MAX_KEY or not keys[0].isascii() or "\0" in keys[0]:
        raise BadRequest(
            f"`Idempotency-Key` is given once, as 1 to {_MAX_KEY} ASCII characters.",
            param="Idempotency-Key",
            code="invalid_value",
        )
    return keys[0]


router = Router(
    path="/v1/organization",
    route_handlers=[create_top_up, top_ups, top_up, auto_top_up, set_auto_top_up, billing_portal],
    dependencies={"owner": Provide(provide_owner)},
    tags=["Payments"],
)

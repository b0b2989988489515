"""Billing: what is left, promotional credit, top-ups by hand and by themselves."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from litestar import Response, get, post
from litestar.connection import Request
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.dependencies import SignedIn
from farebox.billing.models_stripe import AutoTopUp, TopUp
from farebox.billing.promotions import GrantLeft, grants_left
from farebox.billing.stripe.account import Account, switched_on
from farebox.billing.stripe.automatic.decisions import (
    find_auto_top_up,
    save_auto_top_up,
    spent_this_month,
)
from farebox.billing.stripe.checkout import PREFIX, open_checkout
from farebox.billing.stripe.errors import DeadLetter
from farebox.billing.stripe.portal import open_portal
from farebox.billing.stripe.settling import follow_top_up
from farebox.billing.stripe.top_ups import find_top_up, list_top_ups, order_top_up
from farebox.core.database import Database
from farebox.core.errors import BadRequest, Conflict, FareboxError, Forbidden, NotFound
from farebox.core.fair_threads import FairThreads
from farebox.core.ids import external, internal
from farebox.core.settings import Settings
from farebox.dashboard.filled_form import EMPTY, FilledForm, refused
from farebox.dashboard.forms import AutoTopUpForm, TopUpForm, fill_in, read_typed
from farebox.dashboard.frame import Frame, load_frame
from farebox.dashboard.pages import framed_page, redirect
from farebox.dashboard.parts import ROWS
from farebox.limits.models import MeterScope
from farebox.limits.service import get_limits
from farebox.tenants.audit import record

_AMOUNT = "Write an amount like 25.00."
_ADVICE = dict.fromkeys(("amount", "threshold", "monthly_ceiling"), _AMOUNT)

TopUpId = Annotated[str, QueryParameter(max_length=50)]


@dataclass(frozen=True)
class Funds:
    """What the page shows. `returned` is the top-up that somebody comes back from paying."""

    frame: Frame
    scope: MeterScope
    balance: Decimal
    grants: Sequence[GrantLeft]
    top_ups: Sequence[TopUp]
    automatic: AutoTopUp | None
    spent: Decimal
    returned: TopUp | None


@get("/billing")
async def billing_page(
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    account: NamedDependency[Account | None],
    top_up: TopUpId = "",
) -> Response[str]:
    """Who comes back from paying sees it at once: nobody waits for Stripe's webhook."""
    returned = await _returned(database, account, signed_in, top_up) if top_up else None
    return await _draw(database, settings, printers, account, signed_in, returned=returned)


@post("/billing/top-ups", status_code=303)
async def order(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    account: NamedDependency[Account | None],
) -> Response[Any]:
    """Two clicks order the same one: it is given again while it can be paid."""
    require_owner(signed_in)
    switched_on(account)
    typed = await read_typed(request)
    try:
        form = fill_in(typed, TopUpForm, _ADVICE)
        async with database.meter_transaction() as session:
            row = await order_top_up(
                session,
                signed_in.organization_id,
                amount=form.amount or Decimal(0),
                settings=settings,
                keeps_method=bool(form.save_payment_method),
            )
    except BadRequest as error:
        filled = refused(typed, error, TopUpForm)
        return await _draw(database, settings, printers, account, signed_in, filled, at="top-up")
    return redirect(f"/billing/top-ups/{external(PREFIX, row.id)}")


@get("/billing/top-ups/{top_up_id:str}")
async def to_checkout(
    top_up_id: FromPath[str],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    account: NamedDependency[Account | None],
) -> Response[Any]:
    """A page that leads on to Stripe's: a form may lead to pages of this site only (see `pages.HEADERS`)."""
    require_owner(signed_in)
    stripe = switched_on(account)
    async with database.transaction(organization_id=signed_in.organization_id) as session:
        row = await find_top_up(session, signed_in.organization_id, internal(PREFIX, top_up_id))
    row = await open_checkout(database, stripe, settings, row, signed_in.email)
    if row.url is None or row.state not in ("open", "requires_action"):
        return redirect(f"/billing?top_up={top_up_id}")
    return await _leave(database, settings, printers, signed_in, row.url, "Pay")


@post("/billing/auto-top-up", status_code=200)
async def save_automatic(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    account: NamedDependency[Account | None],
) -> Response[Any]:
    require_owner(signed_in)
    switched_on(account)
    typed, filled = await read_typed(request), EMPTY
    try:
        form = fill_in(typed, AutoTopUpForm, _ADVICE)
        async with database.meter_transaction() as session:
            await _save(session, signed_in, settings, form)
    except (BadRequest, Conflict) as error:
        filled = refused(typed, error, AutoTopUpForm)
    return await _draw(
        database, settings, printers, account, signed_in, filled, at="automatic", saved=filled is EMPTY
    )


@post("/billing/portal", status_code=200)
async def to_portal(
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    account: NamedDependency[Account | None],
) -> Response[Any]:
    """Stripe's page for payment methods, invoices and tax ids."""
    require_owner(signed_in)
    url = await open_portal(
        database, switched_on(account), settings, signed_in.organization_id, signed_in.email
    )
    return await _leave(database, settings, printers, signed_in, url, "Payment methods and invoices")


def may_pay(person: SignedIn) -> bool:
    return person.role == "owner"


def require_owner(person: SignedIn) -> None:
    if not may_pay(person):
        raise Forbidden("Only an owner of the organization may do this.", code="forbidden")


async def _save(session: AsyncSession, person: SignedIn, settings: Settings, form: AutoTopUpForm) -> None:
    await save_auto_top_up(
        session,
        person.organization_id,
        settings,
        enabled=bool(form.enabled),
        threshold=form.threshold or Decimal(0),
        amount=form.amount or Decimal(0),
        monthly_ceiling=form.monthly_ceiling or Decimal(0),
    )
    await record(
        session,
        organization_id=person.organization_id,
        actor_id=person.user_id,
        action="auto_top_up.saved",
        target="auto_top_up",
        detail={"enabled": bool(form.enabled), "monthly_ceiling": str(form.monthly_ceiling)},
    )


async def _returned(
    database: Database, account: Account | None, person: SignedIn, top_up: str
) -> TopUp | None:
    """Raises NotFound for another organization's."""
    async with database.transaction(organization_id=person.organization_id) as session:
        row = await find_top_up(session, person.organization_id, internal(PREFIX, top_up))
    if account is not None and row.state != "paid":
        # Should Stripe be away, the worker hears of it later.
        with suppress(FareboxError, DeadLetter):
            return await follow_top_up(database, account, row)
    return row


async def _load(session: AsyncSession, person: SignedIn, settings: Settings, returned: TopUp | None) -> Funds:
    organization_id: UUID = person.organization_id
    scope = await get_limits(session, organization_id, organization_id)
    return Funds(
        frame=await load_frame(session, person, settings),
        scope=scope,
        balance=scope.balance or Decimal(0),
        grants=await grants_left(session, organization_id, scope.promotional),
        top_ups=await list_top_ups(session, organization_id, limit=ROWS),
        automatic=await find_auto_top_up(session, organization_id),
        spent=await spent_this_month(session, organization_id),
        returned=returned,
    )


async def _draw(
    database: Database,
    settings: Settings,
    printers: FairThreads,
    account: Account | None,
    person: SignedIn,
    form: FilledForm = EMPTY,
    *,
    at: str = "",
    saved: bool = False,
    returned: TopUp | None = None,
) -> Response[str]:
    async with database.transaction(
        organization_id=person.organization_id, user_id=person.user_id
    ) as session:
        funds = await _load(session, person, settings, returned)
    return await framed_page(
        printers,
        "billing.html",
        status=form.status,
        frame=funds.frame,
        funds=funds,
        on=account is not None,
        pays=account is not None and may_pay(person),
        form=form,
        untouched=EMPTY,
        at=at,
        saved=saved,
    )


async def _leave(
    database: Database, settings: Settings, printers: FairThreads, person: SignedIn, url: str, title: str
) -> Response[str]:
    async with database.transaction(
        organization_id=person.organization_id, user_id=person.user_id
    ) as session:
        frame = await load_frame(session, person, settings)
    if not url.startswith(("https://", "http://")):
        raise NotFound("There is no such page.", code="not_found")
    return await framed_page(printers, "leaving.html", frame=frame, url=url, title=title)

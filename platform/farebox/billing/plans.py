"""Plans: prices, limits, a monthly fee, credit included in it and a credit line, under a name.

A plan is never changed: a new one follows, and customers move to it. Its fee is due for each UTC month, and
for what is left of the first one. It is drawn from what was paid in, else from the credit line; promotional
credit pays none. Where neither reaches, the included credit is not given, and the worker tries again.

Sessions come from `Database.meter_transaction`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidPrice, UnknownPlan
from farebox.billing.funds import check_amount, fee_references, grant_credit_line, lock_purse, pay
from farebox.billing.ledger import was_entered
from farebox.billing.models import Plan, PlanMembership
from farebox.billing.months import Month, month_of
from farebox.billing.promotions import grant
from farebox.core.database import Database, present
from farebox.core.ids import new_id
from farebox.core.money import is_currency, round_to_minor_unit
from farebox.core.settings import Settings
from farebox.limits.balances import plan_of, set_plan
from farebox.limits.ceilings import set_ceilings
from farebox.tenants.ceilings import CeilingChange

log = structlog.get_logger(__name__)


class PlanTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan consists of, beside its prices. A limit that is None is the setting's."""

    name: str
    currency: str
    monthly_fee: Decimal = Decimal(0)
    included_credit: Decimal = Decimal(0)
    credit_line: Decimal = Decimal(0)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


async def create_plan(session: AsyncSession, terms: PlanTerms) -> UUID:
    """Add a plan. Raises InvalidAmount, and InvalidPrice for an unknown currency or a name that is taken."""
    if not is_currency(terms.currency):
        raise InvalidPrice(f"`{terms.currency}` is no currency of ISO 4217.")
    for amount in (terms.monthly_fee, terms.included_credit, terms.credit_line):
        if amount:
            check_amount(amount, terms.currency, "What a plan costs or gives")
    if await session.scalar(select(Plan.id).where(Plan.name == terms.name)) is not None:
        raise InvalidPrice(
            f"There is a plan `{terms.name}` already; plans are not changed, a new one follows."
        )
    plan = Plan(id=new_id(), **msgspec.structs.asdict(terms))
    session.add(plan)
    await session.flush()
    return plan.id


async def retire_plan(session: AsyncSession, name: str) -> None:
    """Nobody new gets it; who has it keeps it. Raises UnknownPlan."""
    plan = await find_plan(session, name)
    await session.execute(update(Plan).where(Plan.id == plan.id).values(retired_at=await present(session)))


async def list_plans(session: AsyncSession) -> list[Plan]:
    return list(await session.scalars(select(Plan).order_by(Plan.name)))


async def find_plan(session: AsyncSession, name: str) -> Plan:
    """Raises UnknownPlan."""
    plan = await session.scalar(select(Plan).where(Plan.name == name))
    if plan is None:
        raise UnknownPlan(f"There is no plan `{name}`.")
    return plan


async def move_to_plan(
    session: AsyncSession, organization_id: UUID, name: str | None, settings: Settings
) -> None:
    """Give an organization a plan from now on, with its prices, limits and credit line; None takes it away.

    The fee is due at the worker's next turn. Raises UnknownPlan, NotFound, InvalidPrice for a plan that is
    retired, and InvalidAmount for one of another currency, or with a line lower than what is drawn.
    """
    plan = None if name is None else await find_plan(session, name)
    if plan is not None and plan.retired_at is not None:
        raise InvalidPrice(f"The plan `{plan.name}` is retired.")
    purse = await lock_purse(session, organization_id, plan.currency if plan is not None else None)
    if await plan_of(session, organization_id) == (plan.id if plan is not None else None):
        return  # as it is: its months go on
    currency = plan.currency if plan is not None else purse.currency
    if currency is not None:
        line = plan.credit_line if plan is not None else Decimal(0)
        await grant_credit_line(session, organization_id, amount=line, currency=currency)
    await set_plan(session, organization_id, plan.id if plan is not None else None)
    change = CeilingChange(
        max_requests_per_minute=plan.requests_per_minute if plan is not None else None,
        max_tokens_per_minute=plan.tokens_per_minute if plan is not None else None,
        max_concurrent_requests=plan.concurrent_requests if plan is not None else None,
    )
    await set_ceilings(session, organization_id, change, settings)
    session.add(
        PlanMembership(
            organization_id=organization_id,
            effective_from=await present(session),
            plan_id=plan.id if plan is not None else None,
        )
    )
    await session.flush()
    log.info("plan.changed", organization_id=str(organization_id), plan=name)


@dataclass(frozen=True)
class Share:
    """What of a month's fee and credit is due to somebody who came to a plan in it, or before."""

    fee: Decimal
    credit: Decimal


def share_of(plan: Plan, month: Month, since: datetime) -> Share:
    """By days: the day of coming counts whole. Rounded half-even to what the currency can be paid in."""
    days = (month.end - month.start).days
    left = days if since <= month.start else days - (since - month.start).days
    return Share(
        *(
            round_to_minor_unit(amount * left / days, plan.currency)
            for amount in (plan.monthly_fee, plan.included_credit)
        )
    )


async def charge_plan(session: AsyncSession, organization_id: UUID) -> bool:
    """Draw the fees that are due, the oldest month first, and give this month's credit; whether anything was.

    Once a month, whatever changed since. A month that nothing can pay holds up those after it.
    """
    await lock_purse(session, organization_id, None)  # so that nobody moves it to another plan meanwhile
    membership = await _membership(session, organization_id)
    if membership is None or membership.plan_id is None:
        return False
    plan = await session.get_one(Plan, membership.plan_id)
    since = membership.effective_from.astimezone(UTC)
    current, month, done = month_of(await present(session)), month_of(since), False
    while month <= current:
        paid = await _charge_month(session, organization_id, plan, month, since)
        if paid is None:
            break
        done = done or paid
        month = month.next
    return done


async def _charge_month(
    session: AsyncSession, organization_id: UUID, plan: Plan, month: Month, since: datetime
) -> bool | None:
    """Whether anything was drawn or given; None where nothing can pay."""
    share, reference = share_of(plan, month, since), f"{plan.name} plan, {month}"
    if await was_entered(session, organization_id, *fee_references(reference), _credit_of(reference)):
        return False
    if share.fee and not await pay(
        session,
        organization_id,
        amount=share.fee,
        currency=plan.currency,
        account=f"revenue:{plan.name} plan",
        reference=reference,
    ):
        return None
    if share.credit and month.end > await present(session):
        await grant(
            session,
            organization_id=organization_id,
            amount=share.credit,
            currency=plan.currency,
            reference=_credit_of(reference),
            expires_at=month.end,
        )
    return bool(share.fee or share.credit)


def _credit_of(reference: str) -> str:
    return f"{reference}, included credit"


async def charge_plans(database: Database) -> int:
    """The worker's sweep: what is due, an organization in each transaction; how many paid or were given."""
    async with database.meter_transaction() as session:
        organizations = list(await session.scalars(select(PlanMembership.organization_id).distinct()))
    charged = 0
    for organization_id in organizations:
        try:
            async with database.meter_transaction() as session:
                charged += await charge_plan(session, organization_id)
        except Exception:  # one customer's trouble is nobody else's
            log.exception("plan.failed", organization_id=str(organization_id))
    return charged


async def _membership(session: AsyncSession, organization_id: UUID) -> PlanMembership | None:
    query = (
        select(PlanMembership)
        .where(PlanMembership.organization_id == organization_id)
        .order_by(PlanMembership.effective_from.desc())
        .limit(1)
    )
    return await session.scalar(query)

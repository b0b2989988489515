"""What a past month would have come to under other prices: nothing is changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models import Plan, PlanMembership
from farebox.billing.months import Month
from farebox.billing.price_files import FiledPrice
from farebox.billing.terms import Terms
from farebox.core.money import charge
from farebox.usage.totals import UsageTotal, usage_by_organization


@dataclass(frozen=True)
class Repriced:
    """What one customer used of one model; `drafted` is None where the draft says nothing of it."""

    usage: UsageTotal
    drafted: Decimal | None

    @property
    def difference(self) -> Decimal:
        return Decimal(0) if self.drafted is None else self.drafted - self.usage.amount


async def reprice(
    session: AsyncSession, month: Month, draft: Sequence[FiledPrice], currency: str
) -> list[Repriced]:
    """Each customer's month at the draft's prices, beside what it was billed; by name and model.

    A month's tiers begin at its first token. Dates in the draft are of no account. Usage billed in another
    currency stays as it was. Raises InvalidPrice, InvalidAmount, NotFound.
    """
    book = {(each.model, each.organization_id, each.plan): each.terms(currency) for each in draft}
    plans = await _plan_names(session, month)
    used = await usage_by_organization(session, None, start=month.start, end=month.end)
    return [Repriced(each, _cost(each, _terms(book, each, plans.get(each.organization_id)))) for each in used]


def _terms(
    book: dict[tuple[str, UUID | None, str | None], Terms], used: UsageTotal, plan: str | None
) -> Terms | None:
    """The customer's own, else the plan's, else everybody's: as at admission."""
    keys = [(used.model, used.organization_id, None), (used.model, None, plan), (used.model, None, None)]
    terms = next((book[key] for key in keys if key in book), None)
    return terms if terms is not None and terms.currency == used.currency else None


def _cost(used: UsageTotal, terms: Terms | None) -> Decimal | None:
    if terms is None:
        return None
    return (
        terms.tariffs["input"].cost(used.input_tokens)
        + terms.tariffs["cached_input"].cost(used.cached_input_tokens)
        + terms.tariffs["output"].cost(used.output_tokens)
        + charge(used.items, terms.item_per_million)
    )


async def _plan_names(session: AsyncSession, month: Month) -> dict[UUID, str]:
    """The plans that the customers had when the month ended."""
    query = (
        select(PlanMembership.organization_id, Plan.name)
        .join(Plan, Plan.id == PlanMembership.plan_id, isouter=True)
        .where(PlanMembership.effective_from < month.end)
        .order_by(PlanMembership.effective_from)
    )
    last = {row.organization_id: row.name for row in await session.execute(query)}
    return {organization_id: name for organization_id, name in last.items() if name is not None}

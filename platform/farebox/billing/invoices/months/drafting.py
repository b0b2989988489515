"""What a month's document would say. Reads only; a month that is over gives the same draft for ever.

Sessions may be the organization's own or the meter's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.documents.document import InvoiceDocument, Line, Movements
from farebox.billing.invoices.months.lines import Sums, lines_of, sum_up
from farebox.billing.invoices.months.month import first_day, last_day
from farebox.billing.invoices.months.movements import Moved, change_by, drawn_by_requests, fees, moved
from farebox.billing.invoices.months.standing import Standing, standing
from farebox.billing.invoices.parties import customer_of, issuer_so_far
from farebox.billing.months import Month
from farebox.core.ids import external
from farebox.core.money import plain
from farebox.core.settings import Settings
from farebox.tenants.organizations import list_projects
from farebox.usage.monthly import usage_by_class

_NOTHING = Decimal(0)
_NAMED = ("top_up", "grant", "expiry", "fee")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A month's lines and sums, and how the balance moved: `used` by requests, `drawn` of it on the line."""

    month: Month
    currency: str
    lines: Sequence[Line]
    sums: Sums
    opening: Standing
    movements: Sequence[Moved]
    used: Decimal
    drawn: Decimal

    @property
    def closing(self) -> Standing:
        balance, receivable = self.opening.balance - self.used, self.opening.receivable + self.drawn
        for each in self.movements:
            balance, receivable = balance + each.change, receivable + each.drawn
        return Standing(balance, receivable)

    def is_invoice(self, credit_line: Decimal) -> bool:
        """Customers with a credit line get an invoice, those who pay ahead a statement."""
        drawn = self.sums.due - self.sums.rounding
        return bool(self.lines) and (credit_line > 0 or drawn != 0)


async def draft(session: AsyncSession, organization_id: UUID, month: Month, currency: str) -> Draft:
    """The month as the books have it now."""
    span = (month.start, month.end)
    # First, since of a month that is not over what comes meanwhile must not look as if the balance owed it.
    drawn = await drawn_by_requests(session, organization_id, currency, span)
    charged = await fees(session, organization_id, currency, month)
    used = await usage_by_class(session, organization_id, start=month.start, end=month.end, currency=currency)
    projects = await list_projects(session, organization_id, with_archived=True)
    lines = lines_of(used, charged, {each.id: each.name for each in projects}, currency)
    return Draft(
        month=month,
        currency=currency,
        lines=lines,
        sums=sum_up(lines, drawn + sum((each.drawn for each in charged), _NOTHING), currency),
        opening=await standing(session, organization_id, currency, month),
        movements=await moved(session, organization_id, currency, span),
        used=sum((each.amount for each in used), _NOTHING),
        drawn=drawn,
    )


async def document_of(
    session: AsyncSession, organization_id: UUID, drafted: Draft, settings: Settings, *, credit_line: Decimal
) -> InvoiceDocument:
    """The draft as a document, without a number and dates of its own."""
    customer, language = await customer_of(session, organization_id)
    currency, sums = drafted.currency, drafted.sums
    is_invoice = drafted.is_invoice(credit_line)
    return InvoiceDocument(
        kind="invoice" if is_invoice else "statement",
        number=None,
        organization_id=external("org", organization_id),
        period_start=first_day(drafted.month).isoformat(),
        period_end=last_day(drafted.month).isoformat(),
        issued_on=None,
        due_on=None,
        currency=currency,
        language=language or settings.invoice_language,
        issuer=issuer_so_far(settings),
        customer=customer,
        lines=list(drafted.lines),
        exact_total=plain(sums.exact, currency),
        total=plain(sums.total, currency),
        paid_from_balance=plain(sums.paid_from_balance if is_invoice else sums.total, currency),
        amount_due=plain(sums.due if is_invoice else _NOTHING, currency),
        balance=None if is_invoice else _movements(drafted),
        payment=settings.issuer.payment if is_invoice else None,
    )


def _movements(drafted: Draft) -> Movements:
    def written(amount: Decimal) -> str:
        return plain(amount, drafted.currency)

    others = [each for each in drafted.movements if each.kind not in _NAMED]
    return Movements(
        opening=written(drafted.opening.balance),
        top_ups=written(change_by(drafted.movements, "top_up")),
        grants=written(change_by(drafted.movements, "grant")),
        expiries=written(change_by(drafted.movements, "expiry")),
        usage=written(-drafted.used),
        fees=written(change_by(drafted.movements, "fee")),
        other=written(sum((each.change for each in others), _NOTHING)),
        closing=written(drafted.closing.balance),
    )

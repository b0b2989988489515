"""The lines of an invoice and their sums. Rounding happens here and nowhere else: once, on the line."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from farebox.billing.invoices.documents.document import Line
from farebox.billing.invoices.months.movements import Fee
from farebox.core.ids import external
from farebox.core.money import plain, round_to_minor_unit
from farebox.usage.monthly import MonthlySum


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Of an invoice: `due` is asked for, `rounding` is what that is above what was drawn on the line."""

    exact: Decimal
    total: Decimal
    paid_from_balance: Decimal
    due: Decimal
    rounding: Decimal


def usage_line(used: MonthlySum, project: str, currency: str) -> Line:
    return Line(
        description=f"{used.model}, {used.usage_class}",
        project_id=external("proj", used.project_id),
        project=project,
        model=used.model,
        usage_class=used.usage_class,
        quantity=_number(Decimal(used.quantity).scaleb(-6)),
        unit="1M items" if used.usage_class == "items" else "1M tokens",
        unit_price=None if used.unit_price is None else plain(used.unit_price, currency),
        exact_amount=plain(used.amount, currency),
        amount=plain(rounded(used.amount, currency), currency),
        account=f"revenue:{used.model}",
    )


def fee_line(fee: Fee, currency: str) -> Line:
    return Line(
        description=fee.description,
        quantity="1",
        unit="1",
        unit_price=plain(fee.amount, currency),
        exact_amount=plain(fee.amount, currency),
        amount=plain(rounded(fee.amount, currency), currency),
        account=fee.account,
    )


def lines_of(
    used: Iterable[MonthlySum], fees: Iterable[Fee], projects: Mapping[UUID, str], currency: str
) -> list[Line]:
    """Usage by project, model and class of tokens; then the fees."""
    usage = [
        usage_line(each, projects.get(each.project_id, external("proj", each.project_id)), currency)
        for each in used
    ]
    usage.sort(key=lambda line: (line.project or "", line.project_id or "", line.model or ""))
    return usage + [fee_line(each, currency) for each in fees]


def sum_up(lines: Sequence[Line], drawn: Decimal, currency: str) -> Sums:
    """`drawn` is what of the lines' exact amounts was used on the credit line; the balance has paid the rest.

    What the balance has paid counts as one more line with the sign turned. Nothing is due of a month in which
    nothing was drawn, however its lines were rounded; and what is due has the sign of what was drawn.
    """
    exact = sum((Decimal(line.exact_amount) for line in lines), Decimal(0))
    total = sum((Decimal(line.amount) for line in lines), Decimal(0))
    due = total - rounded(exact - drawn, currency)
    if due * drawn <= 0:
        due = Decimal(0)
    return Sums(exact=exact, total=total, paid_from_balance=total - due, due=due, rounding=due - drawn)


def rounded(amount: Decimal, currency: str) -> Decimal:
    """To what the currency can be paid in; zero has no sign."""
    return round_to_minor_unit(amount, currency) + 0


def _number(quantity: Decimal) -> str:
    """All digits, without an exponent or zeros at the end."""
    text = format(quantity, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

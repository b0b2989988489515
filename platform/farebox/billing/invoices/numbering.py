"""Numbers without gaps: each is taken in the transaction that uses it, and goes back with it."""

from typing import Literal

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.documents.document import DocumentKind
from farebox.billing.invoices.models import NumberSeries

SERIES: dict[DocumentKind, Literal["INV", "ST", "CN"]] = {
    "invoice": "INV",
    "statement": "ST",
    "credit_note": "CN",
}


async def next_number(session: AsyncSession, *, issuer: str | None, kind: DocumentKind, year: int) -> str:
    """The next of the issuer's series of a year: `INV-2026-000001`, with a code `ACME-INV-2026-000001`.

    The series' row stays locked until the transaction ends, so take it last, after the organization's scope.
    """
    series = SERIES[kind]
    number = await session.scalar(
        insert(NumberSeries)
        .values(issuer=issuer or "", series=series, year=year, last=1)
        .on_conflict_do_update(
            index_elements=["issuer", "series", "year"], set_={"last": NumberSeries.last + 1}
        )
        .returning(NumberSeries.last)
    )
    return "-".join(filter(None, (issuer, series, str(year), f"{number:06}")))

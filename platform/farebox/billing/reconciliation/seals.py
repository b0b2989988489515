"""The seals against the books that they were made of."""

from farebox.billing.reconciliation.books import MAX_NAMED, Books, Difference, Finding, told
from farebox.metering.seals.audit import audit_seals


async def seals(books: Books) -> Finding:
    """Each sealed hour's roots, put together anew from its events and amendments = its seal."""
    named: list[Difference] = []
    count = 0
    span = (books.organization_id, books.start, books.end)
    async for each in audit_seals(books.connection, *span):
        count += 1
        if count <= MAX_NAMED:
            of = {"hour": told(each.hour), "organization_id": told(each.organization_id), "what": each.what}
            named.append(Difference(of, {"sealed": each.sealed, "usage_events": each.found}))
    return Finding("seals", count, named)

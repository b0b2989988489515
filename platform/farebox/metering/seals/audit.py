"""Comparing the seals with the books: the chain, and each root put together anew."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from farebox.metering.seals.chain import GENESIS, HOUR, OrganizationRoot, close_hour, seal_of
from farebox.metering.seals.roots import Connection, organization_roots, used_hours

# Seals that are looked at together.
SPAN = timedelta(days=7)

_BOUNDS = "SELECT min(hour), max(hour) FROM usage_seal"
_SEALS = "SELECT hour, root, previous, seal FROM usage_seal WHERE hour >= $1 AND hour < $2 ORDER BY hour"
_BEFORE = "SELECT seal FROM usage_seal WHERE hour = $1"
_ORGANIZATIONS = """
SELECT hour, organization_id, entries, root FROM usage_organization_seal
WHERE hour >= $1 AND hour < $2 AND ($3::uuid IS NULL OR organization_id = $3)
ORDER BY hour, organization_id
"""


class SealDifference(NamedTuple):
    """What does not agree in an hour; `organization_id` is None for the hour as a whole."""

    hour: datetime
    organization_id: UUID | None
    what: str
    sealed: str
    found: str


async def audit_seals(
    connection: Connection,
    organization_id: UUID | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> AsyncIterator[SealDifference]:
    """Every difference between the seals of [start, end) and the books, of all organizations or of one."""
    first, last = await connection.fetchrow(_BOUNDS)
    if first is None:
        return
    first = max(first, start or first)
    until = min(last + HOUR, end or last + HOUR)
    previous = await connection.fetchval(_BEFORE, first - HOUR) or GENESIS
    while first < until:
        upto = min(first + SPAN, until)
        seals = {row["hour"]: row for row in await connection.fetch(_SEALS, first, upto)}
        sealed: dict[datetime, list[OrganizationRoot]] = {}
        for row in await connection.fetch(_ORGANIZATIONS, first, upto, organization_id):
            root = OrganizationRoot(row["organization_id"], row["entries"], row["root"])
            sealed.setdefault(row["hour"], []).append(root)
        used = await used_hours(connection, first, upto)
        for hour in (first + number * HOUR for number in range((upto - first) // HOUR)):
            seal, parts = seals.get(hour), sealed.get(hour, [])
            if seal is None:
                yield SealDifference(hour, None, "seal", "nothing", "a gap in the chain")
                continue
            if (seal["previous"], seal["seal"]) != (previous, seal_of(previous, hour, seal["root"])):
                yield SealDifference(hour, None, "seal", seal["seal"].hex(), "another chain")
            previous = seal["seal"]
            if organization_id is None and close_hour(hour, parts).root != seal["root"]:
                yield SealDifference(hour, None, "root", seal["root"].hex(), "other organizations' roots")
            if parts or hour in used:
                present = [each async for each in organization_roots(connection, hour, organization_id)]
                for difference in _compare_parts(hour, parts, present):
                    yield difference
        first = upto


def _compare_parts(
    hour: datetime, sealed: list[OrganizationRoot], present: list[OrganizationRoot]
) -> list[SealDifference]:
    before = {each.organization_id: each for each in sealed}
    now = {each.organization_id: each for each in present}
    return [
        SealDifference(hour, each, "entries", _described(before, each), _described(now, each))
        for each in sorted(before.keys() | now.keys())
        if before.get(each) != now.get(each)
    ]


def _described(roots: Mapping[UUID, OrganizationRoot], organization_id: UUID) -> str:
    root = roots.get(organization_id)
    return "nothing" if root is None else f"{root.entries} entries under {root.root.hex()}"

"""Comparing the seals with the books: the chain, each root put together anew, and what no seal covers."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from farebox.core.merkle import climb, leaf_hash
from farebox.metering.seals.chain import (
    GENESIS,
    HOUR,
    OrganizationRoot,
    close_hour,
    organization_leaf,
    seal_of,
)
from farebox.metering.seals.roots import Connection, first_entry, organization_roots, used_hours
from farebox.metering.seals.sealing import hour_of

# Seals that are looked at together.
SPAN = timedelta(days=7)
# How long after its end an hour may wait for its seal: many times what sealing takes.
MAX_WAIT = timedelta(hours=2)

_BOUNDS = "SELECT min(hour), max(hour) FROM usage_seal"
_SEALS = """
SELECT hour, entries, root, previous, seal FROM usage_seal WHERE hour >= $1 AND hour < $2 ORDER BY hour
"""
_BEFORE = "SELECT seal FROM usage_seal WHERE hour = $1"
_ORGANIZATIONS = """
SELECT hour, organization_id, entries, root, path FROM usage_organization_seal
WHERE hour >= $1 AND hour < $2 AND ($3::uuid IS NULL OR organization_id = $3)
ORDER BY hour, organization_id
"""
_UNCHAINED = """
SELECT date_trunc('hour', created_at, 'UTC') AS hour, organization_id, count(*) AS entries FROM (
    SELECT organization_id, created_at FROM usage_event
    UNION ALL
    SELECT organization_id, created_at FROM usage_amendment
) AS entry
WHERE created_at < $1 AND ($2::uuid IS NULL OR organization_id = $2)
    AND ($3::timestamptz IS NULL OR created_at >= $3) AND ($4::timestamptz IS NULL OR created_at < $4)
GROUP BY 1, 2 ORDER BY 1, 2
"""
# Of the transaction: that of the books that are seen.
_NOW = "SELECT now()"


class SealDifference(NamedTuple):
    """What does not agree in an hour; `organization_id` is None for the hour as a whole."""

    hour: datetime
    organization_id: UUID | None
    what: str
    sealed: str
    found: str


class _Part(NamedTuple):
    """An organization's part in an hour as it was sealed."""

    own: OrganizationRoot
    path: bytes


async def audit_seals(
    connection: Connection,
    organization_id: UUID | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> AsyncIterator[SealDifference]:
    """Every difference between the seals of [start, end) and the books, of all organizations or of one.

    What no seal covers is one, too: entries before the chain, and hours that wait for longer than MAX_WAIT.
    """
    first, last = await connection.fetchrow(_BOUNDS)
    async for each in _waiting(connection, last, start, end):
        yield each
    if first is None:
        return
    async for each in _before_the_chain(connection, first, organization_id, start, end):
        yield each
    upto = min(last + HOUR, end or last + HOUR)
    async for each in _compare_hours(connection, organization_id, max(first, start or first), upto):
        yield each


async def _compare_hours(
    connection: Connection, organization_id: UUID | None, first: datetime, until: datetime
) -> AsyncIterator[SealDifference]:
    """The hours in [first, until), all of which should have their seals."""
    previous = await connection.fetchval(_BEFORE, first - HOUR) or GENESIS
    while first < until:
        upto = min(first + SPAN, until)
        seals = {row["hour"]: row for row in await connection.fetch(_SEALS, first, upto)}
        sealed = await _parts(connection, first, upto, organization_id)
        used = await used_hours(connection, first, upto)
        for hour in (first + number * HOUR for number in range((upto - first) // HOUR)):
            seal, parts = seals.get(hour), sealed.get(hour, [])
            if seal is None:
                yield SealDifference(hour, None, "seal", "nothing", "a gap in the chain")
                continue
            for difference in _compare_seal(seal, previous, parts, whole=organization_id is None):
                yield difference
            previous = seal["seal"]
            if parts or hour in used:
                present = [each async for each in organization_roots(connection, hour, organization_id)]
                for difference in _compare_parts(hour, [each.own for each in parts], present):
                    yield difference
        first = upto


async def _waiting(
    connection: Connection, last: datetime | None, start: datetime | None, end: datetime | None
) -> AsyncIterator[SealDifference]:
    """The first of the hours that should have their seals by now, if there are any."""
    begins = await first_entry(connection) if last is None else last + HOUR
    if begins is None:
        return
    due = hour_of(await connection.fetchval(_NOW) - MAX_WAIT)
    waiting, until = max(hour_of(begins), start or begins), min(due, end or due)
    if waiting < until:
        hours = (until - waiting) // HOUR
        yield SealDifference(waiting, None, "seal", "nothing", f"{hours} hours that wait for their seals")


async def _before_the_chain(
    connection: Connection,
    first: datetime,
    organization_id: UUID | None,
    start: datetime | None,
    end: datetime | None,
) -> AsyncIterator[SealDifference]:
    for row in await connection.fetch(_UNCHAINED, first, organization_id, start, end):
        found = f"{row['entries']} entries before the chain"
        yield SealDifference(row["hour"], row["organization_id"], "entries", "nothing", found)


async def _parts(
    connection: Connection, start: datetime, end: datetime, organization_id: UUID | None
) -> Mapping[datetime, list[_Part]]:
    """By hour, in the order of the organizations' ids."""
    sealed: dict[datetime, list[_Part]] = {}
    for row in await connection.fetch(_ORGANIZATIONS, start, end, organization_id):
        own = OrganizationRoot(row["organization_id"], row["entries"], row["root"])
        sealed.setdefault(row["hour"], []).append(_Part(own, row["path"]))
    return sealed


def _compare_seal(
    seal: Mapping[str, Any], previous: bytes, parts: Sequence[_Part], *, whole: bool
) -> Iterator[SealDifference]:
    """A seal against the one before and the organizations' parts, if these are all; each part's path."""
    hour = seal["hour"]
    if (seal["previous"], seal["seal"]) != (previous, seal_of(previous, hour, seal["root"])):
        yield SealDifference(hour, None, "seal", seal["seal"].hex(), "another chain")
    if whole:
        yield from _compare_whole(seal, parts)
    for each in parts:
        # Not against the tree: of one organization alone that is not known.
        if (top := _top_of(hour, each)) != seal["root"].hex():
            yield SealDifference(hour, each.own.organization_id, "path", seal["root"].hex(), top)


def _compare_whole(seal: Mapping[str, Any], parts: Sequence[_Part]) -> Iterator[SealDifference]:
    """An hour against what closing it anew would have written."""
    hour = seal["hour"]
    closed = close_hour(hour, [each.own for each in parts])
    if closed.root != seal["root"]:
        yield SealDifference(hour, None, "root", seal["root"].hex(), "other organizations' roots")
    if closed.entries != seal["entries"]:
        yield SealDifference(hour, None, "number", str(seal["entries"]), str(closed.entries))


def _top_of(hour: datetime, part: _Part) -> str:
    """Where an organization's path leads, in hex."""
    try:
        return climb(leaf_hash(organization_leaf(hour, part.own)), part.path).hex()
    except ValueError:
        return "no path"


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

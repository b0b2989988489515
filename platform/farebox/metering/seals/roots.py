"""The organizations' roots of an hour, from the books.

An hour may have millions of entries: they are streamed, and their texts are hashed in Postgres.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from farebox.core.merkle import MerkleStream
from farebox.metering.seals.chain import HOUR, OrganizationRoot

# Hashing so many takes two milliseconds of whatever loop this runs in.
FETCHED_AT_ONCE = 2_000

# Events and amendments of an hour in the order of their organization's tree, of all or of one. Hashed before
# they are sorted: a hash is shorter than its row. The two drivers spell parameters differently.
LEAVES = r"""
SELECT {columns} FROM (
    SELECT organization_id, created_at, request_id, 0 AS kind,
        sha256('\x00'::bytea || convert_to(farebox_event_leaf(e), 'UTF8')) AS leaf
    FROM usage_event e WHERE created_at >= {start} AND created_at < {end}
    UNION ALL
    SELECT organization_id, created_at, request_id, 1,
        sha256('\x00'::bytea || convert_to(farebox_amendment_leaf(a), 'UTF8'))
    FROM usage_amendment a WHERE created_at >= {start} AND created_at < {end}
) AS entry
WHERE CAST({organization} AS uuid) IS NULL OR organization_id = {organization}
ORDER BY organization_id, created_at, request_id, kind
"""
_LEAVES = LEAVES.format(columns="organization_id, leaf", start="$1", end="$2", organization="$3")
_USED_HOURS = """
SELECT date_trunc('hour', created_at, 'UTC') AS hour FROM usage_event
WHERE created_at >= $1 AND created_at < $2
UNION
SELECT date_trunc('hour', created_at, 'UTC') FROM usage_amendment
WHERE created_at >= $1 AND created_at < $2
"""
_FIRST_ENTRY = """
SELECT least((SELECT min(created_at) FROM usage_event), (SELECT min(created_at) FROM usage_amendment))
"""

Connection: TypeAlias = "asyncpg.Connection[Any]"


async def organization_roots(
    connection: Connection,
    hour: datetime,
    organization_id: UUID | None = None,
    *,
    fetched_at_once: int = FETCHED_AT_ONCE,
) -> AsyncIterator[OrganizationRoot]:
    """Of each organization with entries in the hour, by id; or of one alone."""
    cursor = await connection.cursor(_LEAVES, hour, hour + HOUR, organization_id)
    present: UUID | None = None
    tree = MerkleStream()
    async for rows in _read_ahead(cursor, fetched_at_once):
        for owner, leaf in rows:
            if owner != present:
                if present is not None:
                    yield OrganizationRoot(present, tree.count, tree.finish())
                present, tree = owner, MerkleStream()
            tree.add(leaf)
    if present is not None:
        yield OrganizationRoot(present, tree.count, tree.finish())


async def _read_ahead(cursor: Any, number: int) -> AsyncIterator[list[asyncpg.Record]]:
    """So many rows at a time; while they are worked on, Postgres computes the next."""
    reading = asyncio.ensure_future(cursor.fetch(number))
    try:
        while rows := await reading:
            reading = asyncio.ensure_future(cursor.fetch(number))
            # Let it be sent: the loop is not asked again before these rows are worked off.
            await asyncio.sleep(0)
            yield rows
    finally:
        reading.cancel()


async def used_hours(connection: Connection, start: datetime, end: datetime) -> set[datetime]:
    """Those of the hours in [start, end) that have entries."""
    return {row["hour"] for row in await connection.fetch(_USED_HOURS, start, end)}


async def first_entry(connection: Connection) -> datetime | None:
    """When the books begin; None while they are empty."""
    moment: datetime | None = await connection.fetchval(_FIRST_ENTRY)
    return moment

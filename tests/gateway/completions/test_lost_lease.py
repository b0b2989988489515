"""A stream that another replica has settled meanwhile: it ends, and what was sent is billed."""

import asyncio
import json

import httpx
from sqlalchemy import text

from farebox.core.database import Database
from farebox.metering.models import Hold
from tests.gateway.completions.test_departures import LONG
from tests.gateway.servers import RunningServer
from tests.metering.factories import Books, read_books
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS, until

SWEEP = """
WITH expired AS (SELECT farebox_sweep(ARRAY[CAST(:id AS uuid)])) SELECT count(*) FROM expired
"""


async def sweep(database: Database, hold: Hold) -> None:
    """As another replica does when the lease has run out: in one transaction, since the owner lives."""
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE hold SET lease_expires_at = now() - interval '1 s' WHERE request_id = :id"),
            {"id": hold.request_id},
        )
        await session.execute(text(SWEEP), {"id": hold.request_id})


async def settled(database: Database, tenant: Tenant) -> Books:
    async with asyncio.timeout(WAIT_SECONDS):
        while not (books := await read_books(database, tenant.organization_id)).amendments:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return books


async def test_a_stream_whose_lease_is_lost_stops_and_is_billed_for_what_was_sent(
    http: httpx.AsyncClient, server: RunningServer, database: Database, tenant: Tenant
) -> None:
    meter = server.gateway.meter
    asked = LONG | {"stream": True}
    events: list[dict[str, object]] = []
    async with http.stream("POST", "/v1/chat/completions", json=asked) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line.removeprefix("data: ")))
            if len(events) == 5 and line:
                await server.call(meter.turn)
                (hold,) = (await read_books(database, tenant.organization_id)).holds
                assert hold.delivered
                await sweep(database, hold)
                await server.call(meter.turn)
                events.append({})
    assert events[-1]["error"]["type"] == "service_unavailable"  # type: ignore[index]
    assert "lost touch" in events[-1]["error"]["message"]  # type: ignore[index]
    books = await settled(database, tenant)
    (event,), (amendment,) = books.events, books.amendments
    assert (event.status, amendment.status) == ("interrupted", "cancelled")
    assert hold.output_tokens <= event.output_tokens < event.output_tokens + amendment.output_tokens < 1900
    assert books.scopes[tenant.organization_id].spent == event.amount + amendment.amount
    assert not books.holds
    await until(lambda: meter.live_requests == 0)

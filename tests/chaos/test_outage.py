"""Promise: with Postgres away nothing is lost, doubled or over-billed, and all goes on when it is back."""

import asyncio
from decimal import Decimal

import pytest

from tests.chaos.audit import audit
from tests.chaos.load import chat
from tests.chaos.stage import Stage


async def test_an_answer_that_postgres_kept_from_the_client_is_not_billed(stage: Stage) -> None:
    """Postgres hangs while a young request computes: its settlement lies in a socket, to be read later."""
    server = stage.server()
    await server.start()
    client = await stage.client(server, await stage.tenant(Decimal(100)))
    before = await client.call(chat("Tell me of the ferry.", 5, stream=False))
    asking = asyncio.create_task(client.call(chat("Tell me of the ferry.", 400, stream=False)))
    await stage.until_held(1)
    stage.postgres.hang()
    try:
        call = await asking
    finally:
        stage.postgres.resume()
    await stage.all_released()
    await audit(stage.database, stage.tenants, [before, call])


@pytest.mark.chaos
async def test_what_was_spooled_is_billed_although_others_swept_its_reservation(stage: Stage) -> None:
    """A replica dies with settlements in its spool, and comes back after their leases have run out."""
    dying, surviving = stage.server(), stage.server()
    await asyncio.gather(dying.start(), surviving.start())
    client = await stage.client(dying, await stage.tenant(Decimal(100)))
    prompt = "Tell me of the ferry."
    asking = [asyncio.create_task(client.call(chat(prompt, 2000, stream=stream))) for stream in (True, False)]
    await asyncio.sleep(1.5)  # until the reservations are on disk: the next turn of the meter sees to it
    await asyncio.to_thread(stage.postgres.shut_down)
    try:
        calls = await asyncio.gather(*asking)
    finally:
        await dying.kill()
        await asyncio.to_thread(stage.postgres.start)
    assert [call.fate for call in calls] == ["whole", "whole"]
    assert dying.events("metering.spooled")
    await stage.all_released()
    assert surviving.events("metering.swept")
    await dying.start()
    await audit(stage.database, stage.tenants, calls)

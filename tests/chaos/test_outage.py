"""Promise: with Postgres away nothing is lost, doubled or over-billed, and all goes on when it is back."""

import asyncio
import time
from decimal import Decimal

import pytest

from tests.chaos.audit import (
    REFUSAL_SECONDS,
    Findings,
    assert_billed_exactly,
    audit,
    event_of,
    is_told_to_come_back,
)
from tests.chaos.books import read_and_check_books
from tests.chaos.conftest import Pair
from tests.chaos.faults import CRASHED, GONE, HUNG, Outage
from tests.chaos.load import Call, Client, Load, chat, long_stream
from tests.chaos.processes import Server
from tests.chaos.stage import SEND_BUFFER_BYTES, Stage
from tests.waiting import until

PROMPT = "Tell me of the ferry."
# What the product promises.
RECOVERY_SECONDS = 3.0
# How long the load goes on before and after.
MARGIN_SECONDS = 1.0
NEWCOMERS = 8


async def live_through(stage: Stage, server: Server, outage: Outage, *, seconds: float) -> Findings:
    """Take Postgres away for so long under load of streams and whole answers, and bring it back."""
    back = asyncio.Event()
    load = Load(back.wait)
    await stage.populate(load, [server], tenants=3, clients=4, seed=7)
    newcomer = await stage.client(server, await stage.tenant(Decimal(100)))
    spooled = len(server.events("metering.spooled"))
    await asyncio.sleep(MARGIN_SECONDS)
    await stage.until_held(3)
    away = time.time()
    await asyncio.to_thread(outage.harm, stage.postgres)
    try:
        asking = [newcomer.call(chat(PROMPT, 5, stream=number % 2 == 0)) for number in range(NEWCOMERS)]
        turned_away, _ = await asyncio.gather(asyncio.gather(*asking), asyncio.sleep(seconds))
    finally:
        await asyncio.to_thread(outage.mend, stage.postgres)
    taken_again, recovered = await until_answered(newcomer)
    back.set()
    await asyncio.sleep(MARGIN_SECONDS)
    await load.stop()
    await stage.all_released()
    calls = [*load.calls, *turned_away, *taken_again]
    findings = await audit(stage.database, stage.tenants, calls)
    report(away, recovered, calls, findings)
    assert {call.fate for call in turned_away} == {"refused"}
    for call in calls:
        assert call.fate in ("whole", "left", "refused")
        assert call.fate != "refused" or (is_told_to_come_back(call) and call.seconds < REFUSAL_SECONDS)
    assert [call for call in load.calls if call.sent_at < away < call.ended_at and call.fate == "whole"]
    assert len(server.events("metering.spooled")) > spooled
    assert recovered < RECOVERY_SECONDS
    return findings


async def until_answered(client: Client) -> tuple[list[Call], float]:
    """Ask until the answer is no refusal; all calls, and the seconds that it took."""
    began = time.monotonic()
    calls: list[Call] = []
    while not calls or calls[-1].status == 503:
        calls.append(await client.call(chat(PROMPT, 5, stream=False)))
    return calls, time.monotonic() - began


def report(away: float, recovered: float, calls: list[Call], findings: Findings) -> None:
    refusals = [call.seconds for call in calls if call.fate == "refused"]
    waiting = [call for call in calls if call.sent_at < away < call.ended_at]
    print(  # noqa: T201  the record in docs/benchmarks/chaos.md is made of this
        f"\nrequests: {findings.fates.total()}, {dict(sorted(findings.fates.items()))}\n"
        f"usage events: {findings.events}\n"
        f"under way when Postgres went: {len(waiting)}, of which answered whole:"
        f" {sum(call.fate == 'whole' for call in waiting)}\n"
        f"slowest refusal {max(refusals):.2f} s; new work taken {recovered:.2f} s after Postgres was back"
    )


async def test_an_answer_that_postgres_kept_from_the_client_is_billed_once(stage: Stage, pair: Pair) -> None:
    """Postgres hangs while a young request computes: its settlement lies in a socket, to be read later."""
    client = await stage.client(pair[0], await stage.tenant(Decimal(100)))
    asking = [asyncio.create_task(client.call(chat(PROMPT, 3000, stream=stream))) for stream in (True, False)]
    await stage.until_held(2)
    stage.postgres.hang()
    try:
        calls = await asyncio.gather(*asking)
    finally:
        stage.postgres.resume()
    assert [call.fate for call in calls] == ["whole", "whole"]
    await stage.all_released()
    await audit(stage.database, stage.tenants, calls)


async def test_postgres_shut_down_under_load(stage: Stage, pair: Pair) -> None:
    await live_through(stage, pair[0], GONE, seconds=2.0)


@pytest.mark.chaos
@pytest.mark.parametrize("outage", [HUNG, GONE, CRASHED], ids=["hung", "shut-down", "crashed"])
async def test_postgres_away_for_five_seconds_under_load(stage: Stage, outage: Outage) -> None:
    server = stage.server()
    await server.start()
    await live_through(stage, server, outage, seconds=5.0)


@pytest.mark.chaos
async def test_what_a_dead_server_spooled_is_adopted_by_the_next(stage: Stage) -> None:
    server = stage.server(SEND_BUFFER_BYTES)
    await server.start()
    client = await stage.client(server, await stage.tenant(Decimal(100)))
    calls = await spool_and_die(stage, server, client)
    await server.start()
    await audit(stage.database, stage.tenants, calls)
    assert [entry["settlements"] for entry in server.events("metering.adopted")] == [2]


@pytest.mark.chaos
async def test_what_was_spooled_is_billed_although_others_swept_its_reservation(stage: Stage) -> None:
    """A replica dies with settlements in its spool, and comes back after their leases have run out.

    The whole answer, of which no checkpoint told, is billed late. The stream was settled by the other
    replica at its last checkpoint, and that is amended (ADR 16).
    """
    dying, surviving = stage.server(SEND_BUFFER_BYTES), stage.server()
    await asyncio.gather(dying.start(), surviving.start())
    client = await stage.client(dying, await stage.tenant(Decimal(100)))
    streamed, whole = await spool_and_die(stage, dying, client)
    await stage.all_released()
    assert {entry["outcome"] for entry in surviving.events("metering.swept")} == {"settled", "voided"}
    (before,) = await read_and_check_books(stage.database, stage.tenants)
    assert (before.request_id, before.status) == (streamed.request_id, "interrupted")
    assert before.output_tokens <= streamed.tokens
    for _ in range(2):
        await dying.start()
        events = await read_and_check_books(stage.database, stage.tenants)
        assert len(events) == 2
        assert_billed_exactly(whole, event_of(whole, events))
        assert_billed_exactly(streamed, event_of(streamed, events))
        await dying.kill()


async def spool_and_die(stage: Stage, server: Server, client: Client) -> tuple[Call, Call]:
    """Have a stream and a whole answer settled into the spool; kill the server, bring Postgres back."""
    away = asyncio.Event()
    streaming = asyncio.create_task(client.call(long_stream(), once_begun=lambda _: away.wait()))
    await stage.until_recorded()
    asking = asyncio.create_task(client.call(chat(PROMPT, 3000, stream=False)))
    await stage.until_held(2)
    await asyncio.to_thread(stage.postgres.shut_down)
    away.set()
    try:
        calls = await asyncio.gather(streaming, asking)
        await until(lambda: server.has_noted_leaving(calls[1].request_id))
    finally:
        await server.kill()
        await asyncio.to_thread(stage.postgres.start)
    assert [call.fate for call in calls] == ["whole", "whole"]
    assert server.events("metering.spooled")
    return calls

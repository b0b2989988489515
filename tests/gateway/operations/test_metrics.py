"""`/metrics`, scraped from a running server while it works."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, func, update

from farebox.billing.models import Reconciliation
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.outbox import OutboxItem, post
from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.metering.meter import Meter
from tests.conftest import migrate
from tests.gateway.conftest import MODEL
from tests.gateway.servers import ServerThread, make_settings
from tests.metering.factories import open_account, used
from tests.owner import owner_transaction
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS

ENGINE = {
    "farebox_engine_running_requests",
    "farebox_engine_waiting_requests",
    "farebox_engine_kv_blocks_free",
    "farebox_engine_kv_blocks",
    "farebox_engine_tokens_per_second",
    "farebox_engine_steps_total",
    "farebox_engine_failed_steps_total",
    "farebox_engine_preemptions_total",
    "farebox_engine_draft_tokens_total",
    "farebox_engine_accepted_draft_tokens_total",
    "farebox_engine_discarded_tokens_total",
    "farebox_engine_busy_seconds_total",
    "farebox_engine_operator_seconds_total",
}


async def scrape(http: httpx.AsyncClient) -> dict[str, float]:
    """The samples of the test's model, and those that name no model."""
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name.startswith("farebox_engine"):
                assert sample.labels.keys() == {"model"}
            if sample.labels.get("model", MODEL) == MODEL:
                found[sample.name] = sample.value
    return found


def question(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}


async def test_an_idle_engine(http: httpx.AsyncClient) -> None:
    samples = await scrape(http)
    assert samples.keys() >= ENGINE
    assert samples["farebox_engine_kv_blocks"] >= samples["farebox_engine_kv_blocks_free"] > 0
    assert samples["farebox_spooled_settlements"] == 0
    assert "farebox_outbox_overdue_items" not in samples  # one for each topic that has any


async def test_jobs_that_are_overdue(http: httpx.AsyncClient, database: Database) -> None:
    topic = f"overdue {new_id()}"
    async with database.meter_transaction() as session:
        await post(session, topic, {})
        an_hour_ago = {"created_at": func.now() - timedelta(hours=1), "attempts": 3}
        due = {"next_attempt_at": func.now() + timedelta(hours=1)}
        await session.execute(update(OutboxItem).where(OutboxItem.topic == topic).values(an_hour_ago | due))
    answer = await http.get("/metrics")
    assert f'farebox_outbox_overdue_items{{topic="{topic}"}} 1.0' in answer.text
    async with database.meter_transaction() as session:
        await session.execute(delete(OutboxItem).where(OutboxItem.topic == topic))


async def test_counters_grow_with_an_answer(http: httpx.AsyncClient) -> None:
    before = await scrape(http)
    answer = await http.post("/v1/chat/completions", json=question(max_tokens=5))
    assert answer.status_code == 200
    after = await scrape(http)
    assert after["farebox_engine_steps_total"] > before["farebox_engine_steps_total"]
    assert after["farebox_engine_busy_seconds_total"] > before["farebox_engine_busy_seconds_total"]
    assert after["farebox_engine_failed_steps_total"] == before["farebox_engine_failed_steps_total"]


async def test_gauges_show_an_answer_under_way(http: httpx.AsyncClient) -> None:
    idle = await scrape(http)
    # 0 would end it; eight answers, so that some are still under way when a slow machine looks.
    long = question(max_tokens=1900, n=8, temperature=1.5, stream=True, logit_bias={"0": -100})
    async with http.stream("POST", "/v1/chat/completions", json=long) as answer:
        # Kept: an iterator that is let go of closes the connection.
        chunks = answer.aiter_bytes()
        await anext(chunks)
        busy = await scrape(http)
    assert busy["farebox_live_requests"] == idle["farebox_live_requests"] + 1
    assert busy["farebox_engine_running_requests"] > idle["farebox_engine_running_requests"]
    assert busy["farebox_engine_kv_blocks_free"] < idle["farebox_engine_kv_blocks_free"]
    async with asyncio.timeout(WAIT_SECONDS):  # the client has left: the server sees it and lets go
        while (await scrape(http))["farebox_live_requests"] != idle["farebox_live_requests"]:
            pass
    assert (await scrape(http))["farebox_engine_running_requests"] == 0


async def test_no_series_names_a_tenant(http: httpx.AsyncClient, tenant: Tenant) -> None:
    await http.post("/v1/chat/completions", json=question(max_tokens=1))
    text = (await http.get("/metrics")).text
    assert MODEL in text
    for identifier in (tenant.organization_id, tenant.project_id, tenant.key_id):
        assert identifier.hex not in text
        assert str(identifier) not in text


async def test_settlements_that_wait_for_postgres_are_counted(tmp_path: Path) -> None:
    """A server on a Postgres of its own, which goes away while a request is under way and comes back."""
    folder = tmp_path / "postgres"
    async with AsyncExitStack() as stack:
        postgres = await asyncio.to_thread(EmbeddedPostgres, folder)
        stack.push_async_callback(asyncio.to_thread, postgres.stop)
        await asyncio.to_thread(migrate, postgres.url)
        database = Database(postgres.url)
        account = await open_account(database)
        await database.close()
        thread = ServerThread(make_settings(tmp_path / "farebox"), postgres.url)
        stack.push_async_callback(asyncio.to_thread, thread.stop)
        server = await asyncio.to_thread(thread.start)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url))
        meter: Meter = server.app.state.meter
        grant = await server.call(lambda: meter.admit(account.admission()))
        await server.call(meter.turn)  # makes the reservation durable
        await asyncio.to_thread(postgres.stop)
        await server.call(lambda: meter.settle(grant, used(10, 5)))
        assert (await scrape(http))["farebox_spooled_settlements"] == 1
        await asyncio.to_thread(EmbeddedPostgres, folder)
        await server.call(meter.turn)
        samples = await scrape(http)
        assert samples["farebox_spooled_settlements"] == samples["farebox_live_requests"] == 0


async def test_the_last_reconciliation_is_told(http: httpx.AsyncClient, database: Database) -> None:
    """Whichever worker compared the books."""
    ended = datetime(2026, 3, 1, 3, 2, tzinfo=UTC)
    async with database.meter_transaction() as session:
        session.add(Reconciliation(day=date(9999, 1, 1), finished_at=ended, seconds=1.5, differences=3))
    found = await scrape(http)
    assert found["farebox_reconciliation_differences"] == 3
    assert found["farebox_reconciliation_timestamp_seconds"] == ended.timestamp()
    async with owner_transaction(database) as session:
        await session.execute(delete(Reconciliation))

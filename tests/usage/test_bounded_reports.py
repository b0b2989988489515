"""What reports read grows with time and keys, and not with the number of requests."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import Database
from farebox.keys.service import create_key
from farebox.keys.tokens import Keyring
from farebox.tenants.organizations import create_project
from farebox.usage.errors import MAX_RESULTS
from farebox.usage.parameters import CompletionsParameters, CostsParameters
from farebox.usage.queries import newest_requests
from farebox.usage.reports import completions_report, costs_report
from tests.owner import owner_transaction
from tests.tenants.factories import Tenant, make_keyring, make_tenant
from tests.usage.usage_history import add_history, add_usage

DAY = datetime(2025, 3, 1, tzinfo=UTC)
START = int(DAY.timestamp())
EVENTS = 30_000
HOURS = 24 * 10

# By this connection, since Postgres last collected the counts: never within a transaction.
_COUNTS = text("""
SELECT substring(relname FROM 'usage_[a-z]+') AS name,
    sum(seq_tup_read + idx_tup_fetch)::bigint AS rows, sum(seq_scan + idx_scan)::bigint AS scans
FROM pg_stat_xact_user_tables WHERE relname LIKE 'usage_%' GROUP BY name
""")

_MANY_ROWS = text("""
INSERT INTO usage_hour SELECT :organization, :day, gen_random_uuid(), gen_random_uuid(), 'demo',
    'USD', 1, 1, 1, 1, 1, 0, 0 FROM generate_series(1, :number)
""")


class Reads:
    """The rows read and the scans begun of each usage table while it is open, within one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._before: dict[str, tuple[int, int]] = {}
        self.rows: dict[str, int] = {}
        self.scanned: set[str] = set()

    async def __aenter__(self) -> "Reads":
        # Of tables as small as those of tests, Postgres may read all rows rather than an index.
        await self._session.execute(text("SET LOCAL enable_seqscan = off"))
        self._before = await self._counts()
        return self

    async def __aexit__(self, *_: object) -> None:
        for name, (rows, scans) in (await self._counts()).items():
            earlier_rows, earlier_scans = self._before.get(name, (0, 0))
            self.rows[name] = rows - earlier_rows
            if scans > earlier_scans:
                self.scanned.add(name)

    async def _counts(self) -> dict[str, tuple[int, int]]:
        return {name: (rows, scans) for name, rows, scans in await self._session.execute(_COUNTS)}


@pytest.fixture(scope="module")
async def keyring(database: Database) -> Keyring:
    return await make_keyring(database)


@pytest.fixture(scope="module")
async def grown(database: Database, keyring: Keyring) -> Tenant:
    """A key with 30,000 requests in ten days."""
    tenant = await make_tenant(database, keyring)
    await add_history(
        database,
        organization_id=tenant.organization_id,
        project_id=tenant.project_id,
        api_key_id=tenant.key_id,
        model="alpha",
        start=DAY,
        span=timedelta(hours=HOURS),
        number=EVENTS,
    )
    return tenant


@pytest.mark.parametrize("group_by", [["line_item"], ["line_item", "user_id"], [], ["project_id"]])
async def test_costs_are_read_from_the_hours(database: Database, grown: Tenant, group_by: list[str]) -> None:
    asked = CostsParameters(start_time=START, limit=180, group_by=group_by)  # type: ignore[arg-type]
    async with (
        database.transaction(organization_id=grown.organization_id) as session,
        Reads(session) as reads,
    ):
        report = await costs_report(session, grown.organization_id, asked)
    assert reads.scanned == {"usage_hour"}
    assert reads.rows["usage_hour"] == HOURS
    amounts = [each.amount.value for bucket in report.lay_out().data for each in bucket.results]
    assert sum(amounts) == EVENTS * Decimal("0.0003625")


@pytest.mark.parametrize(
    ("width", "limit", "rows"), [("1m", 1440, 1440), ("1h", 168, 168), ("1d", 31, HOURS)]
)
async def test_usage_is_read_from_sums(
    database: Database, grown: Tenant, width: str, limit: int, rows: int
) -> None:
    asked = CompletionsParameters(
        start_time=START,
        bucket_width=width,  # type: ignore[arg-type]
        limit=limit,
        group_by=["model"],
    )
    async with (
        database.transaction(organization_id=grown.organization_id) as session,
        Reads(session) as reads,
    ):
        report = await completions_report(session, grown.organization_id, asked)
    (table,) = reads.scanned
    assert table == ("usage_minute" if width == "1m" else "usage_hour")
    assert reads.rows[table] == rows
    requests = sum(each.num_model_requests for bucket in report.lay_out().data for each in bucket.results)
    assert requests == EVENTS * min(limit * page_seconds(width), HOURS * 3600) // (HOURS * 3600)


async def test_a_page_of_as_many_results_as_may_be_leaves_the_loop_alone(
    database: Database, keyring: Keyring
) -> None:
    """By the time that its thread computes: rows that the driver and the loop made of it took 120 ms."""
    tenant = await make_tenant(database, keyring)
    async with owner_transaction(database) as session:
        values = {"organization": tenant.organization_id, "day": DAY, "number": MAX_RESULTS}
        await session.execute(_MANY_ROWS, values)
    asked = CompletionsParameters(start_time=START, bucket_width="1d", limit=1, group_by=["api_key_id"])
    async with database.transaction(organization_id=tenant.organization_id) as session:
        before = time.thread_time()
        report = await completions_report(session, tenant.organization_id, asked)
        computed = time.thread_time() - before
    assert len(report.lay_out().data[0].results) == MAX_RESULTS
    assert computed < 0.04


def page_seconds(width: str) -> int:
    return {"1m": 60, "1h": 3600, "1d": 86_400}[width]


async def test_the_newest_requests_are_read_and_no_older_one(
    database: Database, keyring: Keyring, grown: Tenant
) -> None:
    """Also those of a project that has long been idle, in an organization that has not."""
    idle = await make_idle_project(database, keyring, grown)
    async with owner_transaction(database) as session:  # as autovacuum does, once a table has grown
        await session.execute(text("ANALYZE usage_event, api_key, project"))
    for project_id, found in ((None, 25), (grown.project_id, 25), (idle, 1)):
        tenant = grown.organization_id
        async with database.transaction(organization_id=tenant) as session, Reads(session) as reads:
            newest = await newest_requests(session, tenant, project_id=project_id, limit=25)
        assert len(newest) == found
        assert found <= reads.rows["usage_event"] <= found + 1


async def make_idle_project(database: Database, keyring: Keyring, tenant: Tenant) -> UUID:
    """A project whose one request is older than all others of the organization."""
    async with database.transaction(organization_id=tenant.organization_id) as session:
        project = await create_project(
            session, organization_id=tenant.organization_id, name="Idle", actor_id=None
        )
        key = await create_key(
            session, keyring, organization_id=tenant.organization_id, project_id=project.id, name="idle"
        )
    await add_usage(
        database,
        organization_id=tenant.organization_id,
        project_id=project.id,
        api_key_id=key.row.id,
        at=DAY - timedelta(days=1),
        output_tokens=1,
    )
    return project.id

"""`python -m tests.bench.reconcile`: how long it takes to compare the books, and how much memory.

Events of a month are written as settlement writes them, with their transfers and sums, in an embedded
Postgres; its hours are sealed, and then all is compared. They are spread over organizations, keys and models.
"""

import argparse
import asyncio
import os
import platform
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from farebox.billing.reconciliation.reconcile import reconcile
from farebox.core.database import Database
from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.metering.seals.sealing import seal_hours
from tests.conftest import migrate

MONTH = datetime(2025, 3, 1, tzinfo=UTC)
END = datetime(2025, 4, 1, tzinfo=UTC)
ORGANIZATIONS = 100
WRITTEN_AT_ONCE = 500_000

PARTITION = """
CREATE TABLE usage_event_2025_03 PARTITION OF usage_event FOR VALUES FROM ('2025-03-01Z') TO ('2025-04-01Z')
"""
TENANTS = """
INSERT INTO organization (id, name)
SELECT md5('organization ' || n)::uuid, 'Bench' FROM generate_series(0, $1 - 1) AS n
"""
# In the order of time, as settlement writes them.
EVENTS = """
INSERT INTO usage_event (request_id, created_at, admitted_at, organization_id, project_id, api_key_id,
    model_id, status, input_tokens, cached_input_tokens, output_tokens, price_id, input_per_million,
    cached_input_per_million, output_per_million, amount, currency)
SELECT md5('request ' || n)::uuid, moment, moment, md5('organization ' || who)::uuid,
    md5('project ' || who)::uuid, md5('key ' || who || n % 3)::uuid, 'model-' || n % 4, 'completed',
    100 + n % 900, 50, 200, md5('price')::uuid, 0.5, 0.25, 1.5,
    ((100 + n % 900) * 0.5 + 50 * 0.25 + 200 * 1.5) * 0.000001, 'USD'
FROM (
    SELECT n, $1::timestamptz + ($2::timestamptz - $1) * (n::float8 / $3) AS moment,
        abs(hashint8(n)) % $6 AS who
    FROM generate_series($4::bigint, $5::bigint) AS n
) AS numbered
"""
TRANSFERS = """
INSERT INTO ledger_transfer (id, organization_id, request_id, kind, debit_account, credit_account, amount,
    currency, created_at)
SELECT request_id, organization_id, request_id, 'usage', 'prepaid', 'revenue:' || model_id, amount, currency,
    created_at
FROM usage_event
"""
SUMS = """
INSERT INTO {table} (organization_id, {unit}, project_id, api_key_id, model_id, currency, requests,
    input_tokens, cached_input_tokens, output_tokens, amount {more})
SELECT organization_id, date_trunc('{unit}', created_at, 'UTC'), project_id, api_key_id, model_id, currency,
    count(*), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(amount) {zeros}
FROM usage_event GROUP BY 1, 2, 3, 4, 5, 6
"""
TOP_UPS = """
INSERT INTO ledger_transfer (id, organization_id, kind, debit_account, credit_account, amount, currency,
    reference)
SELECT id, id, 'top_up', 'cash', 'prepaid', 1000000, 'USD', 'bench' FROM organization
"""
BALANCES = """
UPDATE meter_scope s SET currency = 'USD', spend_month = '2025-03-01', spent = u.amount,
    balance = 1000000 - u.amount
FROM (SELECT organization_id, sum(amount) AS amount FROM usage_hour GROUP BY 1) u
WHERE s.id = u.organization_id
"""


async def write_books(url: str, events: int) -> None:
    """All that settlement would have written of so many events."""
    connection = await asyncpg.connect(url)
    await connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'")
    await connection.execute(PARTITION)
    await connection.execute(TENANTS, ORGANIZATIONS)
    for first in range(0, events, WRITTEN_AT_ONCE):
        last = min(first + WRITTEN_AT_ONCE, events) - 1
        await connection.execute(EVENTS, MONTH, END, events, first, last, ORGANIZATIONS)
    await connection.execute(TRANSFERS)
    hours = SUMS.format(
        table="usage_hour", unit="hour", more=", input_amount, cached_input_amount", zeros=", 0, 0"
    )
    await connection.execute(hours)
    await connection.execute(SUMS.format(table="usage_minute", unit="minute", more="", zeros=""))
    await connection.execute(TOP_UPS)
    await connection.execute(BALANCES)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def measure(url: str, events: int) -> None:
    began = time.monotonic()
    await write_books(url, events)
    say(f"{events:,} events written in {time.monotonic() - began:.0f} s")
    database = Database(url, clock=lambda: END + timedelta(hours=1))
    began = time.monotonic()
    hours = await seal_hours(database)
    say(f"{hours} hours sealed in {time.monotonic() - began:.1f} s")
    done = await reconcile(database)
    say(f"compared in {done.seconds:.1f} s, {done.differences} differences")
    await database.close()
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say(f"{kibibytes / 1024:.0f} MB of memory at most, all modules included")


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-reconcile", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where Postgres keeps its files")
    arguments = parser.parse_args()
    say(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as postgres,
    ):
        migrate(postgres.url)
        asyncio.run(measure(postgres.url, arguments.events))


if __name__ == "__main__":
    main()

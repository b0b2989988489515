"""`python -m tests.bench.exports`: how long an export of so many hourly sums takes, and how much memory.

The books are made by Postgres: customers with two projects, two keys and five models each, used in every
hour. The export runs in a process of its own. Its memory is that process's and that of the Postgres process
which serves it.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import psutil

from farebox.billing.exports.folder import export_to_folder
from farebox.billing.exports.manifest import Ask, Manifest
from farebox.core.postgres.embedded import EmbeddedPostgres
from tests.conftest import migrate

START = datetime(2026, 1, 1, tzinfo=UTC)
CUSTOMERS = 50
# Two projects, two keys in each, five models.
SUMS_AN_HOUR = CUSTOMERS * 2 * 2 * 5

_ACCOUNTS = """
INSERT INTO model (id, path, sha256, owned_by, context_length)
SELECT 'model-' || n, '/', '0', 'bench', 4096 FROM generate_series(1, 5) n;
INSERT INTO price (id, model_id, input_per_million, cached_input_per_million, output_per_million, currency,
    effective_from)
SELECT gen_random_uuid(), id, 0.5, 0.25, 1.5, 'USD', '2025-01-01' FROM model;
INSERT INTO organization (id, name) SELECT gen_random_uuid(), 'Customer ' || n FROM generate_series(1,
{customers}) n; INSERT INTO project (id, organization_id, name) SELECT gen_random_uuid(), o.id, 'Project ' ||
n FROM organization o CROSS JOIN generate_series(1, 2) n;
"""
_SUMS = """
INSERT INTO usage_hour (organization_id, hour, project_id, api_key_id, model_id, currency, requests,
input_tokens,
    cached_input_tokens, output_tokens, amount, input_amount, cached_input_amount)
SELECT p.organization_id, hour, p.id, k.id, 'model-' || m, 'USD', 10, 5000 + m, 1000, 2000,
    (5000 + m) * 0.0000005 + 1000 * 0.00000025 + 2000 * 0.0000015, (5000 + m) * 0.0000005, 1000 * 0.00000025
FROM generate_series(CAST($1 AS timestamptz), $2, interval '1 hour') hour
CROSS JOIN project p
CROSS JOIN (SELECT md5('key ' || n)::uuid AS id FROM generate_series(1, 2) n) k
CROSS JOIN generate_series(1, 5) m
LIMIT $3
"""
_TRANSFERS = """
INSERT INTO ledger_transfer (id, organization_id, kind, debit_account, credit_account, amount, currency,
created_at) SELECT gen_random_uuid(), organization_id, 'usage', 'prepaid', 'revenue:' || model_id, amount,
currency, hour FROM usage_hour
"""


async def make_books(url: str, sums: int) -> datetime:
    """As the tables' owner, who is bound by no policy for this. When the last hour ends."""
    end = START + timedelta(hours=-(-sums // SUMS_AN_HOUR))
    connection = await asyncpg.connect(url)
    for table in ("organization", "project", "price", "usage_hour", "ledger_transfer", "meter_scope"):
        await connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    await connection.execute(_ACCOUNTS.format(customers=CUSTOMERS))
    await connection.execute(_SUMS, START, end - timedelta(hours=1), sums, timeout=3600)
    await connection.execute(_TRANSFERS, timeout=3600)
    for table in ("organization", "project", "price", "usage_hour", "ledger_transfer", "meter_scope"):
        await connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    await connection.execute("VACUUM ANALYZE", timeout=3600)
    await connection.close()
    return end


@dataclass
class Load:
    """Of a process: the most MiB that it had to itself, and its seconds of CPU."""

    mib: float = 0.0
    cpu: float = 0.0

    def look(self, process: psutil.Process | None) -> None:
        with suppress(psutil.Error):
            if process is not None:
                self.mib = max(self.mib, process.memory_full_info().uss / (1 << 20))
                self.cpu = max(self.cpu, sum(process.cpu_times()[:2]))


def measure(url: str, ask: Ask, folder: Path) -> tuple[float, Load, Load]:
    """Seconds, and the load of the exporting process and of Postgres's."""
    arguments = [sys.executable, "-m", "tests.bench.exports", "--export", url, str(folder)]
    begun = time.perf_counter()
    ours, theirs = Load(), Load()
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as process:  # noqa: S603
        if process.stdin is not None:
            process.stdin.write(msgspec.json.encode(ask))
            process.stdin.close()
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            ours.look(watched)
            theirs.look(backend())
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit("The export failed; what it said is above.")
    return time.perf_counter() - begun, ours, theirs


def backend() -> psutil.Process | None:
    """The Postgres process that copies."""
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or ()).rstrip().endswith(" COPY"):
            return process
    return None


def export(url: str, folder: Path) -> None:
    """In the process that is measured; the export is described on standard input."""
    ask = msgspec.json.decode(sys.stdin.buffer.read(), type=Ask)
    asyncio.run(export_to_folder(url, ask, folder, provider="Bench"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sums", type=int, default=1_000_000, help="Rows of usage_hour.")
    parser.add_argument("--formats", default="focus", help="Of the cost table, with commas.")
    parser.add_argument("--rows-per-part", type=int)
    parser.add_argument("--export", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.export:
        export(asked.export[0], Path(asked.export[1]))
        return
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory) / "data") as server:
        migrate(server.url)
        end = asyncio.run(make_books(server.url, asked.sums))
        for name in asked.formats.split(","):
            folder = Path(directory) / name
            cut = asked.rows_per_part
            ask = Ask(table="cost", format=name, start=START, end=end, rows_per_part=cut)
            seconds, ours, theirs = measure(server.url, ask, folder)
            made = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
            size = sum(part.bytes for part in made.parts) / (1 << 20)
            sys.stdout.write(
                f"{name}: {asked.sums:,} sums, {made.rows:,} rows,"
                f" {size:,.0f} MiB in {len(made.parts)} parts\n"
                f"  {seconds:.1f} s, {made.rows / seconds:,.0f} rows/s\n"
                f"  exporting: {ours.cpu:.1f} s of CPU, {ours.mib:.0f} MiB\n"
                f"  Postgres: {theirs.cpu:.1f} s of CPU, {theirs.mib:.0f} MiB\n"
            )


if __name__ == "__main__":
    main()

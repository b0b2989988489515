"""`farebox doctor`: is everything in order, and if not, how to mend it."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import asyncpg
import msgspec
import rich_click as click

from farebox.billing.service import active_models, current_price
from farebox.cli.data_directory import any_postgres
from farebox.cli.operation import answer_json, json_option
from farebox.cli.schema import PARTITION, current_revision, newest_revision
from farebox.core.database import Database, plain_dsn
from farebox.core.embedded_postgres import PostgresError
from farebox.core.errors import Unavailable
from farebox.core.logs import configure_logs
from farebox.core.settings import Settings, SettingsError, load_settings
from farebox.gateway.checkpoints import UnusableCheckpoint, describe_device, hash_checkpoint
from farebox.keys.tokens import Keyring

OLDEST_POSTGRES = 150_000
LEAST_FREE_GIB = 2
CLOCK_SECONDS = 2.0
PARTITIONS_AHEAD = timedelta(days=60)
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}

AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, Unavailable)


class Finding(msgspec.Struct, frozen=True):
    """One line of the report; `mend` says what to do unless all is well."""

    check: str
    state: Literal["ok", "warning", "failure"]
    detail: str
    mend: str | None = None


@dataclass(frozen=True)
class Patient:
    """What the checks look at."""

    settings: Settings
    url: str
    database: Database
    connection: "asyncpg.Connection[Any]"


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check database, migrations, signing keys, models, GPU, disk and clock.

    The exit status is 1 if something must be mended.
    """
    settings = load_settings()
    configure_logs("ERROR")
    findings = [*_examine_database(settings), _check_device(settings), _check_disk(settings)]
    if as_json:
        answer_json(findings)
    else:
        for finding in findings:
            _show(finding)
    context.exit(any(finding.state == "failure" for finding in findings))


def _examine_database(settings: Settings) -> list[Finding]:
    try:
        with any_postgres(settings) as url:
            return asyncio.run(_examine(settings, url))
    except (*AWAY, PostgresError) as error:
        mend = (
            "Check FAREBOX_DATABASE_URL and that its server takes connections from here."
            if settings.database_url
            else f"See {settings.data_dir / 'postgres' / 'log'}."
        )
        return [Finding("database", "failure", str(error) or type(error).__name__, mend)]


async def _examine(settings: Settings, url: str) -> list[Finding]:
    connection = await asyncpg.connect(plain_dsn(url), timeout=5)
    database = Database(url, pool_size=1)
    try:
        patient = Patient(settings, url, database, connection)
        findings = [
            await _check_version(patient),
            await _check_migrations(patient),
            await _check_clock(patient),
        ]
        if findings[1].state != "failure":
            rest: tuple[Callable[[Patient], Awaitable[Finding]], ...] = (
                _check_partitions,
                _check_signing_keys,
                _check_models,
            )
            findings += [await check(patient) for check in rest]
        return findings
    finally:
        await database.close()
        await connection.close()


async def _check_version(patient: Patient) -> Finding:
    number = int(await patient.connection.fetchval("SHOW server_version_num"))
    version = await patient.connection.fetchval("SHOW server_version")
    kind = "" if patient.settings.database_url else ", embedded"
    if number < OLDEST_POSTGRES:
        return Finding("database", "failure", f"Postgres {version}", "Use Postgres 15 or newer.")
    if await patient.connection.fetchval("SHOW fsync") == "off":
        return Finding("database", "failure", "fsync is off: a power cut loses bills", "Turn fsync on.")
    return Finding("database", "ok", f"Postgres {version}{kind}")


async def _check_migrations(patient: Patient) -> Finding:
    present, newest = await current_revision(patient.connection), newest_revision()
    if present != newest:
        detail = f"at revision {present or 'none'}, this version needs {newest}"
        return Finding("migrations", "failure", detail, "Run `farebox migrate`.")
    return Finding("migrations", "ok", f"at revision {newest}")


async def _check_partitions(patient: Patient) -> Finding:
    month = datetime.now(UTC) + PARTITIONS_AHEAD
    name = PARTITION.format(month)
    if await patient.connection.fetchval("SELECT to_regclass($1)", name) is None:
        detail = f"no partition of usage_event for {month:%B %Y}"
        return Finding("partitions", "warning", detail, "Run `farebox migrate`; it adds 24 months.")
    return Finding("partitions", "ok", f"usage_event reaches {month:%B %Y} and beyond")


async def _check_signing_keys(patient: Patient) -> Finding:
    try:
        keyring = await Keyring.load(patient.database, patient.settings)
    except SettingsError as error:
        return Finding("signing keys", "failure", str(error), "Set the former FAREBOX_SECRET_KEY again.")
    return Finding("signing keys", "ok", f"{len(keyring.jwks()['keys'])} verify, the newest signs")


async def _check_models(patient: Patient) -> Finding:
    problems = []
    async with patient.database.meter_transaction() as session:
        offers = await active_models(session)
        for offer in offers:
            if await current_price(session, offer.id) is None:
                problems.append(f"{offer.id} has no price")
            elif trouble := await asyncio.to_thread(_weights_trouble, Path(offer.path), offer.sha256):
                problems.append(f"{offer.id}: {trouble}")
    if problems:
        mend = "Run `farebox model price`, or `farebox model add` with the right folder."
        return Finding("models", "failure", "; ".join(problems), mend)
    if not offers:
        return Finding("models", "warning", "none on offer", "Run `farebox model add DIR --name NAME`.")
    return Finding("models", "ok", ", ".join(offer.id for offer in offers))


def _weights_trouble(folder: Path, sha256: str) -> str | None:
    try:
        return None if hash_checkpoint(folder) == sha256 else "its weights are not those that were added"
    except UnusableCheckpoint as error:
        return str(error)


async def _check_clock(patient: Patient) -> Finding:
    before = datetime.now(UTC)
    there = await patient.connection.fetchval("SELECT clock_timestamp()")
    here = before + (datetime.now(UTC) - before) / 2
    skew = abs((there - here).total_seconds())
    if skew > CLOCK_SECONDS:
        return Finding("clock", "failure", f"{skew:.1f} s from the database's", "Run NTP on both machines.")
    return Finding("clock", "ok", f"within {CLOCK_SECONDS:.0f} s of the database's")


def _check_device(settings: Settings) -> Finding:
    detail = describe_device()
    if settings.engine_device == "cuda" and detail.startswith("no GPU"):
        mend = "Install the GPU's driver and a CUDA build of torch, or set FAREBOX_ENGINE_DEVICE=cpu."
        return Finding("GPU", "failure", detail, mend)
    return Finding("GPU", "ok", detail)


def _check_disk(settings: Settings) -> Finding:
    directory = settings.data_dir
    free = shutil.disk_usage(directory if directory.exists() else directory.anchor).free / 2**30
    detail = f"{free:.0f} GiB free under {directory}"
    if free < LEAST_FREE_GIB:
        return Finding("disk", "failure", detail, "Free some: Postgres stops on a full disk.")
    return Finding("disk", "ok", detail)


def _show(finding: Finding) -> None:
    mark, colour = MARKS[finding.state]
    mend = f" → {finding.mend}" if finding.mend else ""
    click.echo(f"{click.style(mark, fg=colour)} {finding.check:<13} {finding.detail}{mend}")

"""What `farebox doctor` looks at in the database. Nothing is written, not even a first signing key."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from farebox.billing.invoices.months.month_end import billed_in, months_to_close
from farebox.billing.models import ModelOffer
from farebox.billing.offers import active_models
from farebox.billing.prices import current_price
from farebox.cli.doctor.findings import Finding
from farebox.cli.doctor.machine_checks import judge_clock
from farebox.cli.migrations import PARTITION, connect, current_revision, how_to_go_on, newest_revision
from farebox.cli.offering import inspect_offer
from farebox.core.database import Database
from farebox.core.outbox import count_given_up
from farebox.core.settings import Settings
from farebox.gateway.models.checkpoints import UnusableCheckpoint
from farebox.keys.sealing import development_secret_file, load_secret_box
from farebox.keys.signing import list_signing_keys, signing_pair

OLDEST_POSTGRES = 150_000
PARTITIONS_AHEAD = timedelta(days=60)


@dataclass(frozen=True)
class Installation:
    """What the checks look at: the settings, and the database that they lead to."""

    settings: Settings
    database: Database
    connection: "asyncpg.Connection[Any]"


async def examine(settings: Settings, url: str) -> list[Finding]:
    """All checks; those that need the tables only when the tables are there. Raises DatabaseAway."""
    connection = await connect(url)
    database = Database(url, pool_size=1)
    try:
        installation = Installation(settings, database, connection)
        migrations = await check_migrations(installation)
        findings = [await check_version(installation), migrations, await check_clock(installation)]
        if migrations.state == "ok":
            findings += [
                await check_partitions(installation),
                await check_signing_keys(installation),
                await check_outbox(installation),
                await check_invoices(installation),
                *await check_models(installation),
            ]
        return findings
    finally:
        await database.close()
        await connection.close()


async def check_version(installation: Installation) -> Finding:
    number = int(await installation.connection.fetchval("SHOW server_version_num"))
    version = await installation.connection.fetchval("SHOW server_version")
    kind = "" if installation.settings.database_url else ", embedded"
    if number < OLDEST_POSTGRES:
        return Finding("database", "failure", f"Postgres {version}", "Use Postgres 15 or newer.")
    if await installation.connection.fetchval("SHOW fsync") == "off":
        return Finding("database", "failure", "fsync is off: a power cut loses bills", "Turn fsync on.")
    return Finding("database", "ok", f"Postgres {version}{kind}")


async def check_migrations(installation: Installation) -> Finding:
    present, newest = await current_revision(installation.connection), newest_revision()
    if present != newest:
        detail = f"at revision {present or 'none'}, this version needs {newest}"
        return Finding("migrations", "failure", detail, how_to_go_on(present) or "Run `farebox migrate`.")
    return Finding("migrations", "ok", f"at revision {newest}")


async def check_clock(installation: Installation) -> Finding:
    before = datetime.now(UTC)
    there = await installation.connection.fetchval("SELECT clock_timestamp()")
    here = before + (datetime.now(UTC) - before) / 2
    return judge_clock((there - here).total_seconds())


async def check_partitions(installation: Installation) -> Finding:
    month = datetime.now(UTC) + PARTITIONS_AHEAD
    name = PARTITION.format(month)
    if await installation.connection.fetchval("SELECT to_regclass($1)", name) is None:
        detail = f"no partition of usage_event for {month:%B %Y}"
        return Finding("partitions", "warning", detail, "Run `farebox migrate`; it adds 24 months.")
    return Finding("partitions", "ok", f"usage_event reaches {month:%B %Y} and beyond")


async def check_signing_keys(installation: Installation) -> Finding:
    name = "signing keys"
    async with installation.database.transaction() as session:
        signing = await signing_pair(session)
        verifying = [pair for pair in await list_signing_keys(session) if pair.retired_at is None]
    if signing is None:
        mend = "Start the server, which makes one, or run `farebox keys rotate`."
        return Finding(name, "warning", "none yet", mend)
    settings = installation.settings
    secret_file = development_secret_file(settings)
    if not settings.secret_key and not settings.production and not secret_file.exists():
        mend = "Put it back or set FAREBOX_SECRET_KEY; if it is lost, run `farebox keys rotate`."
        return Finding(name, "failure", f"their secret, {secret_file}, is gone", mend)
    if not load_secret_box(settings).opens(signing.private_key_sealed, signing.kid):
        mend = (
            "Set the former FAREBOX_SECRET_KEY again, or run `farebox keys reseal`;"
            " if it is lost, run `farebox keys rotate`."
        )
        return Finding(name, "failure", "FAREBOX_SECRET_KEY does not open the one that signs", mend)
    return Finding(name, "ok", f"the newest signs, {len(verifying)} in all verify")


async def check_outbox(installation: Installation) -> Finding:
    async with installation.database.meter_transaction() as session:
        count, error = await count_given_up(session)
    if count:
        mend = "Mend the cause, often FAREBOX_SMTP_URL; then run `farebox worker --retry`."
        return Finding("outbox", "warning", f"given up {count}, such as: {error}", mend)
    return Finding("outbox", "ok", "nothing was given up")


async def check_invoices(installation: Installation) -> Finding:
    settings = installation.settings
    async with installation.database.meter_transaction() as session:
        months = await months_to_close(session, settings)
        billed = [month for month in months if await billed_in(session, month)]
    if not billed:
        return Finding("invoices", "ok", "every month that is over is closed")
    detail = f"{', '.join(map(str, billed))}: over, and not closed for everybody"
    if missing := settings.issuer.missing:
        mend = f"Set {' and '.join(missing)}: then the worker closes it."
        return Finding("invoices", "warning", detail, mend)
    mend = f"Run `farebox invoice close --month {billed[0]}`, which says why; is a worker running?"
    return Finding("invoices", "warning", detail, mend)


async def check_models(installation: Installation) -> list[Finding]:
    """One line for all models, or one for each that cannot be sold."""
    async with installation.database.meter_transaction() as session:
        offers = await active_models(session)
        priced = {offer.id: await current_price(session, offer.id) is not None for offer in offers}
    if not offers:
        mend = "Run `farebox model add DIR --name NAME`."
        return [Finding("models", "warning", "none on offer", mend)]
    findings = []
    for offer in offers:
        if not priced[offer.id]:
            mend = f"Run `farebox model price {offer.id} --input … --output …`."
            findings.append(Finding("models", "failure", f"{offer.id} has no price now", mend))
        if trouble := await asyncio.to_thread(_trouble, offer, offers):
            mend = f"Run `farebox model add DIR --name {offer.id}` with a whole folder, or remove it."
            findings.append(Finding("models", "failure", f"{offer.id}: {trouble}", mend))
    return findings or [Finding("models", "ok", ", ".join(offer.id for offer in offers))]


def _trouble(offer: ModelOffer, offers: list[ModelOffer]) -> str | None:
    try:
        found = inspect_offer(Path(offer.path), offer.id, offers)
    except UnusableCheckpoint as error:
        return str(error)
    return (
        None if found.sha256 == offer.sha256 else f"the weights in {offer.path} are not those that were added"
    )

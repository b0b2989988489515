"""Exports made into folders, and read back by other people's readers."""

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from farebox.billing.exports.folder import export_to_folder
from farebox.billing.exports.manifest import Ask, Manifest
from farebox.core.database import Database
from farebox.core.ids import external
from tests.billing.exports.history import START
from tests.metering.factories import Account


def ask(account: Account | None, table: str = "cost", format_: str = "focus", **more: Any) -> Ask:
    """Three days from START on."""
    organization = None if account is None else external("org", account.organization_id)
    given = {"start": START, "end": START + timedelta(days=3)} | more
    return Ask(table=table, format=format_, organization=organization, **given)


async def export(database: Database, asked: Ask, folder: Path, **more: Any) -> Manifest:
    return await export_to_folder(database.url, asked, folder, provider="Acme Models", **more)


def rows_of(folder: Path, made: Manifest) -> list[dict[str, Any]]:
    """All rows, in order. Of CSV each cell is text, and an empty one None."""
    rows: list[dict[str, Any]] = []
    for part in made.parts:
        path = folder / part.name
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                rows += [{name: cell or None for name, cell in row.items()} for row in csv.DictReader(file)]
        else:
            rows += [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    return rows

"""`farebox export` and `farebox margin`, as an operator types them."""

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.ids import internal
from tests.billing.exports.history import History
from tests.cli.commands import Farebox
from tests.metering.factories import Account

PERIOD = ("--from", "2026-03-30", "--to", "2026-04-01")


@pytest.fixture
async def customer(shop: Farebox, shop_database: Database) -> str:
    """An organization with a past; its id."""
    organization = str(shop.json("org", "create", "Past")["organization_id"])
    key = shop.json("key", "create", "--organization", organization)
    account = Account(
        internal("org", organization),
        internal("proj", key["project_id"]),
        internal("key", key["id"]),
        b"",
        "demo",
    )
    await History(shop_database, account).of_everything()
    return organization


@pytest.mark.parametrize(
    "words",
    [
        ("usage",), ("usage", "--format", "parquet"), ("cost",), ("cost", "--format", "focus"),
        ("cost", "--format", "focus-1.3", "--rows-per-part", "4"), ("cost", "--bytes-per-part", "900"),
        ("journal",), ("journal", "--format", "quickbooks"),
        ("journal", "--format", "xero", "--account", "cash=090", "--account", "revenue:Pro plan=200"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_export_lies_in_a_folder_with_its_manifest(
    shop: Farebox, customer: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    answer = shop.run("export", *words, *PERIOD, "--organization", customer, "--out", out)
    assert answer.status == 0, answer.err
    assert "they come to what the ledger says" in answer.out
    made = shop.json("export", *words, *PERIOD, "--organization", customer, "--out", out)
    assert made["rows"] > 0
    assert {part["name"] for part in made["parts"]} | {"manifest.json"} == {
        each.name for each in out.iterdir()
    }


async def test_a_whole_farebox_is_exported_without_an_organization(
    shop: Farebox, shop_database: Database, customer: str, tmp_path: Path
) -> None:
    """Of a day on which no other test has written."""
    organization_id = internal("org", customer)
    account = Account(organization_id, organization_id, organization_id, b"", "demo")
    await History(shop_database, account).use(-24 * 40)
    day = ("--from", "2026-02-18", "--to", "2026-02-18")
    made = shop.json("export", "usage", *day, "--out", tmp_path / "out")
    with (tmp_path / "out" / made["parts"][0]["name"]).open(newline="") as file:
        assert [row["organization_id"] for row in csv.DictReader(file)] == [customer]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("usage", "--from", "2026-04-02", "--to", "2026-04-01"), "end is not after its start"),
        (("usage", "--from", "2020-01-01"), "at most 366 days"),
        (("usage", "--from", "2026-04-01T00:30:00Z", "--to", "2026-04-02"), "whole hours"),
        (("usage", "--from", "2026-04-01", "--to", "2999-01-01"), "when they are over"),
        (("usage", "--format", "xls", *PERIOD), "is not one of"),
        (("journal", "--account", "cash", *PERIOD), "does not look like prepaid=2100"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    shop: Farebox, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in shop.run("export", *words, "--out", tmp_path / "out").refusal


async def test_books_that_do_not_close_are_not_exported(
    shop: Farebox, shop_database: Database, customer: str, tmp_path: Path
) -> None:
    async with shop_database.meter_transaction() as session:
        await session.execute(
            text("UPDATE usage_hour SET amount = amount + 1 WHERE organization_id = :organization"),
            {"organization": internal("org", customer)},
        )
    words = ("export", "cost", *PERIOD, "--organization", customer, "--out", tmp_path / "out")
    assert "in the ledger" in shop.run(*words).refusal
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_today_is_exported_up_to_the_last_whole_hour(shop: Farebox, tmp_path: Path) -> None:
    now = utc_now()
    start, today = f"{now - timedelta(days=2):%Y-%m-%d}", f"{now:%Y-%m-%d}"
    made = shop.json("export", "usage", "--from", start, "--to", today, "--out", tmp_path / "out")
    assert made["export"]["end"] <= f"{now:%Y-%m-%dT%H:00:00Z}"


async def test_revenue_stands_beside_what_devices_cost(
    shop: Farebox, shop_url: str, customer: str, tmp_path: Path
) -> None:
    await spend_device_time(shop_url, internal("org", customer), seconds=600)
    words = ("margin", "--from", "2026-03-30", "--to", "2026-03-31", "--organization", customer)
    rows = {row["model"]: row for row in shop.set(device_hour_cost="3").json(*words)}
    assert rows.keys() == {"demo", "another"}
    expected = {
        "day": "2026-03-30", "organization": "Past", "currency": "USD", "requests": 2, "tokens": 3065,
        "revenue": "0.004295", "device_seconds": "1200.000", "device_cost": "1.00", "profit": "-0.995705",
        "margin": "-231.8289", "model": "demo", "organization_id": customer,
    }  # fmt: skip
    assert rows["demo"] == expected
    free = shop.json(*words)
    assert {(row["device_cost"], row["margin"]) for row in free} == {("0.00", "1.0000")}
    assert shop.json(*words, "--out", tmp_path / "margin.csv") == {"rows": 2}
    with (tmp_path / "margin.csv").open(newline="") as file:
        assert [row["device_seconds"] for row in csv.DictReader(file)] == ["600.000", "1200.000"]
    assert "Nothing was used" in shop.run("margin", "--from", "2020-01-01", "--to", "2020-01-02").out


async def test_what_was_given_back_lowers_the_revenue_of_its_day_and_no_device_time(
    shop: Farebox, shop_url: str, shop_database: Database, customer: str
) -> None:
    organization_id = internal("org", customer)
    await spend_device_time(shop_url, organization_id, seconds=36)
    account = Account(organization_id, organization_id, organization_id, b"", "demo")
    await History(shop_database, account).give_back(26)
    words = ("margin", "--from", "2026-03-30", "--to", "2026-04-01", "--organization", customer)
    rows: list[dict[str, Any]] = shop.json(*words)
    demo = [(row["day"], row["revenue"], row["device_seconds"]) for row in rows if row["model"] == "demo"]
    assert demo == [("2026-03-30", "0.004295", "72.000"), ("2026-03-31", "-0.004295", "0.000")]
    assert {row["margin"] for row in rows if row["day"] == "2026-03-31"} == {None}


async def spend_device_time(url: str, organization_id: UUID, *, seconds: float) -> None:
    """Each request took so long; as the tables' owner, since no role may change an event."""
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER TABLE usage_event NO FORCE ROW LEVEL SECURITY")
    await connection.execute(
        "UPDATE usage_event SET device_seconds = $1 WHERE organization_id = $2", seconds, organization_id
    )
    await connection.execute("ALTER TABLE usage_event FORCE ROW LEVEL SECURITY")
    await connection.close()

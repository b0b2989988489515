"""FOCUS 1.2, column by column. `make focus-check` asks the specification's own validator."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farebox.billing.prices import set_price
from farebox.core.database import Database
from farebox.core.ids import external
from farebox.core.money import is_currency
from tests.billing.clock import Clock
from tests.billing.exports.history import START, History
from tests.billing.exports.reading import ask, export, rows_of

Row = dict[str, Any]

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
CATEGORIES = {"Usage", "Purchase", "Tax", "Credit", "Adjustment"}
FREQUENCIES = {"One-Time", "Recurring", "Usage-Based"}


def moment(text: str) -> datetime:
    assert MOMENT.fullmatch(text)
    return datetime.fromisoformat(text)


def number(text: str) -> Decimal:
    assert NUMBER.fullmatch(text)
    return Decimal(text)


def sold(row: Row) -> bool:
    """Usage and purchases have all that says what was sold for how much."""
    return row["ChargeCategory"] in ("Usage", "Purchase")


def product(row: Row, unit_price: str, cost: str) -> bool:
    if row[unit_price] is None or row["PricingQuantity"] is None:
        return not sold(row)
    made = number(row[unit_price]) * number(row["PricingQuantity"])
    return number(row[unit_price]) >= 0 and made == number(row[cost])


def keys_of(text: str | None) -> list[str]:
    return list(msgspec.json.decode(text, type=dict[str, str])) if text else []


def named(name: str) -> Callable[[Row], bool]:
    return lambda row: bool(row[name])


# What the specification asks of each column, of every row.
RULES: dict[str, Callable[[Row], bool]] = {
    "BilledCost": lambda row: number(row["BilledCost"]).is_finite(),
    "BillingAccountId": lambda row: row["BillingAccountId"].startswith("org_"),
    "BillingAccountName": named("BillingAccountName"),
    "BillingCurrency": lambda row: is_currency(row["BillingCurrency"]),
    "BillingPeriodStart": lambda row: (
        moment(row["BillingPeriodStart"]).day == 1
        and moment(row["BillingPeriodStart"]) <= moment(row["ChargePeriodStart"])
    ),
    "BillingPeriodEnd": lambda row: moment(row["BillingPeriodEnd"]) >= moment(row["ChargePeriodEnd"]),
    "ChargeCategory": lambda row: row["ChargeCategory"] in CATEGORIES,
    "ChargeClass": lambda row: row["ChargeClass"] is None,
    "ChargeDescription": named("ChargeDescription"),
    "ChargeFrequency": lambda row: (
        row["ChargeFrequency"] in FREQUENCIES
        and (row["ChargeCategory"] != "Purchase" or row["ChargeFrequency"] != "Usage-Based")
    ),
    "ChargePeriodStart": lambda row: moment(row["ChargePeriodStart"]) < moment(row["ChargePeriodEnd"]),
    "ChargePeriodEnd": lambda row: moment(row["ChargePeriodEnd"]).minute == 0,
    "ConsumedQuantity": lambda row: (
        (row["ConsumedQuantity"] is not None) == (row["ChargeCategory"] == "Usage")
    ),
    "ConsumedUnit": lambda row: (row["ConsumedUnit"] is None) == (row["ConsumedQuantity"] is None),
    "ContractedCost": lambda row: (
        number(row["ContractedCost"]) == number(row["BilledCost"]) or row["ChargeFrequency"] == "Recurring"
    ),
    "ContractedUnitPrice": lambda row: product(row, "ContractedUnitPrice", "ContractedCost"),
    "EffectiveCost": lambda row: row["ChargeCategory"] != "Purchase" or number(row["EffectiveCost"]) == 0,
    "InvoiceIssuerName": lambda row: row["InvoiceIssuerName"] == "Acme Models",
    "ListCost": lambda row: sold(row) or number(row["ListCost"]) == number(row["BilledCost"]),
    "ListUnitPrice": lambda row: product(row, "ListUnitPrice", "ListCost"),
    "PricingCategory": lambda row: (
        (row["PricingCategory"] is None) == (row["ChargeCategory"] == "Tax") or not sold(row)
    ),
    "PricingQuantity": lambda row: (row["PricingQuantity"] is not None) == sold(row),
    "PricingUnit": lambda row: (row["PricingUnit"] is None) == (row["PricingQuantity"] is None),
    "ProviderName": lambda row: row["ProviderName"] == "Acme Models",
    "PublisherName": lambda row: row["PublisherName"] == "Acme Models",
    "ServiceCategory": lambda row: row["ServiceCategory"] == "AI and Machine Learning",
    "ServiceName": named("ServiceName"),
    "ServiceSubcategory": lambda row: row["ServiceSubcategory"] == "Generative AI",
    "SkuId": lambda row: not sold(row) or bool(row["SkuId"]),
    "SkuMeter": lambda row: (row["SkuMeter"] is None) == (row["SkuId"] is None),
    "SkuPriceDetails": lambda row: all(key.startswith("x_") for key in keys_of(row["SkuPriceDetails"])),
    "SkuPriceId": lambda row: (row["SkuPriceId"] is None) == (row["SkuId"] is None),
    "SubAccountId": lambda row: row["SubAccountId"] is None or row["SubAccountId"].startswith("proj_"),
    "SubAccountName": lambda row: (row["SubAccountName"] is None) == (row["SubAccountId"] is None),
    "Tags": lambda row: all(key.startswith("farebox/") for key in keys_of(row["Tags"])),
}


@pytest.fixture
async def rows(database: Database, history: History, tmp_path: Path) -> list[Row]:
    await history.of_everything()
    return rows_of(tmp_path, await export(database, ask(history.account), tmp_path))


async def test_every_column_keeps_its_rules(rows: list[Row]) -> None:
    assert {row["ChargeCategory"] for row in rows} == CATEGORIES
    for row in rows:
        for name, rule in RULES.items():
            assert rule(row), (name, row)


async def test_own_columns_come_last_and_nothing_is_an_empty_text(rows: list[Row], tmp_path: Path) -> None:
    names = list(rows[0])
    own = [name.startswith("x_") for name in names]
    assert own == sorted(own)
    assert set(names) - set(RULES) == {"InvoiceId", *(name for name in names if name.startswith("x_"))}
    text = (tmp_path / "cost-focus-000001.csv").read_text()
    assert '""' not in re.sub(r'"[^"]+(?:""[^"]+)*"', "x", text)


async def test_every_hour_project_model_and_class_is_a_row(rows: list[Row], history: History) -> None:
    usage = [row for row in rows if row["x_Kind"] == "usage"]
    model = history.account.model_id
    columns = ("ChargePeriodStart", "x_Model", "x_TokenClass", "x_Tokens")
    assert [tuple(row[name] for name in columns) for row in usage] == [
        ("2026-03-30T01:00:00Z", model, "input", "700"),
        ("2026-03-30T01:00:00Z", model, "cached_input", "90"),
        ("2026-03-30T01:00:00Z", model, "output", "41"),
        ("2026-03-30T02:00:00Z", "another", "input", "1000"),
        ("2026-03-30T02:00:00Z", "another", "output", "17"),
        ("2026-03-30T02:00:00Z", model, "input", "1000"),
        ("2026-03-30T02:00:00Z", model, "output", "1234"),
    ]  # fmt: skip
    assert {row["SubAccountId"] for row in usage} == {external("proj", history.account.project_id)}
    assert usage[0]["PricingUnit"] == "1000 Tokens"
    assert number(usage[0]["PricingQuantity"]) == Decimal("0.7")


async def test_what_credit_pays_is_billed_when_it_is_bought(rows: list[Row]) -> None:
    moved = [(row["x_Kind"], number(row["BilledCost"])) for row in rows if row["SkuId"] == "prepaid-credit"]
    assert moved == [
        ("drawdown", Decimal("-0.003468")),
        ("top_up", 20), ("fee", -5), ("top_up", 10), ("application", -1), ("adjustment", Decimal("-0.5")),
        ("refund", -2),
    ]  # fmt: skip
    (given,) = [row for row in rows if row["x_Kind"] == "promotion"]
    assert (given["ChargeCategory"], number(given["EffectiveCost"])) == ("Credit", Decimal("-0.000827"))


async def test_the_list_price_is_the_public_one_and_the_contracted_what_was_paid(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.use(1, price=("0.25", "0.5", "2"))
    made = await export(database, ask(history.account), tmp_path)
    row = rows_of(tmp_path, made)[0]
    assert (number(row["ListUnitPrice"]), number(row["ContractedUnitPrice"])) == (
        Decimal("0.001"), Decimal("0.00025"),
    )  # fmt: skip
    assert (number(row["ListCost"]), number(row["BilledCost"])) == (Decimal("0.001"), Decimal("0.00025"))


async def test_the_list_price_is_that_of_its_hour(
    database: Database, history: History, clock: Clock, tmp_path: Path
) -> None:
    await history.use(1)
    async with database.meter_transaction() as session:
        await set_price(
            session, history.account.model_id, input_per_million=Decimal(9),
            cached_input_per_million=Decimal(9), output_per_million=Decimal(9), currency="USD",
            effective_from=clock.now + timedelta(days=1),
        )  # fmt: skip
    row = rows_of(tmp_path, await export(database, ask(history.account), tmp_path))[0]
    assert number(row["ListUnitPrice"]) == Decimal("0.001")


async def test_what_is_given_back_later_is_a_credit(
    database: Database, history: History, tmp_path: Path
) -> None:
    """The hour of the credit has less than nothing."""
    await history.use(1, output_tokens=9)
    await history.give_back(26)
    rows = rows_of(tmp_path, await export(database, ask(history.account), tmp_path))
    given = [row for row in rows if row["ChargeCategory"] == "Credit"]
    assert [(row["x_Tokens"], number(row["BilledCost"])) for row in given] == [
        ("-1000", Decimal("-0.001")), ("-9", Decimal("-0.000018")),
    ]  # fmt: skip
    for row in given:
        assert row["PricingQuantity"] is row["ConsumedQuantity"] is row["ListUnitPrice"] is None
        assert row["EffectiveCost"] == row["ListCost"] == row["ContractedCost"] == row["BilledCost"]
    assert sum(number(row["BilledCost"]) for row in rows) == 0


async def test_names_of_1_3_are_there_when_asked_for(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.use(1)
    made = await export(database, ask(history.account, format_="focus-1.3"), tmp_path)
    row = rows_of(tmp_path, made)[0]
    assert row["ServiceProviderName"] == row["HostProviderName"] == "Acme Models"


async def test_a_month_that_ends_within_the_export_splits_its_billing_periods(
    database: Database, history: History, tmp_path: Path
) -> None:
    for hours in (47.9, 48.1):
        await history.use(hours)
    rows = rows_of(tmp_path, await export(database, ask(history.account), tmp_path))
    periods = [
        (row["ChargePeriodStart"], row["BillingPeriodStart"]) for row in rows if row["x_Kind"] == "usage"
    ]
    assert START.day == 30
    assert periods == [
        ("2026-03-31T23:00:00Z", "2026-03-01T00:00:00Z"), ("2026-04-01T00:00:00Z", "2026-04-01T00:00:00Z"),
    ]  # fmt: skip

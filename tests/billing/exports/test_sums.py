"""The sum of every export equals the ledger, or there is no export."""

from decimal import Decimal
from pathlib import Path

import pytest

from farebox.billing.exports.errors import UnbalancedExport
from farebox.billing.exports.kinds import KINDS
from farebox.core.database import Database
from tests.billing.exports.history import HOUR, START, History
from tests.billing.exports.reading import ask, export, rows_of
from tests.metering.factories import open_account


@pytest.mark.parametrize(("table", "format_"), KINDS)
async def test_every_export_comes_to_what_the_ledger_says(
    database: Database, history: History, tmp_path: Path, table: str, format_: str
) -> None:
    await history.of_everything()
    made = await export(database, ask(history.account, table, format_), tmp_path)
    assert made.rows > 5
    assert (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(("table", "format_"), KINDS)
async def test_what_a_volume_price_pays_back_is_in_every_export(
    database: Database, history: History, tmp_path: Path, table: str, format_: str
) -> None:
    """As money and as credit (`billing.tier_rebates`), less than what was used."""
    await history.of_everything()
    revenue = f"revenue:{history.account.model_id}"
    await history.move(1.3, "adjustment", revenue, "prepaid", "0.0005")
    await history.move(1.4, "grant", revenue, "promotional", "0.0002")
    made = await export(database, ask(history.account, table, format_), tmp_path)
    assert (tmp_path / "manifest.json").exists()
    assert made.rows > 5


async def test_billed_is_what_was_paid_in_and_is_owed_and_effective_what_was_earned(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.of_everything()
    made = await export(database, ask(history.account), tmp_path)
    rows = rows_of(tmp_path, made)
    # 30 paid in, 0.5 and 2 given back; owed more: usage of the line, fee, tax, rounding, less what settled
    # it.
    line = Decimal("0.001034")
    billed = Decimal("27.5") + line + 1 - 1 + Decimal("0.19") + Decimal("0.001")
    assert sum(Decimal(row["BilledCost"]) for row in rows) == billed
    usage = Decimal("0.003468") + line
    assert sum(Decimal(row["EffectiveCost"]) for row in rows) == usage + 6 + Decimal("0.191")
    assert made.sums["USD"] == {
        "BilledCost": str(billed.normalize()),
        "EffectiveCost": str((usage + Decimal("6.191")).normalize()),
    }


@pytest.mark.parametrize(
    ("table", "format_", "said"),
    [
        ("usage", "csv", r"amount of USD comes to 0\.00101 in the rows, and to 0\.001010000001 in"),
        (
            "cost",
            "jsonl",
            r"amount of USD, usage comes to 0\.00101 in the rows, and to 0\.001010000001 in the",
        ),
        ("cost", "focus", r"BilledCost of USD comes to -0\.000000000001 in the rows"),
    ],
)
async def test_an_export_that_differs_from_the_ledger_is_not_finished(
    database: Database, history: History, tmp_path: Path, table: str, format_: str, said: str
) -> None:
    await history.use(1, output_tokens=5)
    await history.move(1.2, "usage", "prepaid", f"revenue:{history.account.model_id}", "0.000000000001")
    with pytest.raises(UnbalancedExport, match=said):
        await export(database, ask(history.account, table, format_), tmp_path)
    assert not (tmp_path / "manifest.json").exists()


async def test_currencies_are_kept_apart(database: Database, history: History, tmp_path: Path) -> None:
    await history.use(1)
    await history.use(1, currency="EUR", output_tokens=9)
    made = await export(database, ask(history.account, "usage", "csv"), tmp_path)
    assert made.sums == {"EUR": {"amount": "0.001018"}, "USD": {"amount": "0.001"}}


async def test_an_operator_exports_all_organizations_and_each_its_own(
    database: Database, history: History, tmp_path: Path
) -> None:
    other = History(database, await open_account(database, balance="0"))
    for each, hours in ((history, -2000.5), (other, -2000.25)):
        await each.use(hours)
    span = {"start": START - 2001 * HOUR, "end": START - 2000 * HOUR}
    whole = await export(database, ask(None, "usage", "csv", **span), tmp_path / "all")
    assert whole.rows == 2
    for each in (history, other):
        folder = tmp_path / each.account.model_id
        made = await export(database, ask(each.account, "usage", "csv", **span), folder)
        assert [row["model"] for row in rows_of(folder, made)] == [each.account.model_id]


@pytest.mark.parametrize("format_", ["csv", "focus"])
async def test_what_the_processor_keeps_is_shown_to_no_customer(
    database: Database, history: History, tmp_path: Path, format_: str
) -> None:
    await history.of_everything()
    made = await export(database, ask(history.account, "cost", format_), tmp_path)
    kinds = {row.get("kind") or row.get("x_Kind") for row in rows_of(tmp_path, made)}
    assert kinds >= {"usage", "top_up", "fee", "refund"}
    assert "processor_fee" not in kinds

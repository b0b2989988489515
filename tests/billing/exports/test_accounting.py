"""Journals for accounting programs: balanced, rounded once, and exact where it is checked."""

import csv
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farebox.billing.exports.accounting import HEADS, Entry, Line
from farebox.billing.exports.folder import export_journal
from farebox.billing.exports.manifest import Manifest
from farebox.core.database import Database
from tests.billing.exports.history import START, History
from tests.billing.exports.reading import ask

AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=12)


async def journal(
    database: Database, history: History, program: str, folder: Path, **codes: str
) -> tuple[Manifest, list[dict[str, str]]]:
    made = await export_journal(
        database.url, ask(history.account, "journal", program), folder, provider="Acme", codes=codes
    )
    with (folder / made.parts[0].name).open(newline="") as file:
        return made, list(csv.DictReader(file))


@given(st.lists(st.tuples(st.sampled_from("abcdef"), AMOUNTS), max_size=20))
def test_an_entry_balances_after_rounding(transfers: list[tuple[str, Decimal]]) -> None:
    """Each transfer goes out of one account and into another."""
    lines = [
        line
        for account, amount in transfers
        for line in (Line(account, amount, Decimal(0)), Line("other", Decimal(0), amount))
    ]
    rounded = list(Entry(START.date(), "USD", lines).rounded())
    assert sum(line.debit - line.credit for line in rounded) == 0
    for line in rounded:
        assert min(line.debit, line.credit) == 0 < max(line.debit, line.credit)
        assert (line.debit + line.credit).as_tuple().exponent == -2
    over = sum((line.debit + line.credit for line in rounded if line.account == "rounding"), Decimal(0))
    assert over <= Decimal("0.005") * len(lines)


async def test_quickbooks_gets_an_entry_a_day_that_balances(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.of_everything()
    await history.move(30, "top_up", "cash", "prepaid", "7.005", reference="r")
    made, rows = await journal(database, history, "quickbooks", tmp_path, prepaid="Deferred revenue")
    assert list(rows[0]) == HEADS["quickbooks"]
    by_day: dict[str, Any] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    for row in rows:
        by_day[row["*JournalDate"]][0] += Decimal(row["*Debits"] or 0)
        by_day[row["*JournalDate"]][1] += Decimal(row["*Credits"] or 0)
    assert len(by_day) == 2
    assert all(debit == credit for debit, credit in by_day.values())
    assert {row["*AccountName"] for row in rows if row["Description"] == "prepaid"} == {"Deferred revenue"}
    assert made.sums["USD"]["debit"] == made.sums["USD"]["credit"] == "53.481329"


async def test_xero_gets_debits_above_zero_and_credits_below(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.move(1, "top_up", "cash", "prepaid", "20", reference="r")
    _, rows = await journal(database, history, "xero", tmp_path, cash="090", prepaid="800")
    assert [(row["*AccountCode"], row["*Amount"]) for row in rows] == [("090", "20.00"), ("800", "-20.00")]
    assert list(rows[0]) == HEADS["xero"]


async def test_an_account_that_looks_like_a_formula_is_none(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.move(1, "top_up", "cash", "prepaid", "20", reference="r")
    _, rows = await journal(database, history, "xero", tmp_path, cash="=cash()")
    assert rows[0]["*AccountCode"] == "'=cash()"


async def test_a_journal_without_transfers_has_a_head(
    database: Database, history: History, tmp_path: Path
) -> None:
    made, rows = await journal(database, history, "quickbooks", tmp_path)
    assert (made.rows, rows) == (0, [])

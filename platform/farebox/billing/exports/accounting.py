"""The journal in the shapes that QuickBooks Online and Xero import: one balanced entry a day.

Both take amounts in what the currency can be paid in. Each line is rounded half to even; what that leaves
over is a line of its own on the account `rounding`, so that each entry balances. The exact sums are checked
against the ledger as for every export, and are in the manifest.

Columns are those of the programs' own templates: QuickBooks' import of journal entries (an account's name,
debits and credits apart), Xero's of manual journals (an account's code, debits above zero and credits below
it).
"""

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import asyncpg

from farebox.billing.exports.cells import Cell, csv_lines
from farebox.billing.exports.errors import InvalidExport
from farebox.billing.exports.layouts.layout import Source
from farebox.billing.exports.layouts.plain import JOURNAL_LINES
from farebox.billing.exports.query import plain_text
from farebox.billing.exports.stream import Part, Place
from farebox.billing.exports.tally import DECIMALS, Sums
from farebox.core.money import round_to_minor_unit

Program = Literal["quickbooks", "xero"]

HEADS: dict[Program, list[str]] = {
    "quickbooks": [
        "*JournalNo", "*JournalDate", "*Currency", "Memo", "*AccountName", "*Debits", "*Credits",
        "Description",
    ],
    "xero": ["*Narration", "*Date", "Description", "*AccountCode", "*TaxRate", "*Amount"],
}  # fmt: skip
_AHEAD = 500


@dataclass(frozen=True)
class Line:
    """What went into an account on a day, or out of it."""

    account: str
    debit: Decimal
    credit: Decimal


@dataclass(frozen=True)
class Entry:
    """All lines of a day in one currency."""

    day: date
    currency: str
    lines: Sequence[Line]

    def rounded(self) -> Iterator[Line]:
        """Lines in what the currency can be paid in, and one more that makes them balance."""
        over = Decimal(0)
        for line in self.lines:
            debit, credit = (round_to_minor_unit(each, self.currency) for each in (line.debit, line.credit))
            over += debit - credit
            if debit or credit:
                yield Line(line.account, debit, credit)
        if over:
            yield Line("rounding", max(-over, Decimal(0)), max(over, Decimal(0)))


def program_of(format_: str) -> Program:
    """Raises InvalidExport."""
    for program in HEADS:
        if program == format_:
            return program
    raise InvalidExport(f"Journals are made for {', '.join(HEADS)}.", param="format")


async def entries(connection: "asyncpg.Connection[Any]", source: Source) -> AsyncIterator[Entry]:
    """Day by day, as the ledger has them."""
    values = (source.period.start, source.period.end, source.organization_id)
    day: tuple[date, str] | None = None
    lines: list[Line] = []
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(plain_text(JOURNAL_LINES), *values, prefetch=_AHEAD):
            if day != (row["day"], row["currency"]):
                if day is not None:
                    yield Entry(*day, lines)
                day, lines = (row["day"], row["currency"]), []
            lines.append(Line(row["account_name"], row["debit"], row["credit"]))
    if day is not None:
        yield Entry(*day, lines)


async def write_journal(
    connection: "asyncpg.Connection[Any]",
    source: Source,
    program: Program,
    codes: Mapping[str, str],
    file: Any,
) -> Part:
    """All entries into one part. `codes` are the names or codes that the program has for our accounts."""
    digest, size, rows = hashlib.sha256(), 0, 0
    sums: Sums = {}
    head: list[Sequence[Cell]] = [HEADS[program]]
    async for entry in entries(connection, source):
        found = sums.setdefault((entry.currency,), [0, 0])
        for line in entry.lines:
            found[0] += int(line.debit.scaleb(DECIMALS))
            found[1] += int(line.credit.scaleb(DECIMALS))
        cells = [*head, *_cells(entry, program, codes)]
        rows += len(cells) - len(head)
        head = []
        data = csv_lines(cells)
        digest.update(data)
        size += len(data)
        file.write(data)
    if head:
        data = csv_lines(head)
        digest.update(data)
        size += len(data)
        file.write(data)
    return Part(1, rows, size, digest.hexdigest(), sums, Place())


def _cells(entry: Entry, program: Program, codes: Mapping[str, str]) -> Iterator[list[Cell]]:
    name = f"Farebox {entry.day:%Y-%m-%d} {entry.currency}"
    for line in entry.rounded():
        account = codes.get(line.account, line.account)
        if program == "quickbooks":
            yield [
                name, entry.day, entry.currency, "Farebox", account,
                line.debit or None, line.credit or None, line.account,
            ]  # fmt: skip
        else:
            yield [
                name, entry.day, line.account, account, "Tax Exempt",
                line.debit - line.credit,
            ]  # fmt: skip

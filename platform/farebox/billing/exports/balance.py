"""The check at the end of every export: what was written is what the ledger says."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import asyncpg

from farebox.billing.exports.errors import UnbalancedExport
from farebox.billing.exports.layouts.layout import Layout, Source
from farebox.billing.exports.tally import DECIMALS, Key, Sums, amount
from farebox.core.money import plain


async def ledger_sums(
    connection: "asyncpg.Connection[Any]", layout: Layout, source: Source, seconds: float
) -> Sums:
    """What the layout's measures come to in the ledger."""
    rows = await connection.fetch(
        layout.expected,
        source.period.start,
        source.period.end,
        source.organization_id,
        timeout=seconds,
    )
    keys = len(layout.keys)
    return {
        tuple(str(cell) for cell in list(row.values())[:keys]): [
            _units(cell) for cell in list(row.values())[keys:]
        ]
        for row in rows
    }


def check_balance(
    layout: Layout, written: Mapping[Key, Sequence[int]], ledger: Mapping[Key, Sequence[int]]
) -> None:
    """Raises UnbalancedExport that names what differs."""
    measures = [column.name for column in layout.measures]
    nothing = [0] * len(measures)
    for key in sorted({*written, *ledger}):
        pairs = zip(measures, written.get(key, nothing), ledger.get(key, nothing), strict=True)
        for name, ours, theirs in pairs:
            if ours != theirs:
                raise UnbalancedExport(
                    f"{name} of {', '.join(key)} comes to {plain(amount(ours))} in the rows,"
                    f" and to {plain(amount(theirs))} in the ledger."
                )


def _units(value: Decimal) -> int:
    return int(value.scaleb(DECIMALS))

"""What the audits of a run found, as a table: the record in docs/benchmarks/chaos.md is made of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.audit import Findings


@dataclass(frozen=True)
class Row:
    """One kind of fault: how often it came, how long the starts after it took, and what was found."""

    fault: str
    rounds: int
    kills: int
    starts: Sequence[float]
    findings: Findings


Column = tuple[str, Callable[[Row], object]]

HAPPENED: Sequence[Column] = (
    ("rounds", lambda row: row.rounds),
    ("kills", lambda row: row.kills),
    ("requests", lambda row: row.findings.fates.total()),
    ("answered whole", lambda row: fates(row, "whole")),
    ("left", lambda row: fates(row, "left")),
    ("cut off", lambda row: fates(row, "interrupted", "failed")),
    ("no server", lambda row: fates(row, "unsent")),
    ("503", lambda row: fates(row, "refused")),
    ("slowest 503", lambda row: f"{row.findings.slowest_refusal:.2f} s"),
    ("median start", lambda row: f"{quantile(row.starts, 0.5):.1f} s"),
)
BILLED: Sequence[Column] = (
    ("lost", lambda row: len(row.findings.lost)),
    ("doubled", lambda row: len(row.findings.doubled)),
    ("over-billed", lambda row: len(row.findings.over_billed)),
    ("500, or late 503", lambda row: len(row.findings.ill_refused)),
    ("credited", lambda row: row.findings.credited),
    ("tokens", lambda row: row.findings.tokens_delivered),
    ("unbilled", lambda row: row.findings.tokens_unbilled),
    ("median", lambda row: f"{quantile(row.findings.seconds_unbilled, 0.5):.2f} s"),
    ("most", lambda row: f"{quantile(row.findings.seconds_unbilled, 1.0):.2f} s"),
)


def fates(row: Row, *names: str) -> int:
    return sum(count for fate, count in row.findings.fates.items() if fate.split(",")[0] in names)


def quantile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def tables(rows: Sequence[Row]) -> str:
    """What happened, and what of it was billed, in Markdown."""
    return f"{_table(rows, HAPPENED)}\n\n{_table(rows, BILLED)}"


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    lines = [["fault", *(name for name, _ in columns)], ["---"] + ["---:"] * len(columns)]
    lines += [[row.fault, *(str(value(row)) for _, value in columns)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

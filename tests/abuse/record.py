"""The table, on the terminal and in docs/benchmarks/abuse.md."""

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.abuse.attackers import ATTACKERS
from tests.abuse.figures import MEMORY_MIB, P99_EXTRA_MS, P99_FACTOR, STALL_MS, Row
from tests.abuse.replicas import CALM_SECONDS
from tests.abuse.victim import RATE, TOKENS

RECORD = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "abuse.md"
HEAD = (
    "| attacker | replicas | p50 ms | p99 ms | 5xx | 429 | broken | readyz red | memory MiB | stall ms | |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)

_INTRODUCTION = f"""# What a paying tenant feels of others' attacks

`make abuse` (`{{command}}`), {{date}}, {{machine}},
load average {{load}}; embedded Postgres 18, tiny models, victim and attackers on the same cores. Other work
on the machine is in the figures: compare a row only with its own quiet stretch, measured just before on the
same servers.

The victim sends {RATE:.0f} chats of {TOKENS} tokens a second over all replicas, streamed and whole in turns,
whatever becomes of the answers; latencies run from when a request should have been sent. A row passes with
a p99 of at most {P99_FACTOR:.0f} × quiet + {P99_EXTRA_MS:.0f} ms, every answer whole and 200, `/readyz`
green, memory within {MEMORY_MIB:.0f} MiB of quiet, and no event loop that stood still for over
{STALL_MS:.0f} ms. A stall is by how much a timer on the loop was late, less what its thread waited for a
processor while nobody held the interpreter, and at most what its process computed meanwhile: a busy machine
does not count (but for a rest that the quiet stretch shows), a thread that holds the interpreter does.

**{{passed}} of {{rows}} rows pass.**{{missing}} Two values are quiet → attacked.
"""


def line(row: Row) -> str:
    """A row as Markdown; two values are quiet → attacked."""
    quiet, attacked = row.quiet, row.attacked
    sent = len(attacked.latencies)
    cells = [
        row.attacker,
        str(row.replicas),
        f"{quiet.p50_ms:.0f} → {attacked.p50_ms:.0f}",
        f"{quiet.p99_ms:.0f} → {attacked.p99_ms:.0f}",
        f"{attacked.server_errors} of {sent}",
        str(attacked.refused),
        str(attacked.broken),
        f"{attacked.reds} of {attacked.probes}, {attacked.slowest_probe_ms / 1000:.2f} s",
        f"+{row.grown_mib:.0f}",
        f"{quiet.stall_ms:.0f} → {attacked.stall_ms:.0f}",
        f"FAIL: {', '.join(row.faults)}" if row.faults else "PASS",
    ]
    return f"| {' | '.join(cells)} |"


def told(row: Row) -> str:
    """What the attacker was told."""
    answers = ", ".join(f"{count} × {what}" for what, count in row.told.items())
    notes = [f"; ended early: {row.stopped}"] if row.stopped else []
    notes += [f"; its work went on {CALM_SECONDS:.0f} s after it had left"] if row.restless else []
    return answers + "".join(notes)


def document(rows: Sequence[Row], planned: int) -> str:
    """The whole record, of a run that was to have so many rows."""
    done = {row.attacker for row in rows}
    parts = [
        _INTRODUCTION.format(
            command=" ".join(["python -m tests.abuse", *sys.argv[1:]]),
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            machine=f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}",
            load=", ".join(f"{value:.0f}" for value in os.getloadavg()),
            passed=sum(not row.faults for row in rows),
            rows=len(rows),
            missing=f" The run was ended before {planned - len(rows)} more." if planned > len(rows) else "",
        ),
        HEAD,
        *map(line, rows),
        "",
        "## The attackers",
        *(f"- **{each.name}**: {each.does}." for each in ATTACKERS.values() if each.name in done),
        "",
        "What they were told (by status, or what broke), on so many replicas:",
        *(f"- {row.attacker}, {row.replicas}: {told(row)}" for row in rows),
    ]
    return "\n".join(parts) + "\n"

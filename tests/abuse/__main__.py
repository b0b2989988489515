"""`make abuse`: attackers × what a paying victim feels of them, on one and on two replicas.

Exits with 1 if any row fails.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from farebox.core.database import Database
from farebox.core.logs import configure_logs
from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.core.settings import Settings
from farebox.keys.tokens import Keyring
from tests.abuse import record
from tests.abuse.attackers import ATTACKERS
from tests.abuse.figures import Row
from tests.abuse.keeper import POSTGRES, kept
from tests.abuse.replicas import Replicas
from tests.abuse.scene import Scene
from tests.abuse.setting import offer_models, set_scene
from tests.abuse.trial import try_attacker
from tests.conftest import migrate
from tests.tenants.factories import SECRET_KEY


@dataclass(frozen=True)
class Plan:
    """Which attackers, on how many servers, and how many seconds each, quiet and attacked."""

    names: Sequence[str]
    replicas: Sequence[int]
    seconds: float


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def a_scene(directory: Path, settings: Settings) -> AsyncIterator[Scene]:
    """Accounts and models on a migrated database."""
    database = Database(settings.database_url or "")
    try:
        await offer_models(database, directory)
        yield await set_scene(database, await Keyring.load(database, settings))
    finally:
        await database.close()


async def try_all(directory: Path, settings: Settings, plan: Plan, rows: list[Row]) -> None:
    """Every attacker on so many replicas; the limits and pools are those of a default installation.

    `rows` are added as they are known, so that a run that is broken off has them.
    """
    async with a_scene(directory, settings) as scene:
        say(record.HEAD)
        for count in plan.replicas:
            async with Replicas(settings, directory, count) as servers:
                for name in plan.names:
                    rows.append(await try_attacker(ATTACKERS[name], scene, servers, plan.seconds))
                    say(record.line(rows[-1]))


def measure(plan: Plan, rows: list[Row]) -> None:
    """On a Postgres and in a directory of its own, which end with this process; SIGTERM is as Ctrl-C."""
    directory = Path(tempfile.mkdtemp(prefix="farebox-abuse-"))
    with kept(directory), EmbeddedPostgres(directory / POSTGRES) as postgres:
        migrate(postgres.url)
        settings = Settings(
            data=str(directory), database_url=postgres.url, secret_key=SECRET_KEY, engine_threads=1
        )

        async def run() -> None:
            trying = asyncio.create_task(try_all(directory, settings, plan, rows))
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, trying.cancel)
            await trying

        asyncio.run(run())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make abuse", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="length of each stretch, quiet and attacked"
    )
    parser.add_argument("--only", nargs="+", choices=ATTACKERS, metavar="NAME", help=", ".join(ATTACKERS))
    parser.add_argument("--replicas", default="1,2", help="how many servers, for instance 1 or 1,2")
    parser.add_argument("--record", action="store_true", help=f"write {record.RECORD.name}")
    arguments = parser.parse_args()
    configure_logs("WARNING")
    disable_progress_bar()  # type: ignore[no-untyped-call]
    counts = [int(count) for count in arguments.replicas.split(",")]
    plan = Plan(arguments.only or list(ATTACKERS), counts, arguments.seconds)
    planned = len(plan.names) * len(plan.replicas)
    rows: list[Row] = []
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        measure(plan, rows)
    for row in rows:
        say(f"{row.attacker}, {row.replicas}: {record.told(row)}")
    if arguments.record and rows:
        record.RECORD.write_text(record.document(rows, planned))
    return int(len(rows) < planned or any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())

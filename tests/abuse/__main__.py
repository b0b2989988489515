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
from tests.abuse.scene import Scene, offer_models, set_scene
from tests.abuse.trial import try_attacker
from tests.conftest import migrate
from tests.tenants.factories import SECRET_KEY


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


async def try_all(
    directory: Path, settings: Settings, names: Sequence[str], replicas: Sequence[int], seconds: float
) -> list[Row]:
    """Every attacker on so many replicas; the limits and pools are those of a default installation."""
    rows: list[Row] = []
    async with a_scene(directory, settings) as scene:
        say(record.HEAD)
        for count in replicas:
            async with Replicas(settings, directory, count) as servers:
                for name in names:
                    rows.append(await try_attacker(ATTACKERS[name], scene, servers, seconds))
                    say(record.line(rows[-1]))
    return rows


async def until_told(work: asyncio.Task[list[Row]]) -> list[Row]:
    """The work's result; SIGTERM ends it as Ctrl-C does."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    return await work


def measure(names: Sequence[str], replicas: Sequence[int], seconds: float) -> list[Row]:
    """On a Postgres and in a directory of its own, which end with this process."""
    directory = Path(tempfile.mkdtemp(prefix="farebox-abuse-"))
    with kept(directory), EmbeddedPostgres(directory / POSTGRES) as postgres:
        migrate(postgres.url)
        settings = Settings(
            data=str(directory), database_url=postgres.url, secret_key=SECRET_KEY, engine_threads=1
        )

        async def run() -> list[Row]:
            trying = try_all(directory, settings, names, replicas, seconds)
            return await until_told(asyncio.create_task(trying))

        return asyncio.run(run())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make abuse", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="length of each stretch, quiet and attacked"
    )
    parser.add_argument("--only", nargs="+", choices=ATTACKERS, metavar="NAME", help=", ".join(ATTACKERS))
    parser.add_argument("--replicas", default="1,2", help="how many servers, for instance 1 or 1,2")
    parser.add_argument("--record", action="store_true", help=f"write {record.RECORD.name}")
    arguments = parser.parse_args()
    configure_logs("WARNING")
    disable_progress_bar()
    rows: list[Row] = []
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        counts = [int(count) for count in arguments.replicas.split(",")]
        rows = measure(arguments.only or list(ATTACKERS), counts, arguments.seconds)
    for row in rows:
        say(f"{row.attacker}, {row.replicas}: {record.told(row)}")
    if arguments.record and rows:
        record.RECORD.write_text(record.document(rows))
    return int(not rows or any(row.faults for row in rows))


if __name__ == "__main__":
    sys.exit(main())

"""A Postgres that may be harmed, and a tiny model with a long context."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from farebox.billing.offers import add_model
from farebox.billing.prices import set_price
from farebox.core.database import Database
from farebox.core.settings import Settings
from tests.chaos.load import MODEL
from tests.chaos.processes import Postgres, Server
from tests.chaos.record import Row, tables
from tests.chaos.stage import SEND_BUFFER_BYTES, Stage, make_server, open_stage
from tests.chaos.wire import Wire, open_wire
from tests.conftest import migrate
from tests.engine.checkpoints import build_checkpoint
from tests.tenants.factories import SECRET_KEY

CONTEXT_LENGTH = 4096

KILLS = 40

Pair = tuple[Server, Server]
Wires = tuple[Wire, Wire]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=KILLS, help="how often `make chaos` kills a server")


@pytest.fixture(scope="session")
def kills(pytestconfig: pytest.Config) -> int:
    """Where this file is found too late for an option of its own, it is the default."""
    return int(pytestconfig.getoption("--kills", KILLS))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Not the one that the other tests share: this one is stopped and hung."""
    directory = tmp_path_factory.mktemp("chaos")
    checkpoint = build_checkpoint(directory / "tiny", max_position_embeddings=CONTEXT_LENGTH)
    postgres = Postgres(directory / "postgres")
    try:
        migrate(postgres.url)
        asyncio.run(_offer(postgres.url, checkpoint))
        yield postgres
    finally:
        postgres.shut_down()


@pytest.fixture(scope="session")
def settings(postgres: Postgres) -> Settings:
    return Settings(
        base_url="https://farebox.test",
        database_url=postgres.url,
        secret_key=SECRET_KEY,
        engine_threads=1,
        default_requests_per_minute=1_000_000,
        default_tokens_per_minute=1_000_000_000,
        default_concurrent_requests=1_000,
    )


@pytest.fixture(scope="session")
async def wires(postgres: Postgres) -> AsyncIterator[Wires]:
    async with open_wire(postgres.url) as one, open_wire(postgres.url) as other:
        yield one, other


@pytest.fixture(scope="session")
async def pair(
    settings: Settings, wires: Wires, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """Two replicas, each with a wire of its own to Postgres. A start takes seconds: who harms them leaves
    them up again."""
    directory = tmp_path_factory.mktemp("pair")
    one, other = (
        make_server(msgspec.structs.replace(settings, database_url=wire.url), directory, SEND_BUFFER_BYTES)
        for wire in wires
    )
    await asyncio.gather(one.start(), other.start())
    yield one, other
    await asyncio.gather(one.close(), other.close())


@pytest.fixture(scope="session")
def rows() -> Iterator[list[Row]]:
    """What the audits of this run find; printed in the end."""
    rows: list[Row] = []
    yield rows
    print(f"\n{tables(rows)}")  # noqa: T201  the record in docs/benchmarks/chaos.md is made of this


@pytest.fixture
async def stage(postgres: Postgres, settings: Settings, tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(postgres, settings, tmp_path) as stage:
        yield stage


async def _offer(database_url: str, checkpoint: Path) -> None:
    database = Database(database_url)
    async with database.meter_transaction() as session:
        await add_model(
            session,
            model_id=MODEL,
            path=str(checkpoint),
            sha256="0" * 64,
            context_length=CONTEXT_LENGTH,
            owned_by="tests",
        )
        await set_price(
            session,
            MODEL,
            input_per_million=Decimal("1.37"),
            cached_input_per_million=Decimal("0.41"),
            output_per_million=Decimal("5.03"),
            currency="USD",
        )
    await database.close()

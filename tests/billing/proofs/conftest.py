"""A server on a database of its own, whose hours are closed as these tests like."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from decimal import Decimal

import asyncpg
import httpx
import pytest
from sqlalchemy.engine import make_url

from farebox.billing.offers import add_model
from farebox.billing.prices import set_price
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.keys.tokens import Keyring
from farebox.metering.seals.sealing import seal_hours
from tests.bench.instant import MODEL, InstantBackend
from tests.conftest import migrate
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.tenants.factories import Tenant, make_keyring, make_tenant
from tests.waiting import WAIT_SECONDS

WEIGHTS = "5a" * 32


@pytest.fixture(scope="module")
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE proofs")
    yield make_url(postgres_url).set(database="proofs").render_as_string(hide_password=False)
    await connection.execute("DROP DATABASE proofs WITH (FORCE)")
    await connection.close()


@pytest.fixture(scope="module")
def database_url(empty_url: str) -> str:
    migrate(empty_url)
    return empty_url


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.meter_transaction() as session:
        await add_model(
            session, model_id=MODEL, path="/", sha256=WEIGHTS, context_length=4096, owned_by="tests"
        )
        await set_price(
            session,
            MODEL,
            input_per_million=Decimal(1),
            cached_input_per_million=Decimal(1),
            output_per_million=Decimal(2),
            currency="USD",
        )
    yield database
    await database.close()


@pytest.fixture(scope="module")
def server(
    database: Database, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("farebox")), database_url, InstantBackend)
    yield thread.start()
    thread.stop()


@pytest.fixture(scope="module")
async def keyring(database: Database) -> Keyring:
    return await make_keyring(database)


@pytest.fixture
async def tenant(database: Database, keyring: Keyring) -> Tenant:
    return await make_tenant(database, keyring, balance=Decimal(100))


@pytest.fixture
async def http(server: RunningServer, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
        yield client


@pytest.fixture
async def stranger(
    server: RunningServer, database: Database, keyring: Keyring
) -> AsyncIterator[httpx.AsyncClient]:
    """Another tenant's client."""
    headers = {"authorization": f"Bearer {(await make_tenant(database, keyring)).api_key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
        yield client


@pytest.fixture
async def close_the_books(database_url: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Seal all that is booked by now: the clock of the chain is a day ahead, and begins anew each time."""
    later = Database(database_url, pool_size=2, clock=lambda: utc_now() + timedelta(hours=2))
    owner = await asyncpg.connect(database_url)

    async def close() -> int:
        await owner.execute("TRUNCATE usage_seal, usage_organization_seal, seal_horizon")
        return await seal_hours(later)

    yield close
    await owner.close()
    await later.close()

"""A tiny real model, a real server, a funded tenant."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI

from farebox.billing.offers import add_model
from farebox.billing.prices import set_price
from farebox.core.database import Database
from farebox.keys.tokens import Keyring
from tests.engine.checkpoints import build_checkpoint
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.tenants.factories import Tenant, make_keyring, make_tenant
from tests.waiting import WAIT_SECONDS

MODEL = "tiny"
CONTEXT_LENGTH = 2048


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=CONTEXT_LENGTH)


@pytest.fixture(scope="session")
async def offered(database: Database, checkpoint: Path) -> str:
    """The tiny model, on offer at 1, 0.50 and 2 dollars per million tokens."""
    await offer(database, MODEL, checkpoint)
    return MODEL


@pytest.fixture(scope="session")
def server(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("farebox")), database_url)
    yield thread.start()
    thread.stop()


@pytest.fixture(scope="session")
async def keyring(database: Database) -> Keyring:
    return await make_keyring(database)


@pytest.fixture
async def tenant(database: Database, keyring: Keyring) -> Tenant:
    return await make_tenant(database, keyring, balance=Decimal(100))


@pytest.fixture
async def client(server: RunningServer, tenant: Tenant) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=tenant.api_key, max_retries=0, timeout=WAIT_SECONDS
    ) as client:
        yield client


@pytest.fixture
async def http(server: RunningServer, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client with the tenant's key."""
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
        yield client


@pytest.fixture
def tenant_authorization(tenant: Tenant) -> bytes:
    """The tenant's key as a header line, for raw sockets."""
    return b"Authorization: Bearer " + tenant.api_key.encode() + b"\r\n"


async def offer(database: Database, model_id: str, checkpoint: Path) -> None:
    async with database.meter_transaction() as session:
        await add_model(
            session,
            model_id=model_id,
            path=str(checkpoint),
            sha256="0" * 64,
            context_length=CONTEXT_LENGTH,
            owned_by="tests",
        )
        await set_price(
            session,
            model_id,
            input_per_million=Decimal(1),
            cached_input_per_million=Decimal("0.5"),
            output_per_million=Decimal(2),
            currency="USD",
        )

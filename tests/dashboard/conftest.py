"""The real server with a tiny real model, and browsers that somebody is signed in with."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from farebox.billing.offers import add_model
from farebox.billing.prices import set_price
from farebox.core.database import Database
from farebox.keys.tokens import Keyring
from tests.dashboard.browsers import FormBrowser, Member, sign_in_by_cookie
from tests.dashboard.chromium import chromium as chromium
from tests.engine.checkpoints import build_checkpoint
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.tenants.factories import make_keyring, make_tenant

MODEL = "tiny-on-pages"


@pytest.fixture(scope="session")
async def offered_model(database: Database, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model at 1, 0.50 and 2 dollars per million tokens."""
    folder: Path = build_checkpoint(tmp_path_factory.mktemp("model") / MODEL, max_position_embeddings=2048)
    async with database.meter_transaction() as session:
        await add_model(
            session, model_id=MODEL, path=str(folder), sha256="0" * 64, owned_by="us", context_length=2048
        )
        await set_price(
            session,
            MODEL,
            input_per_million=Decimal(1),
            cached_input_per_million=Decimal("0.5"),
            output_per_million=Decimal(2),
            currency="USD",
        )
    return MODEL


@pytest.fixture(scope="session")
def site(
    database_url: str, offered_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("farebox")), database_url)
    yield thread.start()
    thread.stop()


@pytest.fixture(scope="session")
async def keyring(database: Database) -> Keyring:
    return await make_keyring(database)


@pytest.fixture
async def visitor(site: RunningServer) -> AsyncIterator[FormBrowser]:
    """Nobody yet."""
    async with FormBrowser(site.url) as browser:
        yield browser


@pytest.fixture
async def owner(site: RunningServer, database: Database, keyring: Keyring) -> AsyncIterator[Member]:
    """The owner of an organization with a key and ten dollars, signed in."""
    tenant = await make_tenant(database, keyring, balance=Decimal(10))
    async with FormBrowser(site.url) as browser:
        await sign_in_by_cookie(database, browser, tenant.user_id)
        yield Member(browser, tenant)

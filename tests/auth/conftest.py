"""The doors of tenants and keys, on the network's side of them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException

from farebox.auth.passwords import PasswordHasher
from farebox.auth.routes import router
from farebox.core.bodies import StrictRequest
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.error_answers import error_response
from farebox.core.errors import FareboxError
from farebox.core.exchange import Application
from farebox.core.settings import Settings
from tests.tenants.factories import SETTINGS, an_address


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """By whose clock no pause of a back-off ever ends, however long a hash takes."""
    began = utc_now()
    database = Database(database_url, clock=lambda: began)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def passwords() -> Iterator[PasswordHasher]:
    hasher = PasswordHasher()
    yield hasher
    hasher.close()


def make_doors(database: Database, passwords: PasswordHasher, settings: Settings = SETTINGS) -> Litestar:
    """The `/auth` routes as the whole application mounts them."""
    parts = {"database": database, "passwords": passwords, "settings": settings}
    return Application(
        route_handlers=[router],
        request_class=StrictRequest,
        exception_handlers={FareboxError: error_response, HTTPException: error_response},
        dependencies={name: _provided(name) for name in parts},
        state=State(parts),
        logging_config=None,
    )


def _provided(name: str) -> Provide:
    def provide(state: State) -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)


def visit(app: Any, *, address: str) -> httpx.AsyncClient:
    """A browser at `address`. It runs in the test's event loop, as the database's connections must."""
    transport = httpx.ASGITransport(app, client=(address, 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


@pytest.fixture
async def client(database: Database, passwords: PasswordHasher) -> AsyncIterator[httpx.AsyncClient]:
    async with visit(make_doors(database, passwords), address=an_address()) as client:
        yield client
